"""`galip data prepare folder`: the layouts that training reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from data.trees import noise, put, records_of

from galip.data.folder import CaptionedFolder
from galip.data_prep.base import WritingOptions
from galip.data_prep.folder import folder
from galip.data_prep.writing import prepare
from galip.errors import GalipError

WRITING = WritingOptions()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    root = tmp_path / "in"
    for number, name in enumerate(("a.jpg", "sub/b.jpg", "c.jpg")):
        put(root / name, noise(number))
    return root


def captions_by_file(root: Path, out: Path) -> dict[str, list[str]]:
    prepare(folder(root, WRITING), out, WRITING)
    return {record.fields["file"]: record.captions for record in records_of(out / "train")}


def test_text_files(images: Path, tmp_path: Path) -> None:
    for name in ("a", "sub/b", "c"):
        put(images / f"{name}.txt", f"an image {name}\n\nsecond\n")
    found = captions_by_file(images, tmp_path / "out")
    assert found == {f"{name}.jpg": [f"an image {name}", "second"] for name in ("a", "c", "sub/b")}
    # Training sees the same in the folder itself.
    plain = CaptionedFolder(images).records
    assert {record.name: list(record.captions) for record in plain} == found


def test_metadata_jsonl_keeps_other_values(images: Path, tmp_path: Path) -> None:
    rows = [
        {"file_name": "a.jpg", "captions": ["one", "two"], "style": "flat", "tags": [1, 2]},
        {"file_name": "sub/b.jpg", "text": "single"},
        {"file_name": "gone.jpg", "captions": ["missing"]},
    ]
    put(images / "metadata.jsonl", "\n".join(map(json.dumps, rows)) + "\n\n")
    report = prepare(folder(images, WRITING), tmp_path / "out", WRITING)
    first, second = records_of(tmp_path / "out" / "train")
    assert first.fields == {"captions": ["one", "two"], "file": "a.jpg", "style": "flat", "tags": [1, 2]}
    assert (second.fields, second.content) == ({"captions": ["single"], "file": "sub/b.jpg"}, noise(1))
    assert report["skipped"] == {
        "no caption": {"count": 1, "examples": ["c.jpg"]},
        "missing file": {"count": 1, "examples": ["gone.jpg"]},
    }


def test_captions_csv(images: Path, tmp_path: Path) -> None:
    put(
        images / "captions.csv",
        '\ufefffile_name,caption\na.jpg,"one, with a comma"\nsub/b.jpg,b\na.jpg,two\nc.jpg,\n',
    )
    found = captions_by_file(images, tmp_path / "out")
    assert found == {"a.jpg": ["one, with a comma", "two"], "sub/b.jpg": ["b"]}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metadata.jsonl", '{"file_name": "a.jpg"}\n{"captions": ["b"]}\n', "metadata.jsonl, line 2"),
        ("metadata.jsonl", "[1]\n", "metadata.jsonl, line 1"),
        ("captions.csv", "name,caption\n", "captions.csv: the first line must name the columns"),
    ],
)
def test_a_table_that_cannot_be_read_is_named(images: Path, name: str, content: str, message: str) -> None:
    put(images / name, content)
    with pytest.raises(GalipError, match=message):
        folder(images, WRITING)


def test_no_folder_and_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(GalipError, match="nowhere: no such folder"):
        folder(tmp_path / "nowhere", WRITING)
    with pytest.raises(GalipError, match="no image is listed there"):
        folder(tmp_path, WRITING)
