"""A file of prompts, read line by line: what stands in a line, and whether lines are told apart by their keys."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from galip.errors import InputError
from galip.generation.noise import check_seed

_PROMPT_FIELDS = ("caption", "prompt", "text")
_MAX_LINE = 1 << 20  # bytes; a longer line is not of a file of prompts
_BOM = b"\xef\xbb\xbf"


class PromptLine(NamedTuple):
    """A line that holds a prompt, as it is written there."""

    number: int
    prompt: str
    seed: int | None = None
    key: str | None = None
    extra: Mapping[str, Any] = MappingProxyType({})


def read_lines(file: BinaryIO, path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines without their ends, numbered from 1."""
    number = 0
    while line := file.readline(_MAX_LINE + 1):
        number += 1
        if len(line) > _MAX_LINE:
            raise InputError(
                f"{path}, line {number}: it has more than {_MAX_LINE:,} bytes; one prompt a line is needed"
            )
        yield number, line.removesuffix(b"\n")


def read_line(line: bytes, number: int, path: Path) -> PromptLine | None:
    """The prompt of a line and what stands beside it; None for a blank line.

    Raises:
        InputError: it is not UTF-8, or in a .jsonl file not a JSON object with a prompt.
    """
    where = f"{path}, line {number}"
    try:
        text = (line.removeprefix(_BOM) if number == 1 else line).decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: it is not UTF-8 text ({error.reason} at byte {error.start})") from None
    if not text:
        return None
    if path.suffix.lower() != ".jsonl":
        return PromptLine(number, text)
    try:
        fields = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{where}: it is not JSON ({error})") from None
    name = next((name for name in _PROMPT_FIELDS if isinstance(fields, dict) and name in fields), None)
    if name is None or not isinstance(fields[name], str):
        raise InputError(f'{where}: a JSON object with a prompt is needed, such as {{"prompt": "a red heart"}}')
    prompt, seed, label = fields.pop(name), fields.pop("seed", None), fields.pop("key", None)
    try:
        seed = None if seed is None else check_seed(seed)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    if label is not None and (isinstance(label, bool) or not isinstance(label, str | int)):
        raise InputError(f"{where}: key {label!r}: give a text or a number")
    if not _encodable([label, fields]):
        raise InputError(f"{where}: it holds halves of characters (surrogates); write it again as UTF-8")
    return PromptLine(number, prompt, seed, None if label is None else str(label), fields)


def _encodable(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


class Keys:
    """Finds lines with the same key, in eight bytes a line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._hashes = array("Q")
        self._missing = False

    def add(self, line: PromptLine) -> None:
        """Note the key of a line.

        Raises:
            InputError: some lines have one and this one has none, or the reverse.
        """
        if line.key is None:
            self._missing = True
        else:
            self._hashes.append(_hash(line.key))
        if self._missing and self._hashes:
            raise InputError(
                f"{self._path}, line {line.number}: it has {'no' if line.key is None else 'a'} key, unlike lines "
                "before it; give all lines one, or none"
            )

    def check(self) -> None:
        """Read the file again if two hashes are the same.

        Raises:
            InputError: two lines have the same key.
        """
        hashes, counts = np.unique(np.array(self._hashes, np.uint64), return_counts=True)
        twice = set(hashes[counts > 1].tolist())
        seen: dict[str, int] = {}
        if not twice:
            return
        with self._path.open("rb") as file:
            for number, text in read_lines(file, self._path):
                line = read_line(text, number, self._path)
                if line is None or line.key is None or _hash(line.key) not in twice:
                    continue
                if line.key in seen:
                    raise InputError(
                        f"{self._path}, line {number}: the key {line.key!r} is that of line {seen[line.key]} too"
                    )
                seen[line.key] = number


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
