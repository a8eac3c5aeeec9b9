"""`galip data prepare coco`: MS COCO's caption files of 2014 and 2017, and its folders of images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from galip.data.folder import name_inside
from galip.data.skips import encodable
from galip.data_prep.base import TRAIN, VALIDATION, Item, Listing, WritingOptions, key_of, listed
from galip.errors import GalipError, InputError

_FIELDS: dict[str, dict[str, Any]] = {
    "images": {"id": int | str, "file_name": str},
    "annotations": {"id": int | str, "image_id": int | str, "caption": str | None},
}


def coco(
    images: Path,
    annotations: Path,
    writing: WritingOptions,
    validation_images: Path | None = None,
    validation_annotations: Path | None = None,
) -> Listing:
    """List COCO's images with all captions that each has (five, for some six or seven).

    Args:
        images: the folder of the training images, `train2014` or `train2017`.
        annotations: their `captions_train2014.json` or `captions_train2017.json`.
        writing: with both following arguments left out, its share for validation is taken from the training images.
        validation_images, validation_annotations: the same of COCO's own validation part.

    Raises:
        InputError: only one of the two for validation is given, or they and a share.
        GalipError: a file or folder is not there, or is something else.
    """
    if (validation_images is None) != (validation_annotations is None):
        raise InputError("--validation-images and --validation-annotations belong together: give both or neither")
    if validation_images and writing.validation:
        raise InputError("--validation: COCO's own validation part is given already; leave one of them out")
    items = _items(images, annotations, TRAIN)
    if validation_images and validation_annotations:
        items += _items(validation_images, validation_annotations, VALIDATION)
    return listed("coco", items, writing)


def _items(images: Path, annotations: Path, split: str) -> list[Item]:
    if not images.is_dir():
        raise GalipError(f"{images}: no such folder; name the folder that holds COCO's images, e.g. train2014")
    content = _read(annotations)
    captions: dict[int | str, list[tuple[tuple[bool, int | str], str]]] = {}
    for row in content["annotations"]:
        captions.setdefault(row["image_id"], []).append((_by_id(row["id"]), row["caption"] or ""))
    return [
        Item(
            key=key_of(Path(row["file_name"]).stem),
            captions=tuple(caption for _, caption in sorted(captions.get(row["id"], ()))),
            split=split,
            image=images / name_inside(images, "", row["file_name"], str(annotations)),
            name=encodable(row["file_name"]),
            extra={"image_id": row["id"], "file": encodable(row["file_name"])},
        )
        for row in sorted(content["images"], key=lambda row: _by_id(row["id"]))
    ]


def _read(annotations: Path) -> dict[str, Any]:
    remedy = "COCO's captions are in captions_train2014.json, captions_val2014.json and the same of 2017"
    try:
        content = json.loads(annotations.read_text(encoding="utf-8"))
    except OSError as error:
        raise GalipError(f"{annotations}: cannot be read ({error.strerror or error}); {remedy}") from error
    except (ValueError, RecursionError) as error:
        raise GalipError(f"{annotations}: not JSON ({error}); {remedy}") from error
    for part, fields in _FIELDS.items():
        rows = content.get(part) if isinstance(content, dict) else None
        if not isinstance(rows, list) or not all(_is_row(row, fields) for row in rows):
            raise GalipError(f"{annotations}: its {part} are not COCO's ({', '.join(sorted(fields))}); {remedy}")
    return dict(content)


def _by_id(number: int | str) -> tuple[bool, int | str]:
    """By this rows are sorted: numbers before texts."""
    return isinstance(number, str), number


def _is_row(row: Any, fields: dict[str, Any]) -> bool:
    return isinstance(row, dict) and all(name in row and isinstance(row[name], kind) for name, kind in fields.items())
