"""A plain folder of captioned images: the one reader for training, `galip data prepare folder` and `inspect`.

Captions stand in a table (`galip.data.tables`) at the top of a tree, or beside the images: `x.png` with `x.txt` (one
caption a line) or `x.json` (one of `CAPTION_FIELDS`; its captions win over those of `x.txt`). Sub-folders count, linked
ones too, each once. What macOS leaves beside files (`._x.png`, `__MACOSX`) is no part of the data.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from galip.data.captions import (
    TEXT_SUFFIXES,
    NotUTF8Error,
    captions_in,
    captions_of,
    checked_weights,
    clean_captions,
    fields_of,
    weight_of,
)
from galip.data.file_types import IMAGE_TYPES, UNUSABLE_TYPES, is_litter
from galip.data.images import decode_image
from galip.data.protocol import BrokenRecordError, spread
from galip.data.skips import BROKEN_TEXT, MISSING, NO_CAPTION, NOT_UTF8, TEXT_ALONE, UNUSABLE_TYPE, Skipped, Skips
from galip.data.tables import TABLES, read_table
from galip.errors import GalipError, InputError

OTHER_TABLE = "table that is not read, as another one counts"
OTHER_TEXT = "caption file that is not read, as a table counts"
ARCHIVE = "archive, not read"
UNREADABLE_FOLDER = "folder that cannot be read"

_ARCHIVES = frozenset({"tar", "tgz", "zip"})
_CHECKED = 32


@dataclass(slots=True)
class FolderRecord:
    """An image as a folder lists it.

    Attributes:
        name: path below the folder, with "/".
        captions: as they are written; may be none.
        fields: other values of its row in a table; of a JSON file beside it, the weight alone.
        missing: a table names it, but there is no such file.
    """

    name: str
    captions: tuple[str, ...] = ()
    fields: dict[str, Any] = field(default_factory=dict)
    missing: bool = False

    @property
    def order(self) -> list[str]:
        """By this records are sorted: folders before what follows them in the alphabet."""
        return self.name.split("/")


def read_folder(root: Path) -> tuple[list[FolderRecord], list[Skipped]]:
    """Every image of a folder with its captions, in the order of their names; and what is left out.

    Raises:
        GalipError: there is no such folder, a table cannot be read, or a row of it names a file outside the folder; the
            message names the line.
    """
    if not root.is_dir():
        raise GalipError(f"{root}: no such folder; name a folder of captioned images")
    skipped: list[Skipped] = []
    records: dict[str, FolderRecord] = {}
    ruled: list[str] = []  # folders, with "/" at their ends, whose table says what is in them
    for folder, names in _walk(root, "", skipped):
        under_table = any(folder.startswith(ruling) for ruling in ruled)
        tables = sorted((name for name in names if name.lower() in TABLES), key=lambda name: TABLES.index(name.lower()))
        if tables and not under_table:
            ruled.append(folder)
            under_table = True
            _add_rows(records, root, folder, tables.pop(0))
        skipped += [Skipped(OTHER_TABLE, folder + name) for name in tables]
        _add_files(records, skipped, root, folder, names, under_table)
    return sorted(records.values(), key=lambda record: record.order), skipped


class CaptionedFolder:
    """The captioned images of a folder, in a fixed order (by file name).

    Captions are cleaned when the folder is read. Images without one, and whatever else cannot be used, are left out and
    counted in `skipped`.

    Args:
        folder: the folder; see `read_folder`.

    Raises:
        GalipError: as `read_folder`; or there is no captioned image, or most of a few images that are tried cannot be
            read.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        records, skipped = read_folder(self.folder)
        self.skipped = Skips.of(skipped)
        self.broken_shards: dict[str, str] = {}  # a folder has none
        self.records: list[FolderRecord] = []
        for record in records:
            record.captions = clean_captions(record.captions)
            if record.missing or not record.captions:
                self.skipped.add(MISSING if record.missing else NO_CAPTION, record.name)
            else:
                self.records.append(record)
        if not self.records:
            found = "".join(f"; {line}" for line in self.skipped.described())
            raise GalipError(
                f"{self.folder}: no captioned image in it{found}. Put x.png beside x.txt, or write metadata.jsonl "
                "(file_name, captions) or captions.csv (file_name, caption)"
            )
        # A path error or a broken export shows at once instead of an hour into the run.
        self._try(random.Random(0).sample(range(len(self)), min(_CHECKED, len(self))))

    def __len__(self) -> int:
        return len(self.records)

    @property
    def captions(self) -> list[str]:
        """Every distinct caption, sorted: the list by which text vectors are computed and cached."""
        return sorted({caption for record in self.records for caption in record.captions})

    def read(self, number: int, needed: int = 0, channels: int = 3) -> tuple[Image.Image, tuple[str, ...]]:
        """Read an image and its captions: see `galip.data.protocol.ImageSource`."""
        path = self._path(number)
        return decode_image(path, str(path), needed, channels), self.records[number].captions

    def captions_at(self, number: int) -> tuple[str, ...]:
        """A record's captions: see `galip.data.protocol.ImageSource`."""
        return self.records[number].captions

    def name_of(self, number: int) -> str:
        """Path of the image."""
        return str(self._path(number))

    def weights(self) -> NDArray[np.float64]:
        """How often each record should be drawn: see `galip.data.protocol.ImageSource`."""
        return checked_weights([weight_of(record.fields) for record in self.records], self.name_of)

    def distinct_captions(self, limit: int) -> list[str] | None:
        """Every distinct caption, sorted; None where there are more than `limit`, repeated ones counted again."""
        return None if sum(len(record.captions) for record in self.records) > limit else self.captions

    def some_captions(self, count: int) -> list[str]:
        """First captions of at most `count` images that are evenly spread over the folder, each caption once."""
        return list(dict.fromkeys(self.records[number].captions[0] for number in spread(count, len(self))))

    @property
    def digest(self) -> str:
        """SHA-256 of the images' names and sizes in bytes, and of the captions."""
        found = hashlib.sha256()
        for number, record in enumerate(self.records):
            path = self._path(number)
            row = [record.name, path.stat().st_size if path.exists() else -1, record.captions]
            found.update(json.dumps(row).encode())
        return found.hexdigest()

    @property
    def state(self) -> str:
        """`digest` with the times at which the images were written."""
        paths = [self._path(number) for number in range(len(self))]
        times = [path.stat().st_mtime_ns if path.exists() else -1 for path in paths]
        return hashlib.sha256(json.dumps([self.digest, times]).encode()).hexdigest()

    def _path(self, number: int) -> Path:
        return self.folder / self.records[number].name

    def _try(self, numbers: list[int]) -> None:
        broken = []
        for number in numbers:
            try:
                self.read(number)
            except BrokenRecordError as error:
                broken.append(error)
        if 2 * len(broken) > len(numbers):
            raise broken[0]


