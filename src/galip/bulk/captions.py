"""A file of captions, however long, cut into blocks that are drawn independently of each other."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from galip.bulk.lines import Keys, Row, read_line, read_lines
from galip.bulk.worker import draw
from galip.data_prep.base import Item, Skipped, key_of
from galip.errors import GalipError, InputError
from galip.generation.noise import check_seed
from galip.generation.prompts import clean_caption
from galip.serving.backend import ImageFormat, Picture, Point
from galip.serving.model_worker import Order

SPLIT = "drawn"
"""The folder of the shards in OUT."""

NOT_DRAWN, NO_CAPTION = "cannot be drawn", "no caption"


@dataclass(frozen=True)
class Drawing:
    """What is drawn of each caption, and by what.

    Attributes:
        order: what draws; pictures do not depend on its engine, device, threads and batch.
        weights: name of the model's weights, as `galip.model_repo.folder.fingerprint` gives it.
        number: pictures of each caption.
        seed: of the first picture of line 1; pictures count on from it, in the order of the lines.
        truncation: multiplies the noise.
        size: side in pixels; None: the model's own.
        format, quality: of the files.
    """

    order: Order
    weights: str
    number: int = 1
    seed: int = 0
    truncation: float = 1.0
    size: int | None = None
    format: ImageFormat = "png"
    quality: int = 90

    def recorded(self) -> dict[str, Any]:
        """What the pictures depend on, as JSON."""
        return {
            "weights": self.weights,
            "number": self.number,
            "seed": self.seed,
            "truncation": self.truncation,
            "size": self.size,
            "picture_format": self.format,
        }


@dataclass(frozen=True)
class CaptionBlock:
    """Neighbouring lines of a file; a block of `galip.data_prep.base`.

    Attributes:
        path: the file.
        offset, size: where the lines stand in it, in bytes.
        line: number of the first one, from 1.
        rows: how many of them hold a caption.
        digest: SHA-256 of the lines.
        drawing: what is drawn of them.
    """

    path: Path
    offset: int
    size: int
    line: int
    rows: int
    digest: str
    drawing: Drawing = field(repr=False)

    @property
    def expected(self) -> int | None:
        """The number of pictures."""
        return self.rows * self.drawing.number

    def identity(self) -> Any:
        """The lines, and their place in the file, on which seeds depend."""
        return [self.digest, self.line]

    def items(self) -> Iterator[Item | Skipped]:
        """Draw the pictures, a batch at a time.

        Raises:
            GalipError: the file has changed since it was listed, or the model cannot be loaded.
        """
        wanted: list[tuple[Item, Picture]] = []
        for found in self._wanted():
            if isinstance(found, Skipped):
                yield found
                continue
            wanted.append(found)
            if len(wanted) == self.drawing.order.batch:
                yield from self._drawn(wanted)
                wanted = []
        if wanted:
            yield from self._drawn(wanted)

    def _drawn(self, wanted: list[tuple[Item, Picture]]) -> Iterator[Item | Skipped]:
        results = draw(self.drawing.order, [picture for _, picture in wanted])
        for (item, _), result in zip(wanted, results, strict=True):
            if isinstance(result, GalipError):
                yield Skipped(NOT_DRAWN, f"{item.name}: {result}")
            else:
                yield Item(item.key, item.captions, item.split, result.data, item.name, extra=item.extra)

    def _wanted(self) -> Iterator[tuple[Item, Picture] | Skipped]:
        """Every picture of the block: what its record will say, without the picture, and how to draw it."""
        how = self.drawing
        for row in self._rows():
            try:
                caption = clean_caption(row.caption)
            except InputError as error:
                yield Skipped(NO_CAPTION, f"line {row.line}: {error}")
                continue
            first = first_seed(row, how)
            for number in range(how.number):
                seed = first + number
                extra = {**row.extra, "seed": seed, "truncation": how.truncation, "weights": how.weights}
                item = Item(key(row, number, how), (caption,), SPLIT, b"", f"line {row.line}", extra=extra)
                yield item, Picture((Point(caption, seed),), how.truncation, how.size, how.format, how.quality)

    def _rows(self) -> Iterator[Row]:
        with self.path.open("rb") as file:
            file.seek(self.offset)
            content = file.read(self.size)
        if hashlib.sha256(content).hexdigest() != self.digest:
            raise GalipError(f"{self.path}: it has changed since this command began; run it again with the file it was")
        for number, line in enumerate(content.split(b"\n"), self.line):
            if (row := read_line(line, number, self.path)) is not None:
                yield row


def list_blocks(path: Path, drawing: Drawing, rows: int) -> list[CaptionBlock]:
    """Read a file of captions once, line by line, and cut it into blocks.

    Args:
        path: UTF-8 text with one caption a line, or, named .jsonl, a JSON object a line.
        drawing: what is drawn of each line.
        rows: captions of a block.

    Raises:
        InputError: a line is no UTF-8 or no such JSON object, has a seed that is none or would be too large, or the
            key of another line; or there is no caption at all. The message names the line.
        OSError: the file cannot be read.
    """
    blocks: list[CaptionBlock] = []
    keys = Keys(path)
    with path.open("rb") as file:
        lines = read_lines(file, path)
        while taken := _take(lines, rows, path):
            for row in taken.rows:
                check_seeds(row, drawing, path)
                keys.add(row)
            offset = blocks[-1].offset + blocks[-1].size + 1 if blocks else 0
            blocks.append(CaptionBlock(path, offset, taken.size, taken.line, len(taken.rows), taken.digest, drawing))
    keys.check()
    blocks = [block for block in blocks if block.rows]
    if not blocks:
        raise InputError(f"{path}: it holds no captions; one a line is needed")
    return blocks


class _Taken(NamedTuple):
    rows: list[Row]
    line: int
    size: int
    digest: str


def _take(lines: Iterator[tuple[int, bytes]], rows: int, path: Path) -> _Taken | None:
    """The next lines, with up to `rows` captions; blank lines after the last caption belong to the next block."""
    found: list[Row] = []
    raw: list[bytes] = []
    first = 0
    for number, line in lines:
        first = first or number
        raw.append(line)
        if (row := read_line(line, number, path)) is not None:
            found.append(row)
            if len(found) == rows:
                break
    if not raw:
        return None
    content = b"\n".join(raw)
    return _Taken(found, first, len(content), hashlib.sha256(content).hexdigest())


def first_seed(row: Row, drawing: Drawing) -> int:
    """The seed of a line's first picture."""
    return drawing.seed + (row.line - 1) * drawing.number if row.seed is None else row.seed


def check_seeds(row: Row, drawing: Drawing, path: Path) -> None:
    """Make sure that all pictures of a line have seeds.

    Raises:
        InputError: one would be too large.
    """
    try:
        check_seed(first_seed(row, drawing) + drawing.number - 1)
    except InputError as error:
        raise InputError(f"{path}, line {row.line}: {error}") from None


def key(row: Row, number: int, drawing: Drawing) -> str:
    """The key of a line's picture in its shard: the line's own key or number, and the picture's number if needed."""
    name = f"{row.line:09d}" if row.key is None else row.key
    return key_of(name if drawing.number == 1 else f"{name}-{number}")
