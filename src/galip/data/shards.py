"""The shard folder, the one data format inside galip: its files, and how records are found in a tar.

A shard folder holds WebDataset tars, beside each one the places of its records (so that any record is read without
going through the tar), and `index.json`, which is written last: a folder that has it is complete. Tars made elsewhere,
img2dataset's for instance, are described the same way and stay as they are.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Generic, NamedTuple, TypeVar

from galip.data.captions import TEXT_SUFFIXES, text_that_counts
from galip.data.file_types import IMAGE_TYPES, UNUSABLE_TYPES, is_litter
from galip.data.skips import NO_TEXT, TEXT_ALONE, TOO_LARGE, UNUSABLE_TYPE, Skipped, encodable
from galip.errors import GalipError

INDEX = "index.json"
FORMAT = "galip-shards-1"
RECORDS_SUFFIX = ".records.json"
MAX_IMAGE_BYTES, MAX_TEXT_BYTES = 1 << 30, 1 << 22
"""Members of a record that are larger are left out: no image and no caption is, and all of one must fit into memory."""

# WebDataset's rule: the key ends at the first dot of the file's name, folders before it belong to the key.
_NAME = re.compile(r"((?:.*/|)[^./]+)\.([^/]*)", re.DOTALL)
_META = re.compile(r"__[^/]*__($|/)")
_MAX_KEY = 4096
_BLOCK = 512

Content = TypeVar("Content")


class Place(NamedTuple):
    """Where a record lies in its tar: byte offsets and sizes of the contents of its two members."""

    key: str
    image_suffix: str
    image_offset: int
    image_size: int
    text_suffix: str
    text_offset: int
    text_size: int


@dataclass
class TarRecord(Generic[Content]):
    """Members of a tar that belong together.

    Attributes:
        key: their common name.
        members: suffix in lower case -> content, or where it is found; None for what is too large.
    """

    key: str
    members: dict[str, Content | None] = field(default_factory=dict)

    @property
    def image(self) -> tuple[str, Content] | None:
        """Suffix and content of the image."""
        suffix = next((suffix for suffix in IMAGE_TYPES if suffix in self.members), None)
        content = None if suffix is None else self.members[suffix]
        return None if suffix is None or content is None else (suffix, content)

    @property
    def texts(self) -> dict[str, Content]:
        """Content of the files of captions, by suffix."""
        found = {suffix: self.members.get(suffix) for suffix in TEXT_SUFFIXES}
        return {suffix: content for suffix, content in found.items() if content is not None}

    @property
    def left_out(self) -> Skipped | None:
        """Why this is not a captioned image; None if it is one, or has to do with neither images nor captions."""
        if self.image and self.texts:
            return None
        has_image, has_text = (any(s in self.members for s in suffixes) for suffixes in (IMAGE_TYPES, TEXT_SUFFIXES))
        if has_image and has_text:
            return Skipped(TOO_LARGE, self.key)
        if not has_image and (unusable := next((s for s in self.members if s in UNUSABLE_TYPES), None)):
            return Skipped(UNUSABLE_TYPE, f"{self.key}.{unusable}")
        return Skipped(NO_TEXT if has_image else TEXT_ALONE, self.key) if has_image or has_text else None


def split_name(name: str) -> tuple[str, str, str] | None:
    """What the name of a tar's member says, or None for a member of no record.

    Returns:
        (group, key, suffix in lower case). By WebDataset's rule the name of a group ends at the first dot of the file's
        name. The key is the same unless the suffix then has dots in it and ends like an image or a text:
        `photo.v2.jpg` of the group `photo` has the key `photo.v2`.
    """
    if _META.match(name) or is_litter(name) or not (found := _NAME.fullmatch(name)):
        return None
    group, suffix = found[1], found[2].lower()
    more, dot, last = found[2].rpartition(".")
    if dot and (last.lower() in IMAGE_TYPES or last.lower() in UNUSABLE_TYPES or last.lower() in TEXT_SUFFIXES):
        return group, f"{group}.{more}", last.lower()
    return group, group, suffix


def grouped(members: Iterable[tuple[str, Content | None]]) -> Iterator[list[TarRecord[Content]]]:
    """The records of a tar. As in WebDataset, members of one record stand next to each other.

    Args:
        members: name, and content or where it is found; None for what is too large.

    Yields:
        Records that WebDataset takes for one, because their names are the same up to the first dot.
    """
    current: str | None = None
    records: dict[str, TarRecord[Content]] = {}
    broke: Exception | None = None
    try:
        for name, content in members:
            if (parts := split_name(name)) is None:
                continue
            group, key, suffix = parts
            if group != current and records:
                yield list(records.values())
                records = {}
            current = group
            if len(key) > _MAX_KEY:
                key, content = f"{key[:80]}...", None
            key = encodable(key)
            records.setdefault(key, TarRecord(key)).members.setdefault(suffix, content)
    except Exception as error:  # the tar breaks here, and what comes last may have lost its other half
        broke = error
    if found := [record for record in records.values() if broke is None or not record.left_out]:
        yield found
    if broke is not None:
        raise broke


def scan_tar(path: Path, skipped: list[Skipped] | None = None) -> list[Place]:
    """Find the captioned images of a tar, in its order, by reading the headers (and JSON that has a text beside it).

    Args:
        path: the tar.
        skipped: gets what else has to do with images or captions, such as an image without a text.

    Raises:
        GalipError: the file cannot be read, is not an uncompressed tar, is damaged or ends before its end.
    """
    places: list[Place] = []
    try:
        with open(path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for record in chain.from_iterable(grouped(_members(file, archive))):
                if why := record.left_out:
                    if skipped is not None:
                        skipped.append(Skipped(why.reason, f"{path.name}: {why.name}"))
                elif record.image:
                    places.append(_place(record, file))
            # tarfile takes a damaged header, and a file that is cut between two members, for the end.
            file.seek(archive.offset)
            whole = file.read(_BLOCK) == bytes(_BLOCK)
    except OSError as error:
        raise GalipError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # damaged headers make tarfile fail in many ways
        raise GalipError(f"{path}: not a whole, uncompressed tar ({error}); fetch or make it again") from error
    if not whole:
        raise GalipError(f"{path}: truncated or damaged after {len(places)} records; fetch or make it again")
    return places


def _place(record: TarRecord[tarfile.TarInfo], file: BinaryIO) -> Place:
    assert record.image
    suffix, image = record.image
    texts = record.texts
    counting = next(iter(texts))
    if len(texts) > 1:
        counting = text_that_counts({suffix: _content(file, text) for suffix, text in texts.items()}) or counting
    text = texts[counting]
    return Place(record.key, suffix, image.offset_data, image.size, counting, text.offset_data, text.size)


def _content(file: BinaryIO, member: tarfile.TarInfo) -> bytes:
    file.seek(member.offset_data)
    return file.read(member.size)


def _members(file: BinaryIO, archive: tarfile.TarFile) -> Iterator[tuple[str, tarfile.TarInfo | None]]:
    """Names and headers of a tar's files; None for a header whose file is too large."""
    end = os.fstat(file.fileno()).st_size
    while (member := archive.next()) is not None:
        if member.isreg():
            if member.sparse is None and not 0 <= member.size <= end - member.offset_data:
                archive.offset = _next_header(file, member.offset_data)
                yield member.name, None
            else:
                yield member.name, member if is_small(member) else None


def is_small(member: tarfile.TarInfo) -> bool:
    """Whether a member of a tar is no larger than an image or a text of a record may be."""
    limit = MAX_TEXT_BYTES if member.name.lower().endswith(TEXT_SUFFIXES) else MAX_IMAGE_BYTES
    return 0 <= member.size <= limit and member.sparse is None


def _next_header(file: BinaryIO, offset: int) -> int:
    """Where the next member, or the tar's end, begins after a member that claims more bytes than there are."""
    file.seek(offset)
    zeros_from: int | None = None
    while block := file.read(_BLOCK):
        if any(block):
            zeros_from = None
            if block[257:262] == b"ustar":
                with suppress(tarfile.HeaderError):
                    tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
                    return offset
        elif zeros_from is None:
            zeros_from = offset
        offset += _BLOCK
    return offset if zeros_from is None else zeros_from


def tars_in(folder: Path) -> list[Path]:
    """The tars of a folder, in the order of their names."""
    return sorted(path for path in folder.glob("*.tar") if not is_litter(path.name))
