"""Local shards with random access: any record of any tar is one seek and one read away."""

from __future__ import annotations

import hashlib
import io
import json
import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from galip.data.captions import TEXT_SUFFIXES, captions_of, checked_weights, clean_captions, fields_of, weight_of
from galip.data.file_types import IMAGE_TYPES
from galip.data.images import decode_image
from galip.data.protocol import BrokenRecordError, spread
from galip.data.shards import FORMAT, INDEX, MAX_IMAGE_BYTES, MAX_TEXT_BYTES, RECORDS_SUFFIX, Place, scan_tar
from galip.data.skips import Skipped, Skips
from galip.errors import GalipError, InputError

_Value = TypeVar("_Value", str, int)

_OPEN_FILES = 64
_MAX_COUNT = 1 << 48  # records or bytes of a shard
_BROKEN = "fetch or make it again, or remove it and index the folder anew"


@dataclass(frozen=True)
class _Shard:
    """A tar and what its index says of it; `captions` and `sha256` are unknown where it was scanned."""

    path: Path
    records: int
    size: int
    captions: int | None = None
    sha256: str | None = None


class ShardSet:
    """The records of local tars, numbered through in the order of the tars.

    Tars that an `index.json` beside them lists are trusted to be as it says, except for their sizes; others are
    scanned, a second or so for ten thousand records. A tar that is missing, truncated or unreadable is named in
    `broken_shards`. Files are opened where and when they are needed, so that a set can be handed to other processes.

    Args:
        tars: the tars, in order.

    Raises:
        GalipError: an index is damaged, or there is no record in any tar.
    """

    def __init__(self, tars: Iterable[Path]) -> None:
        self.skipped = Skips()
        self.broken_shards: dict[str, str] = {}
        self._tables: dict[int, NDArray[Any]] = {}
        self._files: OrderedDict[int, BinaryIO] = OrderedDict()
        self._process = os.getpid()
        tars = list(tars)
        listed: dict[Path, _Shard] = {}
        for folder in {tar.parent for tar in tars}:
            listed |= _listed(folder)
        self._shards: list[_Shard] = []
        for tar in tars:
            self._shards.append(listed.get(tar) or self._scanned(tar, len(self._shards)))
        for shard in self._shards:
            self._check(shard)
        self._ends = list(accumulate(shard.records for shard in self._shards))
        if not len(self):
            found = [f"{name}: {why}" for name, why in list(self.broken_shards.items())[:3]]
            found += self.skipped.described()
            where = tars[0].parent if tars else "the shards"
            raise GalipError(
                f"{where}: no captioned image in its tars"
                + (f" ({'; '.join(found)})" if found else "")
                + "; a record is KEY.jpg next to KEY.txt or KEY.json"
            )

    @classmethod
    def indexed(cls, folder: Path) -> ShardSet:
        """Every shard that the `index.json` of a folder lists.

        Raises:
            GalipError: the index is damaged, of an unknown format, or lists no record.
        """
        return cls(_listed(folder))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getstate__(self) -> dict[str, Any]:
        # What was scanned cannot be read again from a file; the rest is read when it is needed.
        scanned = {number: table for number, table in self._tables.items() if self._shards[number].sha256 is None}
        return self.__dict__ | {"_tables": scanned, "_files": OrderedDict()}

    def read(self, number: int, needed: int = 0, channels: int = 3) -> tuple[Image.Image, tuple[str, ...]]:
        """Read an image and its captions: see `galip.data.protocol.ImageSource`."""
        place, shard = self._place(number)
        name = self.name_of(number)
        captions = self.captions_at(number)
        content = self._content(shard, place.image_offset, place.image_size, name)
        return decode_image(io.BytesIO(content), name, needed, channels), captions

    def captions_at(self, number: int) -> tuple[str, ...]:
        """A record's captions: see `galip.data.protocol.ImageSource`."""
        return self._captions(*self._place(number), self.name_of(number))

    def name_of(self, number: int) -> str:
        """Path of the shard and, after a colon, the record's key."""
        place, shard = self._place(number)
        return f"{self._shards[shard].path}:{place.key}"

    def weights(self) -> NDArray[np.float64]:
        """How often each record should be drawn: see `galip.data.protocol.ImageSource`."""
        return checked_weights([self._weight(number) for number in range(len(self))], self.name_of)

    def distinct_captions(self, limit: int) -> list[str] | None:
        """Every distinct caption, sorted; None where there are more than `limit`, repeated ones counted again."""
        # Every record has one at least.
        if sum(shard.records if shard.captions is None else shard.captions for shard in self._shards) > limit:
            return None
        seen: set[str] = set()
        count = 0
        for number in range(len(self)):
            try:
                captions = self.captions_at(number)
            except BrokenRecordError:
                continue
            seen.update(captions)
            count += len(captions)
            if count > limit:
                return None
        return sorted(seen)

    def some_captions(self, count: int) -> list[str]:
        """First captions of at most `count` records that are evenly spread over the set, each caption once."""
        found: dict[str, None] = {}
        for number in spread(count, len(self)):
            try:
                found[self.captions_at(number)[0]] = None
            except BrokenRecordError:
                continue
        return list(found)

    @property
    def digest(self) -> str:
        """SHA-256 over the shards' hashes in the index; of scanned shards, over their names and sizes."""
        parts = [shard.sha256 or f"{shard.path.name} {shard.size}" for shard in self._shards]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @property
    def state(self) -> str:
        """`digest` with the times at which tars without a hash were written."""
        scanned = [shard.path for shard in self._shards if shard.sha256 is None]
        times = [path.stat().st_mtime_ns if path.exists() else -1 for path in scanned]
        return hashlib.sha256(json.dumps([self.digest, times]).encode()).hexdigest()

    # ---- where things lie

    def _scanned(self, tar: Path, number: int) -> _Shard:
        skipped: list[Skipped] = []
        try:
            places = scan_tar(tar, skipped)
        except GalipError as error:
            self.broken_shards[str(tar)] = str(error).removeprefix(f"{tar}: ")
            return _Shard(tar, 0, 0)
        self.skipped.update(Skips.of(skipped))
        self._tables[number] = _table(places)
        return _Shard(tar, len(places), tar.stat().st_size)

    def _check(self, shard: _Shard) -> None:
        """Note a shard that is not there as it should be."""
        name = str(shard.path)
        if name in self.broken_shards:
            return
        try:
            size = shard.path.stat().st_size
        except OSError as error:
            self.broken_shards[name] = f"cannot be read ({error.strerror or error}); {_BROKEN}"
            return
        if size != shard.size:
            self.broken_shards[name] = f"{size} bytes instead of {shard.size}; {_BROKEN}"

    def _place(self, number: int) -> tuple[Place, int]:
        """A record's place and the number of its shard."""
        shard = bisect_right(self._ends, number)
        if number < 0 or shard == len(self._ends):
            raise IndexError(f"record {number} of {len(self)}")
        row = number - self._ends[shard] + self._shards[shard].records
        key, image, image_offset, image_size, text, text_offset, text_size = self._places(shard)[row].tolist()
        names = key.decode(), IMAGE_TYPES[image], TEXT_SUFFIXES[text]
        return Place(names[0], names[1], image_offset, image_size, names[2], text_offset, text_size), shard

    def _places(self, shard: int) -> NDArray[Any]:
        if shard not in self._tables:
            about = self._shards[shard]
            path = _records_file(about.path)
            try:
                table = _table([Place(*row) for row in json.loads(path.read_bytes())["records"]])
            except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
                raise GalipError(f"{path}: cannot be read ({error}); index the folder anew") from error
            if len(table) != about.records:
                raise GalipError(f"{path}: {len(table)} records instead of {about.records}; index the folder anew")
            self._tables[shard] = table
        return self._tables[shard]

    # ---- what stands there

    def _captions(self, place: Place, shard: int, name: str) -> tuple[str, ...]:
        content = self._content(shard, place.text_offset, place.text_size, name)
        try:
            captions = clean_captions(captions_of(content, place.text_suffix))
        except InputError as error:
            raise BrokenRecordError(name, str(error)) from error
        if not captions:
            raise BrokenRecordError(name, "no caption")
        return captions

    def _weight(self, number: int) -> object:
        place, shard = self._place(number)
        try:
            content = self._content(shard, place.text_offset, place.text_size, place.key)
            return weight_of(fields_of(content)) if place.text_suffix == "json" else 1
        except (BrokenRecordError, InputError):
            return 1  # found broken again when it is visited

    def _content(self, shard: int, offset: int, size: int, name: str) -> bytes:
        path = str(self._shards[shard].path)
        if path not in self.broken_shards:
            try:
                file = self._file(shard)
                file.seek(offset)
                content = file.read(size)
                if len(content) == size:
                    return content
                self.broken_shards[path] = f"ends before its end; {_BROKEN}"
            except OSError as error:
                self.broken_shards[path] = f"cannot be read ({error.strerror or error}); {_BROKEN}"
        raise BrokenRecordError(name, self.broken_shards[path], shard=path)

    def _file(self, shard: int) -> BinaryIO:
        if self._process != os.getpid():  # forked: these files share their positions with the parent's
            self._files.clear()
            self._process = os.getpid()
        if shard not in self._files:
            if len(self._files) >= _OPEN_FILES:
                self._files.popitem(last=False)[1].close()
            self._files[shard] = open(self._shards[shard].path, "rb", buffering=0)  # noqa: SIM115
        self._files.move_to_end(shard)
        return self._files[shard]


