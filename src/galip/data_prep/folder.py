"""`galip data prepare folder`: a plain folder of captioned images, in any layout that training reads.

Unlike training, which stops at a listed image that is not there, this counts it and goes on.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from galip.data.folder import SUFFIXES
from galip.data_prep.base import TRAIN, Item, Listing, Skipped, WritingOptions, key_of, listed, read_text
from galip.data_prep.texts import caption_lines
from galip.errors import GalipError

NO_IMAGE = "caption file without an image"
_CAPTIONS = ("captions", "text", "caption")


def folder(root: Path, writing: WritingOptions) -> Listing:
    """List a folder: `metadata.jsonl`, else `captions.csv`, else `x.png` beside `x.txt`; sub-folders count.

    Other values of a row of `metadata.jsonl` go into the records. Images that no row names have no caption.

    Args:
        root: the folder.
        writing: gives the share for validation.

    Raises:
        GalipError: there is no such folder, no image in it, or a row cannot be read; the message names it.
    """
    if not root.is_dir():
        raise GalipError(f"{root}: no such folder; name a folder of captioned images")
    images = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    skipped: list[Skipped] = []
    if (table := root / "metadata.jsonl").exists():
        rows = dict(_from_jsonl(table))
    elif (table := root / "captions.csv").exists():
        rows = dict(_from_csv(table))
    else:
        rows, skipped = _from_texts(root, images)
    left_out = {skip.name for skip in skipped}
    for path in images:
        if (name := path.relative_to(root).as_posix()) not in left_out:
            rows.setdefault(name, ((), {}))
    items = [
        Item(key_of(name), captions, TRAIN, root / name, name, extra={"file": name} | extra)
        for name, (captions, extra) in sorted(rows.items())
    ]
    return listed("folder", items, writing, skipped=skipped)


Row = tuple[tuple[str, ...], dict[str, Any]]


def _from_texts(root: Path, images: list[Path]) -> tuple[dict[str, Row], list[Skipped]]:
    rows: dict[str, Row] = {}
    skipped = []
    for path in images:
        name = path.relative_to(root).as_posix()
        captions = caption_lines(path.with_suffix(".txt"), name)
        if isinstance(captions, Skipped):
            skipped.append(captions)
        else:
            rows[name] = (captions, {})
    stems = {path.with_suffix("") for path in images}
    alone = sorted(path for path in root.rglob("*.txt") if path.with_suffix("") not in stems)
    return rows, skipped + [Skipped(NO_IMAGE, path.relative_to(root).as_posix()) for path in alone]


def _from_jsonl(table: Path) -> Iterator[tuple[str, Row]]:
    rows: dict[str, tuple[list[str], dict[str, Any]]] = {}
    for number, line in enumerate(read_text(table).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = dict(json.loads(line))
            name = Path(str(row.pop("file_name"))).as_posix()
        except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise GalipError(
                f'{table}, line {number}: not a row {{"file_name": ..., "captions": [...]}} ({error})'
            ) from error
        values = [row.pop(field) for field in _CAPTIONS if field in row][:1]
        captions, extra = rows.setdefault(name, ([], row))
        for value in values:
            captions += [str(caption) for caption in value] if isinstance(value, list) else [str(value)]
    for name, (captions, extra) in rows.items():
        yield name, (tuple(captions), extra)


def _from_csv(table: Path) -> Iterator[tuple[str, Row]]:
    rows = csv.DictReader(read_text(table).splitlines())
    if not {"file_name", "caption"} <= set(rows.fieldnames or ()):
        raise GalipError(f"{table}: the first line must name the columns file_name and caption")
    by_image: dict[str, list[str]] = {}
    for row in rows:
        by_image.setdefault(Path(row["file_name"]).as_posix(), []).append(row["caption"] or "")
    for name, captions in by_image.items():
        yield name, (tuple(captions), {})
