"""`galip data inspect`: counts, sizes, words, what is broken, the contact sheet."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from data.tars import write_tar
from data.trees import captioned, encoded, noise, put
from PIL import Image

from galip.data.shards import INDEX, RECORDS_SUFFIX
from galip.data_prep.base import WritingOptions
from galip.data_prep.folder import folder
from galip.data_prep.inspect import Facts, described, inspect, write_sheet
from galip.data_prep.writing import prepare
from galip.errors import GalipError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four images; one has two captions."""
    root = tmp_path / "in"
    for number, size in enumerate(((300, 256), (300, 255), (100, 400), (512, 512))):
        put(root / f"{number}.png", encoded(Image.new("RGB", size, (number, 0, 0))))
        put(root / f"{number}.txt", "A red bird, a tree's leaf\n")
    put(root / "0.txt", "A red bird, a tree's leaf\nRED\n")
    return root


def prepared(root: Path, out: Path, shard_mb: float = 100, validation: float = 0.0) -> Path:
    writing = WritingOptions(shard_mb, validation)
    prepare(folder(root, writing), out, writing)
    return out


EXPECTED = {
    "pictures": 4,
    "captions": 5,
    "width": {"min": 100, "median": 300, "max": 512},
    "height": {"min": 255, "median": 256, "max": 512},
    "shorter side": {"min": 100, "median": 255, "max": 512},
    "share with a shorter side below 256": 0.5,
    "captions per picture": {"min": 1, "median": 1, "max": 2},
    "words per caption": {"min": 1, "median": 6, "max": 6},
    "most frequent words": {"red": 5, "bird": 4, "leaf": 4, "tree's": 4},
    "shards damaged": {},
    "broken records": [],
    "left out": {},
}


def test_a_plain_folder_and_its_shards_are_the_same(root: Path, tmp_path: Path) -> None:
    plain = inspect(root)
    assert {name: facts.as_json() for name, facts in plain.items()} == {"in": EXPECTED | {"shards verified": 0}}
    out = prepared(root, tmp_path / "out", 0.011)
    shards = len(list((out / "train").glob("*.tar")))
    assert shards > 1
    expected = {"train": EXPECTED | {"shards verified": shards}}
    assert {name: facts.as_json() for name, facts in inspect(out).items()} == expected
    assert {name: facts.as_json() for name, facts in inspect(out / "train").items()} == expected
    # Without an index the tars are scanned.
    for path in [out / "train" / INDEX, *(out / "train").glob(f"*{RECORDS_SUFFIX}")]:
        path.unlink()
    assert inspect(out / "train")["train"].as_json() == EXPECTED | {"shards verified": 0}


def test_splits_are_told_apart(tmp_path: Path) -> None:
    out = prepared(captioned(tmp_path / "in", 10), tmp_path / "out", validation=0.3)
    found = inspect(out)
    assert {name: facts.images for name, facts in found.items()} == {"train": 7, "validation": 3}
    lines = list(described(found))
    assert "train: 7 images, 7 captions" in lines and "validation: 3 images, 3 captions" in lines


def test_broken_records_of_a_folder_are_listed_in_order(root: Path) -> None:
    for number in range(500, 800):
        put(root / f"z{number}.jpg", b"nothing")
        put(root / f"z{number}.txt", "nothing")
    put(root / "z600.txt", "  ")
    put(root / "alone.txt", "no image")
    (alone, *others) = inspect(root, workers=2)["in"].broken
    assert alone == "alone.txt: caption file without an image"
    assert others[100] == "z600.jpg: no caption"
    assert others[299].startswith("z799.jpg: not a readable image")
    assert [line.partition(".")[0] for line in others] == [f"z{number}" for number in range(500, 800)]
    lines = list(described(inspect(root)))
    assert "  broken records: 301" in lines and lines[-1] == "    ... (--json lists them all)"


def test_damage_to_shards_is_found(tmp_path: Path) -> None:
    out = prepared(captioned(tmp_path / "in", 12), tmp_path / "out", 0.02) / "train"
    tars = sorted(out.glob("*.tar"))
    whole = sum(shard["records"] for shard in json.loads((out / INDEX).read_text())["shards"][2:])
    content = bytearray(tars[0].read_bytes())
    place = json.loads(tars[0].with_suffix(RECORDS_SUFFIX).read_text())["records"][0]
    content[place[2] : place[2] + 4] = b"none"
    tars[0].write_bytes(content)
    tars[1].unlink()
    facts = inspect(out)["train"]
    assert facts.damaged.keys() == {tars[0].name, tars[1].name}
    assert "sha256" in facts.damaged[tars[0].name] and "unreadable" in facts.damaged[tars[1].name]
    assert len(facts.broken) == 1 and place[0] in facts.broken[0]
    assert facts.verified == len(tars) - 2 and facts.broken_count == 3
    assert facts.images >= whole


def test_foreign_tars(tmp_path: Path) -> None:
    members = [("1.jpg", noise(1)), ("1.txt", b"one"), ("2.jpg", noise(2)), ("3.jpg", b"x"), ("3.txt", b"three")]
    tar = write_tar(tmp_path / "00000.tar", members)
    facts = inspect(tar)["00000.tar"]
    assert facts.images == 1
    assert facts.broken[0] == "00000.tar: 2: no caption file" and "3: not a readable image" in facts.broken[1]
    put(tmp_path / "00001.tar", tar.read_bytes()[:3000])
    assert "not a whole" in inspect(tmp_path)[tmp_path.name].damaged["00001.tar"]


def test_the_contact_sheet(root: Path, tmp_path: Path) -> None:
    put(root / "bad.png", b"nothing")
    put(root / "bad.txt", "bad")
    write_sheet(root, tmp_path / "sheet.png")
    sheet = Image.open(tmp_path / "sheet.png")
    assert sheet.width > 2 * 256 and sheet.height > 2 * 256
    colours = sheet.getcolors(1 << 20)
    assert colours is not None and {(number, 0, 0) for number in range(4)} <= {colour for _, colour in colours}
    put(tmp_path / "only" / "bad.png", b"nothing")
    put(tmp_path / "only" / "bad.txt", "bad")
    with pytest.raises(GalipError, match="no image for the contact sheet can be read"):
        write_sheet(tmp_path / "only", tmp_path / "other.png")


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(GalipError, match="nowhere: not there"):
        inspect(tmp_path / "nowhere")
    assert Facts().as_json()["width"] == {}
