"""`galip data prepare coco`, on small trees of COCO's own layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from data.trees import noise, put, records_of

from galip.data_prep.base import WritingOptions
from galip.data_prep.coco import coco
from galip.data_prep.writing import prepare
from galip.errors import GalipError, InputError

WRITING = WritingOptions()


def part(root: Path, name: str, year: str, ids: list[int]) -> tuple[Path, Path]:
    """Images and captions of one part: five of each image, in no order, as in COCO's files."""
    prefix = f"COCO_{name}2014_" if year == "2014" else ""
    images = [
        {"license": 3, "file_name": f"{prefix}{id_:012d}.jpg", "height": 30, "width": 40, "id": id_} for id_ in ids
    ]
    annotations = [
        {"image_id": id_, "id": 1000 * number + id_, "caption": f"caption {number} of {id_}."}
        for number in (3, 0, 4, 1, 2)
        for id_ in ids
    ]
    for image in images:
        put(root / f"{name}{year}" / str(image["file_name"]), noise(int(str(image["id"]))))
    content: dict[str, Any] = {
        "info": {"year": int(year)},
        "images": images,
        "licenses": [],
        "annotations": annotations,
    }
    return root / f"{name}{year}", put(root / "annotations" / f"captions_{name}{year}.json", json.dumps(content))


@pytest.mark.parametrize("year", ["2014", "2017"])
def test_both_parts(tmp_path: Path, year: str) -> None:
    train, validation = part(tmp_path, "train", year, [30, 9, 25]), part(tmp_path, "val", year, [42])
    report = prepare(coco(*train, WRITING, *validation), tmp_path / "out", WRITING)
    found = records_of(tmp_path / "out" / "train")
    assert [record.fields["image_id"] for record in found] == [9, 25, 30]
    assert found[0].captions == [f"caption {number} of 9." for number in range(5)]
    assert found[0].key == found[0].fields["file"].removesuffix(".jpg")
    assert found[0].key == ("COCO_train2014_000000000009" if year == "2014" else "000000000009")
    assert [record.content for record in found] == [noise(number) for number in (9, 25, 30)]
    assert [record.fields["image_id"] for record in records_of(tmp_path / "out" / "validation")] == [42]
    assert {split: (sums["records"], sums["captions"]) for split, sums in report["splits"].items()} == {
        "train": (3, 15),
        "validation": (1, 5),
    }


def test_a_share_for_validation_where_cocos_own_is_not_given(tmp_path: Path) -> None:
    train = part(tmp_path, "train", "2017", list(range(1, 11)))
    writing = WritingOptions(validation=0.2)
    prepare(coco(*train, writing), tmp_path / "out", writing)
    ids = [
        {record.fields["image_id"] for record in records_of(tmp_path / "out" / split)}
        for split in ("train", "validation")
    ]
    assert len(ids[1]) == 2 and ids[0] | ids[1] == set(range(1, 11)) and not ids[0] & ids[1]


def test_missing_images_and_captions_are_counted(tmp_path: Path) -> None:
    images, annotations = part(tmp_path, "train", "2017", [1, 2, 3])
    content = json.loads(annotations.read_text())
    content["annotations"] = [row for row in content["annotations"] if row["image_id"] != 2]
    put(annotations, json.dumps(content))
    (images / "000000000003.jpg").unlink()
    report = prepare(coco(images, annotations, WRITING), tmp_path / "out", WRITING)
    assert report["skipped"] == {
        "no caption": {"count": 1, "examples": ["000000000002.jpg"]},
        "missing file": {"count": 1, "examples": ["000000000003.jpg"]},
    }


def test_captions_that_are_null_and_paths_that_lead_elsewhere(tmp_path: Path) -> None:
    images, annotations = part(tmp_path, "train", "2017", [1, 2])
    content = json.loads(annotations.read_text())
    for row in content["annotations"]:
        if row["image_id"] == 1:
            row["caption"] = None
    put(annotations, json.dumps(content))
    report = prepare(coco(images, annotations, WRITING), tmp_path / "out", WRITING)
    assert report["skipped"] == {"no caption": {"count": 1, "examples": ["000000000001.jpg"]}}
    for row in content["images"]:
        row["file_name"] = f"../{row['file_name']}"
    put(annotations, json.dumps(content))
    with pytest.raises(GalipError, match=r"annotations.*json: \.\./00000000000[12].jpg is not in the folder"):
        coco(images, annotations, WRITING)


@pytest.mark.parametrize("change", [{"id": None}, {"file_name": 3}, {"file_name": None}, {"id": [1]}])
def test_rows_of_other_types_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    images, annotations = part(tmp_path, "train", "2017", [1])
    content = json.loads(annotations.read_text())
    content["images"][0] |= change
    put(annotations, json.dumps(content))
    with pytest.raises(GalipError, match="its images are not COCO's"):
        coco(images, annotations, WRITING)


def test_another_file_of_cocos_is_refused(tmp_path: Path) -> None:
    images, annotations = part(tmp_path, "train", "2017", [1])
    instances = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"id": 1, "image_id": 1, "bbox": []}]}
    other = put(tmp_path / "instances_train2017.json", json.dumps(instances))
    with pytest.raises(GalipError, match=r"instances_train2017.json: its annotations are not COCO's.*captions_train"):
        coco(images, other, WRITING)
    with pytest.raises(GalipError, match="not JSON"):
        coco(images, images / "000000000001.jpg", WRITING)
    with pytest.raises(GalipError, match="nowhere: no such folder"):
        coco(tmp_path / "nowhere", annotations, WRITING)
    with pytest.raises(InputError, match="belong together"):
        coco(images, annotations, WRITING, validation_images=images)
    with pytest.raises(InputError, match="own validation part is given already"):
        coco(images, annotations, WritingOptions(validation=0.1), images, annotations)
