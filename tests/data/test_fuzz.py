"""Whatever a file holds: what was written comes back, and what is damaged is a `GalipError` or named, never another."""

from __future__ import annotations

import csv
import io
import json
import re
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from data.tars import image_bytes, record, write_index, write_shards
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from galip.data.captions import captions_of, clean_captions
from galip.data.folder import read_folder
from galip.data.images import decode_image
from galip.data.open import open_source
from galip.data.protocol import BrokenRecordError
from galip.data.shards import INDEX, scan_tar
from galip.data.tables import read_table
from galip.errors import GalipError

FEW, MANY = 40, 1000


def fuzzed(**drawn: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A test of drawn values and of a folder: of a few, always the same, and with `slow` of many."""

    def wrap(body: Callable[..., None]) -> Callable[..., None]:
        @pytest.mark.parametrize("examples", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
        def test(examples: int, tmp_path: Path) -> None:
            @settings(
                max_examples=examples,
                derandomize=examples == FEW,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            )
            @given(**drawn)
            def run(**values: Any) -> None:
                body(tmp_path, **values)

            run()

        test.__doc__ = body.__doc__
        return test

    return wrap


@contextmanager
def named(what: object) -> Iterator[None]:
    """A `GalipError` may come, if it says of what; anything else may not."""
    try:
        yield
    except GalipError as error:
        if str(what) not in str(error):
            raise AssertionError(f"{what} is not named") from error


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
LINE = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), max_size=40)
NAME = st.from_regex(r"[a-z0-9_é]{1,8}(\.[a-z]{1,3})?\.png", fullmatch=True)
KEY = st.from_regex(r"[a-z]{1,3}(\.v[0-9])?", fullmatch=True)
FORMATS = st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
SEPARATORS, ENDS = st.sampled_from(",;\t"), st.sampled_from(["\n", "\r\n"])
FIELDS = st.sampled_from(["file_name", "captions", "caption", "text", "weight"]) | st.text(max_size=4)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
HOW = ["flip", "cut", "insert", "double", "zero"]
DAMAGE = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.sampled_from(HOW), st.binary(max_size=6)),
    min_size=1,
    max_size=4,
)


def damaged(content: bytes, damage: list[tuple[float, str, bytes]]) -> bytes:
    """The content with some of its bytes changed, in other lengths too."""
    for where, how, inserted in damage:
        place = int(where * len(content))
        before, after = content[:place], content[place:]
        content = {
            "flip": before + bytes(byte ^ 0x55 for byte in after[:1]) + after[1:],
            "cut": before,
            "insert": before + inserted + after,
            "double": before + after[:600] + after,
            "zero": before + bytes(len(after[:20])) + after[20:],
        }[how]
    return content


def expected(captions: list[str]) -> tuple[str, ...]:
    """What training sees of captions as they were written: line breaks in one are spaces."""
    return clean_captions(re.sub("[ \t]*[\r\n]+[ \t]*", " ", caption) for caption in captions)


@fuzzed(
    rows=st.dictionaries(NAME, TEXT, max_size=5),
    separator=SEPARATORS,
    bom=st.booleans(),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_csv_comes_back(folder: Path, rows: dict[str, str], separator: str, bom: bool, end: str) -> None:
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=separator, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([["file_name", "caption"], *rows.items()])
    path = folder / "captions.csv"
    path.write_bytes(file.getvalue().encode("utf-8-sig" if bom else "utf-8"))
    found = {row.file_name: expected(row.captions) for row in read_table(path)}
    assert found == {name: expected([caption]) for name, caption in rows.items()}


@fuzzed(rows=st.dictionaries(NAME, st.lists(TEXT, max_size=3), max_size=5), ascii_=st.booleans())
def test_json_lines_come_back(folder: Path, rows: dict[str, list[str]], ascii_: bool) -> None:
    lines = [json.dumps({"file_name": n, "captions": c}, ensure_ascii=ascii_) for n, c in rows.items()]
    path = folder / "metadata.jsonl"
    path.write_bytes("\n".join(lines).encode())
    found = {row.file_name: expected(row.captions) for row in read_table(path)}
    assert found == {name: expected(captions) for name, captions in rows.items()}


@fuzzed(lines=st.lists(LINE, max_size=5), end=st.sampled_from(["\n", "\r\n", "\r"]))
def test_lines_of_a_text_come_back(folder: Path, lines: list[str], end: str) -> None:
    assert expected(captions_of(end.join(lines).encode(), "txt")) == expected(lines)


@fuzzed(
    row=st.dictionaries(
        st.sampled_from(["file_name", "captions", "caption", "text", "weight"]) | st.text(max_size=4), VALUES
    )
)
def test_any_row_of_json_lines_is_read_or_named(folder: Path, row: dict[str, Any]) -> None:
    (folder / "metadata.jsonl").write_text(json.dumps({"file_name": "a.png"} | row) + "\n")
    with named("metadata.jsonl, line 1"):
        records, _ = read_folder(folder)
        assert all(isinstance(caption, str) for record in records for caption in record.captions)


@fuzzed(
    damage=DAMAGE,
    name=st.sampled_from(["captions.csv", "metadata.jsonl", "a.txt", "a.json"]),
)
def test_damaged_texts_are_read_or_named(folder: Path, damage: list[tuple[float, str, bytes]], name: str) -> None:
    content = {
        "captions.csv": b'file_name,caption\na.png,"one ""two"", three"\na.png,four\n',
        "metadata.jsonl": b'{"file_name": "a.png", "captions": ["one", null, "two"]}\n{"file_name": "a.png"}\n',
        "a.txt": "one\ntwo café\n".encode(),
        "a.json": b'{"captions": ["one", "two"], "weight": 2}',
    }[name]
    for other in folder.iterdir():
        other.unlink()
    (folder / "a.png").write_bytes(image_bytes(1))
    (folder / name).write_bytes(damaged(content, damage))
    with named(folder):
        source = open_source(str(folder))
        assert source.read(0)[1]
        source.weights()


@fuzzed(
    captions=st.dictionaries(KEY, st.lists(LINE, min_size=1, max_size=3), max_size=4),
    kind=st.sampled_from(["txt", "json"]),
    style=FORMATS,
)
def test_records_of_a_tar_come_back(folder: Path, captions: dict[str, list[str]], kind: str, style: int) -> None:
    tar = folder / "a.tar"
    with tarfile.open(tar, "w", format=style) as archive:
        for key, texts in sorted(captions.items()):
            content = json.dumps({"captions": texts}) if kind == "json" else "\n".join(texts)
            for name, data in ((f"{key}.png", image_bytes(1)), (f"{key}.{kind}", content.encode())):
                about = tarfile.TarInfo(name)
                about.size = len(data)
                archive.addfile(about, io.BytesIO(data))
    usable = {key: expected(texts) for key, texts in captions.items() if expected(texts)}
    assert {place.key for place in scan_tar(tar)} == captions.keys()
    streamed = open_source(f"file:{tar}")
    broken: list[BrokenRecordError] = []
    found = {r.name.rpartition(":")[2]: r.captions for r in streamed.epoch("0", 0, note=broken.append)}
    assert found == usable and len(broken) == len(captions) - len(usable)
    if captions:
        source = open_source(str(tar))
        read = {source.name_of(n).rpartition(":")[2]: n for n in range(len(source))}
        assert {key: source.captions_at(read[key]) for key in usable} == usable


@fuzzed(damage=DAMAGE, style=FORMATS)
def test_damaged_tars_are_read_or_named(folder: Path, damage: list[tuple[float, str, bytes]], style: int) -> None:
    tar = folder / "a.tar"
    with tarfile.open(tar, "w", format=style) as archive:
        for name, data in [member for number in range(3) for member in record(number)] + [("é" * 40 + ".png", b"x")]:
            about = tarfile.TarInfo(name)
            about.size = len(data)
            archive.addfile(about, io.BytesIO(data))
    tar.write_bytes(damaged(tar.read_bytes(), damage))
    with named(folder):
        read_all(open_source(str(tar)))
    broken: list[BrokenRecordError] = []
    for found in open_source(f"file:{tar}").epoch("0", 0, note=broken.append):
        assert found.captions


def read_all(source: Any) -> None:
    """Every record, or what is wrong with it."""
    for number in range(len(source)):
        with suppress(BrokenRecordError):
            image, captions = source.read(number)
            assert image.mode == "RGB" and captions
    source.distinct_captions(1000)
    with named("weight"):
        source.weights()


@fuzzed(
    damage=DAMAGE,
    kind=st.sampled_from("png jpeg webp gif tiff bmp".split()),
    mode=st.sampled_from(["RGB", "RGBA", "L", "P", "CMYK"]),
    channels=st.sampled_from([3, 4]),
    needed=st.sampled_from([0, 4]),
)
def test_damaged_images_are_broken_records(
    folder: Path, damage: list[tuple[float, str, bytes]], kind: str, mode: str, channels: int, needed: int
) -> None:
    file = io.BytesIO()
    try:
        Image.effect_noise((16, 12), 90).convert(mode).save(file, kind)
    except (OSError, ValueError):  # this format has no such pixels
        return
    with named("the name: not a readable image ("):
        shown = decode_image(io.BytesIO(damaged(file.getvalue(), damage)), "the name", needed, channels)
        assert shown.mode == {3: "RGB", 4: "RGBA"}[channels] and min(shown.size) > 0


@fuzzed(
    name=st.sampled_from([INDEX, "shard-00000.records.json"]),
    place=st.integers(0, 6),
    value=VALUES | st.sampled_from([-1, 1 << 40, 1 << 70, "../x.tar", "/etc/passwd", ""]),
    damage=st.none() | DAMAGE,
)
def test_damaged_indices_are_named(
    folder: Path, name: str, place: int, value: Any, damage: list[tuple[float, str, bytes]] | None
) -> None:
    write_shards(folder, [2])
    write_index(folder)
    path = folder / name
    if damage is not None:
        path.write_bytes(damaged(path.read_bytes(), damage))
    else:
        content = json.loads(path.read_text())
        row = (content["shards"] if name == INDEX else content["records"])[0]
        if isinstance(row, dict):
            row[list(row)[place % len(row)]] = value
        else:
            row[place % len(row)] = value
        path.write_text(json.dumps(content))
    with named(folder):
        read_all(open_source(str(folder)))