def name_inside(root: Path, folder: str, name: str, listing: str) -> str:
    """The path below `root` of a file that a list names.

    Args:
        root: the folder that everything must lie in.
        folder: where the list stands below it, with "/" at its end unless it is `root` itself.
        name: as the list has it: relative to the list's folder, or absolute.
        listing: what a message calls the list and the place in it.

    Raises:
        GalipError: the name leads out of the folder, or nowhere.
    """
    top = os.path.abspath(root)
    if "\0" in name:
        raise GalipError(f"{listing}: the name of a file has a NUL byte in it; remove it")
    for shown in dict.fromkeys((name, name.strip(), name.strip().replace("\\", "/"))):
        path = os.path.normpath(os.path.join(top, folder, shown))
        if not _below(path, top) and os.path.isabs(shown):  # a link may be in the folder's name, or in this one
            with suppress(ValueError):  # a name that no file can have
                path = os.path.normpath(
                    os.path.join(top, os.path.relpath(os.path.realpath(path), os.path.realpath(top)))
                )
        if not _below(path, top):
            raise GalipError(f"{listing}: {name} is not in the folder; remove it, or put the file into the folder")
        if os.path.isfile(path):
            return Path(os.path.relpath(path, top)).as_posix()
    return Path(os.path.relpath(os.path.normpath(os.path.join(top, folder, name)), top)).as_posix()


def _below(path: str, top: str) -> bool:
    return path.startswith(os.path.join(top, ""))


