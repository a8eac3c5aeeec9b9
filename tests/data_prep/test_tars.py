"""`galip data prepare cc3m` and `cc12m`: img2dataset's tars, packed anew or described in their place."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from data.tars import write_tar
from data.trees import encoded, files_of, noise, put, records_of
from PIL import Image

from galip.data.open import open_source
from galip.data.shards import INDEX
from galip.data_prep.base import WritingOptions
from galip.data_prep.encoding import ImageOptions
from galip.data_prep.indexing import index_in_place
from galip.data_prep.tars import tars
from galip.data_prep.unfinished import FOLDER
from galip.data_prep.writing import prepare
from galip.errors import GalipError, InputError

WRITING = WritingOptions()


def downloaded(root: Path, shards: dict[int, list[int]]) -> Path:
    """What `img2dataset --output_format webdataset` leaves: tars, statistics; numbers of images by shard."""
    for shard, numbers in shards.items():
        members = []
        for number in numbers:
            key = f"{shard:05d}{number:04d}"
            about = {"caption": f"caption {key}", "url": f"u/{key}.jpg", "key": key, "status": "success", "exif": "{}"}
            members += [(f"{key}.jpg", noise(number)), (f"{key}.json", json.dumps(about).encode())]
            members += [(f"{key}.txt", f"caption {key}".encode())]
        write_tar(root / f"{shard:05d}.tar", members)
        statistics = {"count": len(numbers) + 2, "successes": len(numbers), "failed_to_download": 2}
        put(root / f"{shard:05d}_stats.json", json.dumps(statistics))
        os.utime(root / f"{shard:05d}.tar", (1e9, 1e9))  # reports tell files apart by their times
    return root


def broken(root: Path) -> Path:
    """Two good records among bad ones, a tar of which every record is bad, and a tar that was cut off."""
    downloaded(root, {0: [0, 1], 2: [5, 6]})
    content = (root / "00002.tar").read_bytes()
    put(root / "00002.tar", content[:-11000])
    members = [
        ("000010000.jpg", noise(0)[:-300]),
        ("000010000.txt", b"cut off"),
        ("000010001.jpg", noise(1)),
        ("000010001.txt", b" \n"),
        ("000010002.jpg", noise(2)),
        ("000010003.jpg", encoded(Image.new("RGB", (40, 4)), "JPEG")),
        ("000010003.txt", b"too flat"),
        ("000010004.jpg", noise(4)),
        ("000010004.txt", b"\xff\xfe"),
    ]
    write_tar(root / "00001.tar", members)
    return root


SKIPPED = {
    "no caption file": {"count": 1, "examples": ["00001.tar: 000010002"]},
    "unreadable": {"count": 1, "examples": ["00001.tar: 000010000"]},
    "no caption": {"count": 1, "examples": ["00001.tar: 000010001"]},
    "too small": {"count": 1, "examples": ["00001.tar: 000010003"]},
    "captions cannot be read": {"count": 1, "examples": ["00001.tar: 000010004"]},
    "unreadable tar": {"count": 1, "examples": ["00002.tar"]},
}


def test_packed_anew(tmp_path: Path) -> None:
    root = downloaded(tmp_path / "cc3m", {0: [0, 1, 2], 1: [0, 1], 2: [0]})
    small = WritingOptions(shard_mb=0.021)
    source = tars("cc3m", root, small)
    assert [block.expected for block in source.blocks] == [3, 3]
    assert [block.expected for block in tars("cc3m", root, WRITING).blocks] == [6]
    report = prepare(source, tmp_path / "out", small)
    found = records_of(tmp_path / "out" / "train")
    assert [record.key for record in found] == [
        f"{shard:05d}-{shard:05d}{number:04d}" for shard, count in ((0, 3), (1, 2), (2, 1)) for number in range(count)
    ]
    assert found[4].fields == {"captions": ["caption 000010001"], "tar": "00001.tar", "source_id": "000010001"}
    assert [record.content for record in found] == [noise(number) for number in (0, 1, 2, 0, 1, 0)]
    assert report["source"] == "cc3m" and report["splits"]["train"]["records"] == 6


def test_validation_takes_whole_tars_or_another_folder(tmp_path: Path) -> None:
    root = downloaded(tmp_path / "cc12m", {shard: [0] for shard in range(5)})
    writing = WritingOptions(validation=0.4, seed=1)
    prepare(tars("cc12m", root, writing), tmp_path / "share", writing)
    parts = {
        split: {record.fields["tar"] for record in records_of(tmp_path / "share" / split)}
        for split in ("train", "validation")
    }
    assert len(parts["validation"]) == 2 and not parts["train"] & parts["validation"]
    assert len(parts["train"] | parts["validation"]) == 5
    other = downloaded(tmp_path / "validation", {0: [7]})
    prepare(tars("cc3m", root, WRITING, validation_root=other), tmp_path / "given", WRITING)
    assert [record.content for record in records_of(tmp_path / "given" / "validation")] == [noise(7)]
    assert len(records_of(tmp_path / "given" / "train")) == 5


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    root = broken(tmp_path / "in")
    writing = WritingOptions(images=ImageOptions(min_side=8))
    report = prepare(tars("cc3m", root, writing), tmp_path / "out", writing)
    assert report["skipped"] == SKIPPED
    assert report["splits"]["train"]["records"] == 2


def test_in_place(tmp_path: Path) -> None:
    root = broken(tmp_path / "in")
    before = files_of(root)
    writing = WritingOptions(images=ImageOptions(min_side=8))
    source = tars("cc3m", root, writing, in_place=True)
    report = index_in_place(source, root, writing.images)
    assert report["skipped"] == SKIPPED
    added = {"index.json", "report.json", "00000.records.json"}
    assert files_of(root).keys() == before.keys() | added
    assert before == {name: content for name, content in files_of(root).items() if name not in added}
    index = json.loads((root / INDEX).read_text())
    assert [(shard["file"], shard["records"], shard["captions"]) for shard in index["shards"]] == [("00000.tar", 2, 2)]
    reader = open_source(str(root))
    assert [reader.read(number)[1] for number in range(len(reader))] == [("caption 000000000",), ("caption 000000001",)]
    # Once more: nothing to do. Something else: an error.
    times = {path: path.stat().st_mtime_ns for path in root.iterdir()}
    assert index_in_place(source, root, writing.images) == report
    assert times == {path: path.stat().st_mtime_ns for path in root.iterdir()}
    with pytest.raises(GalipError, match="other options, min side 8 instead of min side 1"):
        index_in_place(tars("cc3m", root, WRITING, in_place=True), root, WRITING.images)
    downloaded(root, {7: [1]})
    with pytest.raises(GalipError, match="other images or captions than are there now"):
        index_in_place(tars("cc3m", root, writing, in_place=True), root, writing.images)


def test_in_place_goes_on_where_it_was_and_workers_do_not_matter(tmp_path: Path) -> None:
    results = []
    for workers, begun in ((1, False), (2, True)):
        root = downloaded(tmp_path / str(workers), {shard: [shard, shard + 1] for shard in range(4)})
        source = tars("cc12m", root, WRITING, in_place=True)
        if begun:  # as after a kill: two tars are done, the file of the third is half written
            index_in_place(source, root, WRITING.images)
            done = {name: (root / name).read_bytes() for name in ("00000.records.json", "00001.records.json")}
            report = json.loads((root / "report.json").read_text())
            shards = json.loads((root / INDEX).read_text())["shards"]
            for path in [root / INDEX, root / "report.json", *root.glob("*.records.json")]:
                path.unlink()
            plan = {name: report[name] for name in ("format", "source", "options", "input")}
            put(root / FOLDER / "plan.json", json.dumps(plan))
            put(root / FOLDER / ".00002.records.json.1.part", "{")
            for number, (name, content) in enumerate(done.items()):
                put(root / name, content)
                tally = {"skipped": {}, "kept": 2, "encoded": 0, "captions_dropped": 0}
                record = {"shards": {"train": [shards[number]]}, "tally": tally}
                put(root / FOLDER / f"{number:05d}.json", json.dumps(record))
        index_in_place(source, root, WRITING.images, workers)
        results.append(files_of(root))
    assert results[0] == results[1]


def test_contradictions_and_what_is_missing(tmp_path: Path) -> None:
    root = downloaded(tmp_path / "in", {0: [0]})
    for writing in (
        WritingOptions(validation=0.1),
        WritingOptions(shard_mb=1),
        WritingOptions(images=ImageOptions(64)),
    ):
        with pytest.raises(InputError, match="--in-place leaves the tars as they are"):
            tars("cc3m", root, writing, in_place=True)
    with pytest.raises(InputError, match="--validation-dir is given already"):
        tars("cc3m", root, WritingOptions(validation=0.1), validation_root=root)
    with pytest.raises(GalipError, match="there is one tar only"):
        tars("cc3m", root, WritingOptions(validation=0.1))
    with pytest.raises(GalipError, match="no .tar in it; run img2dataset with --output_format webdataset"):
        tars("cc3m", tmp_path, WRITING)
    put(tmp_path / "bad" / "00000.tar", b"x" * 2000)
    with pytest.raises(GalipError, match=r"cc3m: none of its images can be used.*unreadable tar: 1 \(00000.tar\)"):
        index_in_place(tars("cc3m", tmp_path / "bad", WRITING, in_place=True), tmp_path / "bad", WRITING.images)
    assert list(files_of(tmp_path / "bad")) == ["00000.tar"]
