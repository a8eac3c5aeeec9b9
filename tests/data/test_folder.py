"""Plain folders of captioned images, in each layout, and what is wrong with them."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest
from data.tars import record, write_tar
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
    assert folder.skipped.reasons == {"no caption": {"count": 1, "examples": ["uncaptioned.png"]}}
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
        (
            {"metadata.jsonl": b'{"file_name": "gone.png", "text": "x"}\n'},
            r"no captioned image in it; missing file: 1 .gone\.png",
        ),
        ({"metadata.jsonl": b'{"text": "x"}\n'}, "line 1: not a row"),
        ({"metadata.jsonl": b"not json\n"}, "line 1: not a row"),
        ({"captions.csv": b"file,words\n"}, "must name the columns"),
        ({"a.png": b"no image", "a.txt": b"x"}, r"a\.png: not a readable image"),
        ({"a.png": b"", "a.txt": b"\xff\xfe"}, r"captions are not UTF-8: 1 .a\.png"),
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


def found(folder: Path) -> dict[str, tuple[str, ...]]:
    return {record.name: record.captions for record in CaptionedFolder(folder).records}


def left_out(folder: Path) -> dict[str, list[str]]:
    return {why: what["examples"] for why, what in CaptionedFolder(folder).skipped.reasons.items()}


def test_what_macos_leaves_behind_is_no_data(tmp_path: Path) -> None:
    for name in ("a.png", "__MACOSX/a.png", "sub/__MACOSX/b.png"):
        image(tmp_path / name)
        (tmp_path / name).with_suffix(".txt").write_text("a")
    for name in ("._a.png", "._a.txt", "._captions.csv", "._a.tar"):
        (tmp_path / name).write_bytes(b"\x00\x05\x16\x07")
    assert found(tmp_path) == {"a.png": ("a",)} and left_out(tmp_path) == {}
    assert isinstance(open_source(str(tmp_path)), CaptionedFolder)


def test_suffixes_in_capitals_and_names_with_dots(tmp_path: Path) -> None:
    for name in ("A.PNG", "photo.v1.jpg", "photo.v2.jpg", "b.png"):
        image(tmp_path / name)
    for name in ("A.TXT", "photo.v1.txt", "photo.v2.Txt"):
        (tmp_path / name).write_text(name)
    (tmp_path / "b.JSON").write_text('{"caption": "b"}')
    assert found(tmp_path) == {
        "A.PNG": ("A.TXT",),
        "b.png": ("b",),
        "photo.v1.jpg": ("photo.v1.txt",),
        "photo.v2.jpg": ("photo.v2.Txt",),
    }


def test_other_kinds_of_images_are_used_or_named(tmp_path: Path) -> None:
    for name in ("a.gif", "b.tiff", "c.tif", "d.bmp", "e.webp"):
        image(tmp_path / name)
        (tmp_path / name).with_suffix(".txt").write_text(name)
    (tmp_path / "f.jfif").write_bytes(encode("jpeg"))
    (tmp_path / "f.txt").write_text("f.jfif")
    for name in ("g.heic", "h.svg"):
        (tmp_path / name).write_bytes(b"?")
        (tmp_path / name).with_suffix(".txt").write_text(name)
    folder = CaptionedFolder(tmp_path)
    assert list(found(tmp_path)) == ["a.gif", "b.tiff", "c.tif", "d.bmp", "e.webp", "f.jfif"]
    assert {folder.read(number)[0].size for number in range(len(folder))} == {(8, 8)}
    assert left_out(tmp_path) == {"image type that cannot be read": ["g.heic", "h.svg"]}


def encode(kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, kind)
    return file.getvalue()


def test_captions_in_json_beside_images_as_img2dataset_writes_files(tmp_path: Path) -> None:
    for number in range(5):
        image(tmp_path / "00000" / f"{number}.jpg")
    texts = {
        "0.json": '{"caption": "a red\\nballoon", "url": "u", "weight": 2}',
        "1.json": '{"caption": "json"}',
        "1.txt": "cut\nin two",
        "2.json": '{"width": 9}',
        "2.txt": "text",
        "3.json": "{",
        "4.json": "{",
        "4.txt": "four",
    }
    for name, text in texts.items():
        (tmp_path / "00000" / name).write_text(text)
    (tmp_path / "00000_stats.json").write_text('{"caption": "no"}')
    assert found(tmp_path) == {
        "00000/0.jpg": ("a red balloon",),
        "00000/1.jpg": ("json",),
        "00000/2.jpg": ("text",),
        "00000/4.jpg": ("four",),
    }
    assert left_out(tmp_path) == {"captions cannot be read": ["00000/3.jpg"]}
    assert CaptionedFolder(tmp_path).weights().tolist() == [2, 1, 1, 1]


def test_what_cannot_be_used_is_counted_and_the_rest_is_read(tmp_path: Path) -> None:
    for name in "abcd":
        image(tmp_path / f"{name}.png")
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.txt").write_bytes("caf\xe9".encode("latin-1"))
    (tmp_path / "c.txt").write_bytes(b"\x00\x01")
    (tmp_path / "alone.txt").write_text("x")
    (tmp_path / "old.zip").write_bytes(b"")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert found(tmp_path) == {"a.png": ("a",)}
    assert left_out(tmp_path) == {
        "missing file": ["gone.png"],
        "archive, not read": ["old.zip"],
        "captions are not UTF-8": ["b.png"],
        "caption file without an image": ["alone.txt"],
        "no caption": ["c.png", "d.png"],
    }


def table(folder: Path, *names: str, file: str = "captions.csv") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text("file_name,caption\n" + "".join(f'"{name}",{n}\n' for n, name in enumerate(names)))


def test_paths_of_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "data"
    for name in ("a.png", "sub/b.png", "c.png", "d.png", "e.png "):
        image(root / name.strip())
    (root / "e.png").rename(root / "e.png ")
    (tmp_path / "link").symlink_to(root)
    names = ["./a.png", "sub\\b.png", str(root / "c.png"), str(tmp_path / "link" / "d.png"), "e.png ", "gone.png"]
    table(root, *names)
    monkeypatch.chdir(tmp_path)
    for folder in (root, Path("data"), Path("link")):
        assert list(found(folder)) == ["a.png", "c.png", "d.png", "e.png ", "sub/b.png"]
        assert left_out(folder) == {"missing file": ["gone.png"]}


@pytest.mark.parametrize(
    "name", ["../x.png", "sub/../../x.png", "{}/x.png", "..\\x.png", "/etc/passwd", ".", "/x\ud800.png"]
)
@pytest.mark.parametrize("file", ["metadata.jsonl", "captions.csv"])
def test_a_table_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str, file: str) -> None:
    image(tmp_path / "x.png")
    image(tmp_path / "data" / "a.png")
    name = name.format(tmp_path)
    row = json.dumps({"file_name": name, "text": "x"})
    content = row if file == "metadata.jsonl" else f"file_name,caption\n{name},x\n"
    (tmp_path / "data" / file).write_bytes(content.encode("utf-8", "replace"))
    with pytest.raises(GalipError, match=rf"{file}, line [12]: .* is not in the folder"):
        CaptionedFolder(tmp_path / "data")


def test_of_two_tables_one_counts_and_the_rest_is_said(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "sub/c.png"):
        image(tmp_path / name)
    table(tmp_path, "a.png", "sub/c.png")
    table(tmp_path, "a.png", "b.png", file="metadata.csv")
    table(tmp_path / "sub", "c.png")
    (tmp_path / "b.txt").write_text("b")
    (tmp_path / "README.txt").write_text("b")
    assert found(tmp_path) == {"a.png": ("0",), "sub/c.png": ("1",)}
    assert left_out(tmp_path) == {
        "table that is not read, as another one counts": ["metadata.csv", "sub/captions.csv"],
        "caption file that is not read, as a table counts": ["b.txt"],
        "no caption": ["b.png"],
    }


def test_a_table_in_a_sub_folder_speaks_of_that_folder(tmp_path: Path) -> None:
    for name in ("train/a.png", "train/deep/b.png", "test/c.png", "d.png"):
        image(tmp_path / name)
    table(tmp_path / "train", "a.png", "deep/b.png", file="Metadata.CSV")
    (tmp_path / "test" / "c.txt").write_text("c")
    (tmp_path / "d.txt").write_text("d")
    assert found(tmp_path) == {"d.png": ("d",), "test/c.png": ("c",), "train/a.png": ("0",), "train/deep/b.png": ("1",)}


def test_rows_of_one_image_are_its_captions(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    rows = [{"file_name": "a.png", "text": "one", "weight": 3}, {"file_name": "./a.png", "text": "two"}]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert found(tmp_path) == {"a.png": ("one", "two")}
    assert CaptionedFolder(tmp_path).weights().tolist() == [3]


def test_linked_folders_are_read_once(tmp_path: Path) -> None:
    image(tmp_path / "elsewhere" / "x" / "a.png")
    image(tmp_path / "data" / "b" / "c.png")
    for path in (tmp_path / "elsewhere" / "x" / "a", tmp_path / "data" / "b" / "c"):
        path.with_suffix(".txt").write_text("t")
    for number, target in enumerate(("elsewhere", "elsewhere/x", "data", "data/b")):
        (tmp_path / "data" / f"link{number}").symlink_to(tmp_path / target)
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "data")
    assert list(found(tmp_path / "data")) == ["b/c.png", "link0/x/a.png"]


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("a")
    for suffix in (b"png", b"txt"):
        os.rename(os.fsencode(tmp_path / "a.") + suffix, os.fsencode(tmp_path) + b"/caf\xe9." + suffix)
    (tmp_path / os.fsdecode(b"caf\xe8.png")).write_bytes(b"")
    folder = CaptionedFolder(tmp_path)
    assert folder.read(0)[1] == ("a",) and folder.name_of(0).endswith("/caf\udce9.png") and len(folder.digest) == 64
    assert folder.skipped.reasons == {"no caption": {"count": 1, "examples": ["caf\\udce8.png"]}}


def test_tars_beside_captioned_images_are_a_question(tmp_path: Path) -> None:
    write_tar(tmp_path / "backup.tar", record(0))
    image(tmp_path / "sheet.png")
    source = open_source(str(tmp_path))
    assert len(source) == 1
    assert source.skipped.reasons == {"image beside tars, not read": {"count": 1, "examples": ["sheet.png"]}}
    (tmp_path / "sheet.txt").write_text("a sheet")
    with pytest.raises(
        GalipError, match=r"holds tars .backup\.tar. and captioned images .sheet\.png.*which are meant\?"
    ):
        open_source(str(tmp_path))
    assert len(open_source(str(tmp_path / "*.tar"))) == 1


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "locked").mkdir()
    scan = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "no")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert left_out(tmp_path) == {"folder that cannot be read": ["locked/"]}
