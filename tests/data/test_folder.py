"""Plain folders of captioned pictures, in each layout, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from galip.data.folder import CaptionedFolder, read_rgb, resize_and_crop
from galip.errors import GalipError


def picture(path: Path, size: tuple[int, int] = (8, 8), colour: str = "red") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def test_text_files_beside_pictures(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "deep" / "b.jpg")
    picture(tmp_path / "uncaptioned.png")
    (tmp_path / "a.txt").write_text("a red  square\n\nsecond &amp; last\n")
    (tmp_path / "deep" / "b.txt").write_text("b")
    folder = CaptionedFolder(tmp_path)
    assert [record.captions for record in folder.records] == [("a red square", "second & last"), ("b",)]
    assert folder.skipped == {"no caption": 1}
    assert folder.captions == ["a red square", "b", "second & last"]


def test_jsonl_and_csv(tmp_path: Path) -> None:
    for name in ("jsonl", "csv"):
        picture(tmp_path / name / "a.png")
        picture(tmp_path / name / "b.png")
    rows = [{"file_name": "a.png", "text": "one"}, {"file_name": "b.png", "captions": ["two", "two", "three"]}]
    (tmp_path / "jsonl" / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    (tmp_path / "csv" / "captions.csv").write_text('file_name,caption\nb.png,two\na.png,"one, quoted"\nb.png,three\n')
    assert [r.captions for r in CaptionedFolder(tmp_path / "jsonl").records] == [("one",), ("two", "two", "three")]
    assert [r.captions for r in CaptionedFolder(tmp_path / "csv").records] == [("one, quoted",), ("two", "three")]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no captioned picture"),
        ({"metadata.jsonl": b'{"file_name": "gone.png", "text": "x"}\n'}, r"line 1: gone\.png is not in the folder"),
        ({"metadata.jsonl": b'{"text": "x"}\n'}, "line 1: not a row"),
        ({"metadata.jsonl": b"not json\n"}, "line 1: not a row"),
        ({"captions.csv": b"file,words\n"}, "must name the columns"),
        ({"a.png": b"no picture", "a.txt": b"x"}, r"a\.png: not a readable picture"),
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


def test_transparency_becomes_white_and_exif_turns(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert read_rgb(tmp_path / "clear.png").getpixel((0, 0)) == (255, 255, 255)
    turned = Image.new("RGB", (6, 3), "blue")
    exif = turned.getexif()
    exif[0x0112] = 6  # turn a quarter
    turned.save(tmp_path / "turned.jpg", exif=exif)
    assert read_rgb(tmp_path / "turned.jpg").size == (3, 6)


def test_resize_and_crop() -> None:
    wide = Image.new("RGB", (40, 20))
    wide.paste((255, 255, 255), (20, 0, 40, 20))
    assert resize_and_crop(wide, 10, 8, (0.0, 0.0)).size == (8, 8)
    assert np.asarray(resize_and_crop(wide, 10, 8, (0.0, 0.5))).mean() < 20
    assert np.asarray(resize_and_crop(wide, 10, 8, (1.0, 0.5))).mean() > 235
    assert resize_and_crop(Image.new("RGB", (3, 3)), 8, 8, (0.5, 0.5)).size == (8, 8)
