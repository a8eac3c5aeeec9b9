"""`galip data prepare hub`: a data set of the hub, or parquet files on disk, read by the library `datasets`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from galip.data.skips import Skipped
from galip.data_prep.base import TRAIN, VALIDATION, Item, Listing, WritingOptions, key_of, modified_of, rank
from galip.errors import GalipError, InputError
from galip.utils.extras import remedy

NO_IMAGE = "no image in the row"


@dataclass(frozen=True)
class RowBlock:
    """Neighbouring rows of a split.

    Attributes:
        rows: a part of a `datasets.IterableDataset`.
        number: of the part in its split.
        split: that the rows belong to.
        image, caption: names of columns.
        share, seed: so many of the rows, chosen by a seed, go to validation.
        content: JSON that tells data sets apart.
    """

    rows: Any
    number: int
    split: str
    image: str
    caption: str
    share: float
    seed: int
    content: Any

    @property
    def expected(self) -> int | None:
        """Unknown: parts are read as they come."""
        return None

    def items(self) -> Iterator[Item | Skipped]:
        """The rows as items."""
        for row, values in enumerate(self.rows):
            key = f"{self.split}-{self.number:05d}-{row:06d}"
            image = _content(values[self.image])
            if image is None:
                yield Skipped(NO_IMAGE, key)
                continue
            # By key alone, since nobody knows how many rows there are.
            moved = rank(key, self.seed) < self.share
            split = VALIDATION if moved else self.split
            yield Item(key_of(key), _captions(values[self.caption]), split, image, key)

    def identity(self) -> Any:
        """The data set's, with the columns and this part's number."""
        return [self.content, self.split, self.number, self.image, self.caption]


def hub(
    name: str,
    writing: WritingOptions,
    image: str = "image",
    caption: str = "caption",
    splits: Sequence[str] = (),
    subset: str | None = None,
) -> Listing:
    """List a data set's parts, without downloading them: they are streamed when they are written.

    Args:
        name: a data set's id on the hub, a .parquet file, or a folder of them.
        writing: with a share for validation, which only one split can be given.
        image: the column of images: of the hub's type, bytes, or a struct of bytes and path.
        caption: the column of captions, strings or lists of strings.
        splits: which of its splits; all by default. Of a single file it is the name that the split gets.
        subset: of the data set, where it has several.

    Raises:
        InputError: options contradict each other, or a column or split is not there.
        GalipError: the library is missing, or the data set cannot be reached or read.
    """
    try:
        import datasets  # type: ignore[import-untyped]
    except ImportError as error:
        raise GalipError(f"the source hub needs the library datasets; {remedy('hub')}") from error
    files = _files(name)
    datasets.disable_progress_bars()
    try:
        if Path(name).is_file():
            loaded = datasets.load_dataset("parquet", data_files=name, split="train", streaming=True)
            parts = {(splits[0] if splits else TRAIN): loaded}
        else:
            parts = dict(datasets.load_dataset(name, subset, streaming=True))
    except Exception as error:  # files, network and the hub fail in many ways
        raise GalipError(
            f"{name}: datasets cannot read it ({type(error).__name__}: {error}); name a data set of the hub, a "
            ".parquet file or a folder of them"
        ) from error
    if unknown := set(splits) - parts.keys():
        raise InputError(f"--split {', '.join(sorted(unknown))}: {name} has {', '.join(parts)}")
    chosen = {split: part for split, part in parts.items() if not splits or split in splits}
    if writing.validation and len(chosen) > 1:
        raise InputError(f"--validation: {name} has the splits {', '.join(chosen)}; name one of them with --split")
    size = sum(file.stat().st_size for file in files) / max(1, len(files))
    blocks = []
    for split, part in chosen.items():
        _check_columns(name, part, image, caption)
        content: list[Any] = [[file.name, file.stat().st_size] for file in files] or [name, subset]
        rows = _undecoded(datasets, part, image)
        blocks += [
            RowBlock(shard, number, split, image, caption, writing.validation, writing.seed, content)
            for number, shard in enumerate(_parts(rows, size * part.num_shards, writing.shard_bytes))
        ]
    return Listing(
        "hub",
        blocks,
        {"image_column": image, "caption_column": caption, "splits": list(chosen)},
        modified=modified_of(files) if files else "",
    )


def _files(name: str) -> list[Path]:
    """The local parquet files that `name` stands for; none for an id of the hub."""
    path = Path(name)
    if path.is_dir():
        if not (found := sorted(path.rglob("*.parquet"))):
            raise GalipError(f"{path}: no .parquet file in this folder")
        return found
    if path.suffix == ".parquet" and not path.is_file():
        raise GalipError(f"{path}: no such file")
    return [path] if path.is_file() else []


def _parts(rows: Any, size: float, limit: int) -> Iterator[Any]:
    """Cut a split: by files, or where sizes are known by groups of rows that fill about a shard."""
    if size:
        rows = rows.reshard() if hasattr(rows, "reshard") else rows  # older versions cut at files only
        count = min(rows.num_shards, max(1, math.ceil(size / limit)))
    else:
        count = rows.num_shards
    for index in range(count):
        yield rows.shard(num_shards=count, index=index, contiguous=True)


def _check_columns(name: str, part: Any, image: str, caption: str) -> None:
    columns = part.column_names or list(next(iter(part), {}))
    for option, column in (("--image-column", image), ("--caption-column", caption)):
        if column not in columns:
            raise InputError(f"{option} {column}: {name} has the columns {', '.join(columns)}")


def _undecoded(datasets: Any, part: Any, image: str) -> Any:
    """The same rows with images as bytes."""
    if part.features and isinstance(part.features[image], datasets.Image):
        return part.cast_column(image, datasets.Image(decode=False))
    return part


def _content(value: Any) -> bytes | Path | None:
    if isinstance(value, dict):
        if value.get("bytes"):
            return bytes(value["bytes"])
        return Path(value["path"]) if value.get("path") else None
    return bytes(value) if isinstance(value, bytes | bytearray) and value else None


def _captions(value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(caption for caption in values if isinstance(caption, str))
