"""Plain folders of captioned images, in each layout, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from galip.data.folder import CaptionedFolder
from galip.data.open import open_source
from galip.data.protocol import BrokenRecordError
from galip.errors import GalipError


def image(path: Path, size: tuple[int, int] = (8, 8), colour: str = "red") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def test_text_files_beside_images(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    image(tmp_path / "deep" / "b.jpg")
    image(tmp_path / "uncaptioned.png")
    (tmp_path / "a.txt").write_text("a red  square\n\nsecond &amp; last\n")
    (tmp_path / "deep" / "b.txt").write_text("b")
    folder = CaptionedFolder(tmp_path)
    assert [record.captions for record in folder.records] == [("a red square", "second & last"), ("b",)]
    assert folder.skipped == {"no caption": 1}
    assert folder.captions == ["a red square", "b", "second & last"]


def test_jsonl_and_csv(tmp_path: Path) -> None:
    for name in ("jsonl", "csv"):
        image(tmp_path / name / "a.png")
        image(tmp_path / name / "b.png")
    rows = [{"file_name": "a.png", "text": "one"}, {"file_name": "b.png", "captions": ["two", "two", "three"]}]
    (tmp_path / "jsonl" / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    (tmp_path / "csv" / "captions.csv").write_text('file_name,caption\nb.png,two\na.png,"one, quoted"\nb.png,three\n')
    assert [r.captions for r in CaptionedFolder(tmp_path / "jsonl").records] == [("one",), ("two", "two", "three")]
    assert [r.captions for r in CaptionedFolder(tmp_path / "csv").records] == [("one, quoted",), ("two", "three")]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no captioned image"),
        ({"metadata.jsonl": b'{"file_name": "gone.png", "text": "x"}\n'}, r"line 1: gone\.png is not in the folder"),
        ({"metadata.jsonl": b'{"text": "x"}\n'}, "line 1: not a row"),
        ({"metadata.jsonl": b"not json\n"}, "line 1: not a row"),
        ({"captions.csv": b"file,words\n"}, "must name the columns"),
        ({"a.png": b"no image", "a.txt": b"x"}, r"a\.png: not a readable image"),
        ({"a.png": b"", "a.txt": b"\xff\xfe"}, r"a\.txt: not UTF-8"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(GalipError, match=message):
        CaptionedFolder(tmp_path)


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(GalipError, match="no such folder"):
        CaptionedFolder(tmp_path / "nowhere")


def test_one_broken_image_is_no_reason_to_refuse_a_folder(tmp_path: Path) -> None:
    for name in "abc":
        image(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text(name)
    (tmp_path / "b.png").write_bytes(b"no image")
    folder = CaptionedFolder(tmp_path)
    with pytest.raises(BrokenRecordError, match=r"b\.png: not a readable image") as caught:
        folder.read(1)
    assert (caught.value.name, caught.value.shard) == (str(tmp_path / "b.png"), None) == (folder.name_of(1), None)
    assert folder.read(2)[1] == ("c",)


def test_captions_and_digest_of_a_folder(tmp_path: Path) -> None:
    for number in range(4):
        image(tmp_path / f"{number}.png")
        (tmp_path / f"{number}.txt").write_text(f"caption {number}\nsame")
    folder = CaptionedFolder(tmp_path)
    assert folder.distinct_captions(8) == ["caption 0", "caption 1", "caption 2", "caption 3", "same"]
    assert folder.distinct_captions(7) is None
    assert folder.some_captions(2) == ["caption 0", "caption 2"]
    digest = folder.digest
    assert CaptionedFolder(tmp_path).digest == digest
    (tmp_path / "1.txt").write_text("other")
    other = CaptionedFolder(tmp_path).digest
    image(tmp_path / "2.png", size=(90, 90))
    assert len({digest, other, CaptionedFolder(tmp_path).digest}) == 3
    assert isinstance(open_source(str(tmp_path)), CaptionedFolder)
