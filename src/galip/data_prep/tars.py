"""`galip data prepare cc3m` and `cc12m`: the tars that img2dataset made of Conceptual Captions' lists of addresses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from galip.data.captions import captions_of
from galip.data.shards import scan_tar, tars_in
from galip.data.skips import BROKEN_TEXT, Skipped
from galip.data_prep.base import TRAIN, VALIDATION, Item, Listing, WritingOptions, choose, key_of, modified_of
from galip.data_prep.encoding import ImageOptions
from galip.errors import GalipError, InputError

BROKEN_TAR = "unreadable tar"


@dataclass(frozen=True)
class TarBlock:
    """Whole tars, one after the other."""

    tars: tuple[Path, ...]
    split: str

    @property
    def expected(self) -> int | None:
        """The images that img2dataset's own statistics promise."""
        counts = [_successes(tar) for tar in self.tars]
        return None if None in counts else sum(filter(None, counts))

    def items(self) -> Iterator[Item | Skipped]:
        """The records in the order of the tars, contents read; a broken tar is left out as a whole."""
        for tar in self.tars:
            skipped: list[Skipped] = []
            try:
                places = scan_tar(tar, skipped)
            except GalipError:
                yield Skipped(BROKEN_TAR, tar.name)
                continue
            yield from skipped
            with tar.open("rb") as file:
                for place in places:
                    name = f"{tar.name}: {place.key}"
                    file.seek(place.text_offset)
                    try:
                        captions = tuple(captions_of(file.read(place.text_size), place.text_suffix))
                    except InputError:
                        yield Skipped(BROKEN_TEXT, name)
                        continue
                    file.seek(place.image_offset)
                    yield Item(
                        key=key_of(f"{tar.stem}-{place.key}"),
                        captions=captions,
                        split=self.split,
                        image=file.read(place.image_size),
                        name=name,
                        extra={"tar": tar.name, "source_id": place.key},
                    )

    def identity(self) -> Any:
        """Names and sizes of the tars."""
        return [[tar.name, tar.stat().st_size, self.split] for tar in self.tars]


def tars(
    name: str, root: Path, writing: WritingOptions, in_place: bool = False, validation_root: Path | None = None
) -> Listing:
    """List the tars of img2dataset's output folder: 00000.tar, 00001.tar, ... with KEY.jpg, KEY.txt, KEY.json.

    Args:
        name: of the source, "cc3m" or "cc12m".
        root: the folder.
        writing: with a share for validation, so much of the tars, at least one, goes there: whole ones, since
            img2dataset puts neighbours of its list into one tar.
        in_place: one block for each tar, to be described instead of packed anew.
        validation_root: the output folder of the list for validation, where there is one (CC3M has).

    Raises:
        InputError: options contradict each other.
        GalipError: a folder is not there, holds no tars, or too few to give some to validation.
    """
    found = [(tar, TRAIN) for tar in _tars_in(root)]
    modified = modified_of(tar for tar, _ in found)
    if in_place:
        if validation_root or writing != WritingOptions(images=ImageOptions(min_side=writing.images.min_side)):
            raise InputError(
                "--in-place leaves the tars as they are: of the options for shards, splits and images, only "
                "--min-side can be given with it"
            )
        return Listing(name, [TarBlock((tar,), split) for tar, split in found], {"in_place": True}, modified=modified)
    if validation_root:
        if writing.validation:
            raise InputError("--validation: --validation-dir is given already; leave one of them out")
        found += [(tar, VALIDATION) for tar in _tars_in(validation_root)]
    elif writing.validation:
        if len(found) < 2:
            raise GalipError(f"{root}: there is one tar only, so none can be left for validation")
        chosen = choose((tar.name for tar, _ in found), writing.validation, writing.seed)
        found = [(tar, VALIDATION if tar.name in chosen else TRAIN) for tar, _ in found]
        found.sort(key=lambda pair: (pair[1], pair[0]))
    return Listing(name, list(_packed(found, writing.shard_bytes)), modified=modified_of(tar for tar, _ in found))


def _tars_in(root: Path) -> list[Path]:
    if not root.is_dir():
        raise GalipError(f"{root}: no such folder; name img2dataset's output folder")
    found = tars_in(root)
    if not found:
        raise GalipError(f"{root}: no .tar in it; run img2dataset with --output_format webdataset, see docs/data.md")
    return found


def _packed(found: list[tuple[Path, str]], limit: int) -> Iterator[TarBlock]:
    """Neighbours of one split that together fill a shard, or a single tar that is larger."""
    block: list[Path] = []
    filled, current = 0, ""
    for tar, split in found:
        size = tar.stat().st_size
        if block and (split != current or filled + size > limit):
            yield TarBlock(tuple(block), current)
            block, filled = [], 0
        block.append(tar)
        filled, current = filled + size, split
    yield TarBlock(tuple(block), current)


def _successes(tar: Path) -> int | None:
    try:
        return int(json.loads(tar.with_name(f"{tar.stem}_stats.json").read_text(encoding="utf-8"))["successes"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # it is for the progress bar only