def _records_file(tar: Path) -> Path:
    return tar.with_name(tar.name.removesuffix(".tar") + RECORDS_SUFFIX)


def _listed(folder: Path) -> dict[Path, _Shard]:
    """The shards in a folder's index, by path; none where there is no index."""
    path = folder / INDEX
    if not path.exists():
        return {}
    listed: dict[Path, _Shard] = {}
    try:
        index = json.loads(path.read_bytes())
        if index["format"] != FORMAT:
            raise GalipError(f"{path}: of the format {index['format']!r}; this version of galip reads {FORMAT!r}")
        for row in index["shards"]:
            tar = folder / _field(row, "file", str)
            if tar.parent != folder or tar.name in ("", ".."):
                raise ValueError(f"{row['file']} is not in the folder")
            records, size, captions = (_field(row, name, int) for name in ("records", "bytes", "captions"))
            listed[tar] = _Shard(tar, records, size, captions, _field(row, "sha256", str))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise GalipError(f"{path}: not an index of shards ({error!r}); remove it, or index the folder anew") from error
    if lost := next((file for tar in listed if not (file := _records_file(tar)).exists()), None):
        raise GalipError(f"{lost}: missing, although {INDEX} lists its shard; index the folder anew")
    return listed


def _field(row: Any, name: str, kind: type[_Value]) -> _Value:
    value = row[name]
    if type(value) is not kind or (isinstance(value, int) and not 0 <= value < _MAX_COUNT):
        raise ValueError(f"{name} is {value!r}")
    return value


