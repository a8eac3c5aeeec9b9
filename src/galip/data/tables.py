"""Tables of captions in a folder of images: `metadata.jsonl`, `captions.csv`, `metadata.csv`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from galip.data.captions import CAPTION_FIELDS, caption_list, captions_in
from galip.errors import GalipError, InputError

TABLES = ("metadata.jsonl", "captions.csv", "metadata.csv")
"""Names of tables, in any case; of several in one folder the first counts."""

_SEPARATORS = ",;\t"
_FILE = "file_name"


class TableRow(NamedTuple):
    """One row: the number of its (first) line, the file that it names, its captions as written, and other values."""

    line: int
    file_name: str
    captions: list[str]
    fields: dict[str, Any]


def read_table(path: Path) -> Iterator[TableRow]:
    """The rows of a table.

    Raises:
        GalipError: it is not UTF-8, or a row cannot be read; the message names the line.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise GalipError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise GalipError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error
    yield from _rows_of_jsonl(path, text) if path.suffix.lower() == ".jsonl" else _rows_of_csv(path, text)


def _rows_of_jsonl(path: Path, text: str) -> Iterator[TableRow]:
    for number, line in enumerate(text.split("\n"), start=1):  # a string may hold other line separators
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            if not isinstance(fields, dict):
                raise InputError(f"a {type(fields).__name__}")
            name = fields.pop(_FILE, None)
            if not isinstance(name, str) or not name.strip():
                raise InputError(f"its {_FILE} is {repr(name)[:60]}")
            captions = captions_in(fields) or []
            fields.pop(next((name for name in CAPTION_FIELDS if name in fields), ""), None)
        except (ValueError, RecursionError) as error:
            raise GalipError(
                f'{path}, line {number}: not a row {{"{_FILE}": ..., "captions": [...]}} ({error})'
            ) from error
        yield TableRow(number, name, captions, fields)


def _rows_of_csv(path: Path, text: str) -> Iterator[TableRow]:
    separator, header = _header(path, text)
    caption = next(field for field in CAPTION_FIELDS if field in header)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True)
    first, heading = 1, True
    try:
        for row in rows:
            line, first = first, rows.line_num + 1
            if not any(value.strip() for value in row):
                continue
            if heading:
                heading = False
                continue
            if len(row) != len(header):
                raise GalipError(
                    f"{path}, line {line}: {len(row)} fields instead of {len(header)}; put a caption with a "
                    f"{separator!r} in it into quotes"
                )
            fields = dict(zip(header, row, strict=True))
            if not fields[_FILE].strip():
                raise GalipError(f"{path}, line {line}: no {_FILE}; name the image or remove the line")
            weight = {"weight": _number(fields["weight"])} if "weight" in fields else {}
            yield TableRow(line, fields[_FILE], caption_list(fields[caption]), weight)
    except csv.Error as error:
        raise GalipError(
            f"{path}, line {first}: {error}; is a quote not closed? A quote within a quoted caption is written twice"
        ) from error


def _header(path: Path, text: str) -> tuple[str, list[str]]:
    """The separator and the names of the columns, in lower case."""
    for separator in _SEPARATORS:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True)
        try:
            header = [name.strip().lower() for name in next((row for row in rows if any(map(str.strip, row))), [])]
        except csv.Error:
            continue
        if _FILE in header and any(field in header for field in CAPTION_FIELDS):
            if double := next((name for name in header if name and header.count(name) > 1), None):
                raise GalipError(f"{path}, line 1: two columns are called {double}; rename one of them")
            return separator, header
    raise GalipError(
        f"{path}: the first line must name the columns {_FILE} and {CAPTION_FIELDS[1]} (or "
        f"{', '.join(CAPTION_FIELDS[2:])}), with a comma, a semicolon or a tab between them"
    )


def _number(value: str) -> float | str:
    try:
        return float(value)
    except ValueError:
        return value