def _walk(root: Path, folder: str, skipped: list[Skipped]) -> Iterator[tuple[str, list[str]]]:
    """(folder, names of its files) of a tree, top first; the path of a folder ends with "/", unless it is the root's.

    Folders that are links come after all others, and each only if it has not been seen under another name.
    """
    seen: set[tuple[int, int]] = set()
    coming, linked = [folder], list[str]()
    while coming or linked:
        current = coming.pop() if coming else linked.pop(0)
        try:
            about = os.stat(root / current)
            if (about.st_dev, about.st_ino) in seen:
                continue
            seen.add((about.st_dev, about.st_ino))
            entries = sorted(os.scandir(root / current), key=lambda entry: entry.name)
        except OSError:
            skipped.append(Skipped(UNREADABLE_FOLDER, current))
            continue
        files, inside = list[str](), list[str]()
        for entry in entries:
            if is_litter(entry.name):
                continue
            if entry.is_dir():
                (linked if entry.is_symlink() else inside).append(f"{current}{entry.name}/")
            elif entry.is_file():
                files.append(entry.name)
            elif _split(entry.name)[1] in IMAGE_TYPES:  # a link to a file that is not there
                skipped.append(Skipped(MISSING, current + entry.name))
        coming += reversed(inside)
        yield current, files


def _split(name: str) -> tuple[str, str]:
    """(stem, suffix in lower case) of a file's name."""
    stem, _, suffix = name.rpartition(".")
    return stem, suffix.lower()


def _add_rows(records: dict[str, FolderRecord], root: Path, folder: str, table: str) -> None:
    """The rows of a table; several of one image are its captions one after the other."""
    path = root / folder / table
    for row in read_table(path):
        name = name_inside(root, folder, row.file_name, f"{path}, line {row.line}")
        record = records.setdefault(name, FolderRecord(name, fields=row.fields))
        record.captions += tuple(row.captions)
        record.missing = not os.path.isfile(root / name)


def _add_files(
    records: dict[str, FolderRecord],
    skipped: list[Skipped],
    root: Path,
    folder: str,
    names: list[str],
    under_table: bool,
) -> None:
    """The images among the files of a folder, with the captions beside them unless a table counts."""
    images, unusable = set[str](), set[str]()
    texts: dict[str, dict[str, str]] = {}
    for name in names:
        stem, suffix = _split(name)
        if suffix in TEXT_SUFFIXES:
            texts.setdefault(stem, {})[suffix] = name
        elif suffix in IMAGE_TYPES:
            images.add(stem)
        elif suffix in UNUSABLE_TYPES:
            unusable.add(stem)
            skipped.append(Skipped(UNUSABLE_TYPE, folder + name))
        elif suffix in _ARCHIVES:
            skipped.append(Skipped(ARCHIVE, folder + name))
    for name in names:
        stem, suffix = _split(name)
        if suffix in IMAGE_TYPES and folder + name not in records:
            try:
                beside = {} if under_table else texts.get(stem, {})
                records[folder + name] = _with_texts(folder + name, {s: root / folder / t for s, t in beside.items()})
            except NotUTF8Error:
                skipped.append(Skipped(NOT_UTF8, folder + name))
            except (InputError, OSError):
                skipped.append(Skipped(BROKEN_TEXT, folder + name))
    for stem, found in texts.items():
        if "txt" in found and (stem in images) == under_table and stem not in unusable:
            skipped.append(Skipped(OTHER_TEXT if under_table else TEXT_ALONE, folder + found["txt"]))


def _with_texts(name: str, texts: dict[str, Path]) -> FolderRecord:
    """An image with the captions of the files beside it, by their suffixes.

    Raises:
        InputError: they cannot be read.
    """
    record = FolderRecord(name)
    captions = None
    if "json" in texts:
        try:
            fields = fields_of(texts["json"].read_bytes())
            captions = captions_in(fields)
            record.fields = {"weight": fields["weight"]} if "weight" in fields else {}
        except InputError:
            if "txt" not in texts:
                raise
    if not captions and "txt" in texts:
        captions = [line for line in captions_of(texts["txt"].read_bytes(), "txt") if line.strip()]
    record.captions = tuple(captions or ())
    return record
