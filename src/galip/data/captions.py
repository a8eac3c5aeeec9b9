"""Captions as data sets write them, in text files, JSON fields and columns, and as training sees them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galip.errors import GalipError, InputError
from galip.generation.prompts import clean_caption

CAPTION_FIELDS = ("captions", "caption", "text", "prompt")
"""Names of fields and columns that hold captions; of several the first counts."""
TEXT_SUFFIXES = ("txt", "json")
"""Of files and members that hold captions: one caption a line, or a JSON object with one of `CAPTION_FIELDS`."""

MAX_WEIGHT = 1e12

_LINE_END = re.compile(r"\r\n|\r|\n")  # and nothing else that Unicode takes for one
_FOLDED = re.compile(r"[ \t]*[\r\n]+[ \t]*")  # and no other white space: some of it tells binary content from text


class NotUTF8Error(InputError):
    """A text is not in UTF-8."""


def captions_of(content: bytes, suffix: str) -> list[str]:
    """The captions in a text file, as they stand there.

    Args:
        content: of the file.
        suffix: one of `TEXT_SUFFIXES`.

    Raises:
        InputError: the content is not UTF-8, not JSON, or has no field of captions. It does not name the file.
    """
    if suffix == "txt":
        return _LINE_END.split(_decoded(content))
    captions = captions_in(fields_of(content))
    if captions is None:
        raise InputError(f"its JSON has none of the fields {', '.join(CAPTION_FIELDS)}")
    return captions


def captions_in(fields: Mapping[str, Any]) -> list[str] | None:
    """The captions among the fields of a record; None where there is no such field.

    Raises:
        InputError: as `caption_list`.
    """
    name = next((name for name in CAPTION_FIELDS if name in fields), None)
    return None if name is None else caption_list(fields[name])


def text_that_counts(contents: Mapping[str, bytes]) -> str | None:
    """Of a record's text files, by suffix, the suffix of the one whose captions count; None without any.

    JSON, where it holds captions: those of img2dataset's KEY.txt are cut into several by line breaks.
    """
    if "json" in contents and "txt" in contents:
        try:
            return "json" if captions_of(contents["json"], "json") else "txt"
        except InputError:
            return "txt"
    return next((suffix for suffix in TEXT_SUFFIXES if suffix in contents), None)


def fields_of(content: bytes) -> dict[str, Any]:
    """The fields of a JSON object.

    Raises:
        InputError: the content is not UTF-8 or not a JSON object. It does not name the file.
    """
    try:
        fields = json.loads(_decoded(content))
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"its text is not JSON ({error})") from error
    if not isinstance(fields, dict):
        raise InputError(
            f"its JSON is a {type(fields).__name__} and has none of the fields {', '.join(CAPTION_FIELDS)}"
        )
    return fields


def caption_list(field: object) -> list[str]:
    """A field of captions, which may be a single one, a list, or null, as a list; nulls are no captions.

    Line breaks within a caption become spaces.

    Raises:
        InputError: something in it is neither a text nor a number.
    """
    captions = []
    for caption in field if isinstance(field, list) else [field]:
        if caption is None or (isinstance(caption, float) and math.isnan(caption)):
            continue  # pandas writes NaN for what is missing
        if isinstance(caption, bool) or not isinstance(caption, str | int | float):
            raise InputError(f"a caption is a {type(caption).__name__}, not a text")
        captions.append(_FOLDED.sub(" ", str(caption)))
    return captions


def clean_captions(raw: Iterable[str]) -> tuple[str, ...]:
    """Captions as training sees them, cleaned; what is no caption after that (empty, binary) is dropped."""
    kept = []
    for caption in raw:
        try:
            kept.append(clean_caption(caption))
        except InputError:
            continue  # who reads the record deals with one that has none left
    return tuple(kept)


def weight_of(fields: Mapping[str, Any]) -> object:
    """The field `weight` as it stands there; 1 where there is none."""
    return fields.get("weight", 1)


def checked_weights(weights: Sequence[object], name_of: Callable[[int], str]) -> NDArray[np.float64]:
    """Weights of records as numbers.

    Args:
        weights: of all records, as they are written.
        name_of: what a message calls the record with a number.

    Raises:
        GalipError: one is not a finite number of 0 or more, or all are 0.
    """
    for number, weight in enumerate(weights):
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < MAX_WEIGHT:
            raise GalipError(
                f"{name_of(number)}: its weight is {repr(weight)[:40]}; give a number from 0 to {MAX_WEIGHT:g}, or "
                "leave data.weighted out"
            )
    if not any(weights):
        raise GalipError(f"{name_of(0)}: its weight, like every other, is 0; give some records a weight above 0")
    return np.array(weights, np.float64)


def _decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NotUTF8Error(f"its text is not UTF-8 ({error.reason} at byte {error.start})") from error
