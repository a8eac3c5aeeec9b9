"""The shard folder, the one data format inside galip: its files, and how records are found in a tar.

A shard folder holds WebDataset tars, beside each one the places of its records (so that any record is read without
going through the tar), and `index.json`, which is written last: a folder that has it is complete. Tars made elsewhere,
img2dataset's for instance, are described the same way and stay as they are.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from galip.errors import GalipError, InputError
from galip.generation.prompts import clean_caption

INDEX = "index.json"
FORMAT = "galip-shards-1"
RECORDS_SUFFIX = ".records.json"
IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp")
# Where a record has both, the first one's captions count: img2dataset's KEY.json is metadata beside its KEY.txt.
TEXT_SUFFIXES = ("txt", "json")

# WebDataset's rule: the key ends at the first dot of the file's name, folders before it belong to the key.
_NAME = re.compile(r"((?:.*/|)[^./]+)\.([^/]*)", re.DOTALL)
_META = re.compile(r"__[^/]*__($|/)")
_BLOCK = 512
_MAX_WEIGHT = 1e12


class Place(NamedTuple):
    """Where a record lies in its tar: byte offsets and sizes of the contents of its two members."""

    key: str
    image_suffix: str
    image_offset: int
    image_size: int
    text_suffix: str
    text_offset: int
    text_size: int


def split_name(name: str) -> tuple[str, str] | None:
    """(key, lower-case suffix) of a tar member's name by WebDataset's rule, or None for a member of no record."""
    if _META.match(name) or not (found := _NAME.fullmatch(name)):
        return None
    return found[1], found[2].lower()


def scan_tar(path: Path) -> list[Place]:
    """Find the records of a tar, in its order, by reading the headers alone.

    As in WebDataset, members of one record stand next to each other. Members without a partner (an image without text,
    a text without image) are left out.

    Raises:
        GalipError: the file cannot be read, is no uncompressed tar, is damaged or ends before its end.
    """
    groups: list[tuple[str, dict[str, tarfile.TarInfo]]] = []
    try:
        with open(path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                if not member.isreg() or not (parts := split_name(member.name)):
                    continue
                key, suffix = parts
                if not groups or groups[-1][0] != key:
                    groups.append((key, {}))
                groups[-1][1].setdefault(suffix, member)
            # tarfile takes a damaged header, and a file that is cut between two members, for the end.
            file.seek(archive.offset)
            whole = file.read(_BLOCK) == bytes(_BLOCK)
    except OSError as error:
        raise GalipError(f"{path}: cannot be read ({error.strerror or error})") from error
    except tarfile.TarError as error:
        raise GalipError(f"{path}: no whole, uncompressed tar ({error}); fetch or make it again") from error
    if not whole:
        raise GalipError(f"{path}: truncated or damaged after {len(groups)} records; fetch or make it again")
    return [place for key, members in groups if (place := _place(key, members))]


def _place(key: str, members: dict[str, tarfile.TarInfo]) -> Place | None:
    image = next((suffix for suffix in IMAGE_SUFFIXES if suffix in members), None)
    text = next((suffix for suffix in TEXT_SUFFIXES if suffix in members), None)
    if image is None or text is None:
        return None
    pixels, words = members[image], members[text]
    return Place(key, image, pixels.offset_data, pixels.size, text, words.offset_data, words.size)


def captions_of(content: bytes, suffix: str) -> list[str]:
    """The captions in a record's text member, as they stand there.

    Args:
        content: of the member.
        suffix: "txt": its lines are the captions; "json": its "captions", or else "caption" or "text", which may be
            a single one.

    Raises:
        InputError: the content is not UTF-8, not JSON, or holds no field of captions. It does not name the record.
    """
    try:
        text = content.decode("utf-8")
        if suffix == "txt":
            return text.splitlines()
        fields = json.loads(text)
    except UnicodeDecodeError as error:
        raise InputError(f"its text is not UTF-8 ({error.reason} at byte {error.start})") from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"its text is not JSON ({error})") from error
    for name in ("captions", "caption", "text"):
        if isinstance(fields, dict) and name in fields:
            return caption_list(fields[name])
    raise InputError("its JSON has none of the fields captions, caption, text")


def caption_list(field: object) -> list[str]:
    """A field of captions, which may be a single one, a list, or null, as a list."""
    return [str(caption) for caption in (field if isinstance(field, list) else [field]) if caption is not None]


def weight_of(content: bytes, suffix: str) -> object:
    """The field `weight` of a record's text member, as it stands there; 1 where there is none or it cannot be read."""
    try:
        fields = json.loads(content) if suffix == "json" else None
    except (ValueError, RecursionError):
        return 1
    return fields.get("weight", 1) if isinstance(fields, dict) else 1


def checked_weights(weights: Sequence[object], name_of: Callable[[int], str]) -> NDArray[np.float64]:
    """Weights of records as numbers.

    Args:
        weights: of all records, as they are written.
        name_of: what a message calls the record with a number.

    Raises:
        GalipError: one is not a finite number of 0 or more, or all are 0.
    """
    for number, weight in enumerate(weights):
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < _MAX_WEIGHT:
            raise GalipError(
                f"{name_of(number)}: its weight is {str(weight)[:40]!r}; give a number from 0 to {_MAX_WEIGHT:g}, or "
                "leave data.weighted out"
            )
    if not any(weights):
        raise GalipError(f"{name_of(0)}: its weight, like every other, is 0; give some records a weight above 0")
    return np.array(weights, np.float64)


def clean_captions(raw: Iterable[str]) -> tuple[str, ...]:
    """Captions as training sees them, cleaned; what is no caption after that (empty, binary) is dropped."""
    kept = []
    for caption in raw:
        try:
            kept.append(clean_caption(caption))
        except InputError:
            continue  # who reads the record deals with one that has none left
    return tuple(kept)