def _table(places: list[Place]) -> NDArray[Any]:
    """Places packed, some 40 bytes each: a run on twelve million images holds them all in memory.

    Suffixes are numbers into IMAGE_TYPES and TEXT_SUFFIXES.

    Raises:
        ValueError, TypeError, AttributeError: a place is not one of a record.
    """
    for place in places:
        sizes = (place.image_offset, place.image_size, place.text_offset, place.text_size)
        if min(sizes) < 0 or place.image_size > MAX_IMAGE_BYTES or place.text_size > MAX_TEXT_BYTES:
            raise ValueError(f"{place.key}: offsets and sizes {sizes}")
    keys = np.array([place.key.encode() for place in places] or [b""], dtype=np.bytes_)
    fields = [
        ("key", keys.dtype),
        ("image", "i1"),
        ("image_offset", "<i8"),
        ("image_size", "<i4"),
        ("text", "i1"),
        ("text_offset", "<i8"),
        ("text_size", "<i4"),
    ]
    rows = [
        (
            place.key.encode(),
            IMAGE_TYPES.index(place.image_suffix),
            place.image_offset,
            place.image_size,
            TEXT_SUFFIXES.index(place.text_suffix),
            place.text_offset,
            place.text_size,
        )
        for place in places
    ]
    return np.array(rows, dtype=fields)
