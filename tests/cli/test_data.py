"""`galip data`: the commands, one source after the other, and their errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cli.running import run
from data.tars import write_tar
from data.trees import captioned, files_of, noise, put, records_of
from data_prep.birds import BIRDS, write_cub, write_names, write_texts

SOURCES = ("folder", "coco", "cub", "dfgan", "cc3m", "cc12m", "hub", "emoji")


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    shown = run(capsys, "data", "--help").out
    assert "prepare " in shown and "inspect " in shown
    shown = run(capsys, "data", "prepare", "--help").out
    for source in SOURCES:
        assert f"\n  {source} " in shown
        own = run(capsys, "data", "prepare", source, "--help")
        assert own.code == 0 and f"Usage: galip data prepare {source}" in own.out
        assert all(
            option in own.out for option in ("--shard-mb", "--workers", "--shorter-side", "--min-side", "--quality")
        )


def test_preparing_needs_no_torch(tmp_path: Path) -> None:
    root, out = captioned(tmp_path / "in", 2), tmp_path / "out"
    code = (
        "import sys\nfrom galip.cli import main\n"
        f"try: main(['data', 'prepare', 'folder', {str(root)!r}, {str(out)!r}, '--workers', '1'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'transformers', 'webdataset', 'datasets') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]" and (out / "report.json").exists()


def test_folder_and_inspect(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    root, out = captioned(tmp_path / "in", 6), tmp_path / "out"
    put(root / "silent.jpg", noise(9))
    ended = run(
        capsys, "data", "prepare", "folder", root, "-o", out, "--workers", 1, "--shard-mb", 0.02, "--validation", 0.34
    )
    assert ended.code == 0 and ended.err == ""
    lines = ended.out.splitlines()
    assert lines[0] == f"{out}: 6 images with 6 captions"
    assert lines[-2] == "skipped, no caption: 1 (silent.jpg)"
    assert lines[-1] == f"more names: {out}/report.json"
    assert len(records_of(out / "validation")) in (1, 2)
    sheet, found = tmp_path / "sheet.png", tmp_path / "found.json"
    ended = run(capsys, "data", "inspect", out, "--sheet", sheet, "--json-file", found, "--workers", 1)
    assert ended.code == 0 and sheet.exists()
    assert sum(part["pictures"] for part in json.loads(found.read_text()).values()) == 6
    ended = run(capsys, "data", "inspect", root, "--workers", 1)
    assert ended.code == 1 and "silent.jpg: no caption" in ended.out


def test_coco(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for part in ("train", "val"):
        put(tmp_path / part / "1.jpg", noise(1))
        rows = {"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": [{"id": 5, "image_id": 1, "caption": part}]}
        put(tmp_path / f"{part}.json", json.dumps(rows))
    argv = ["--images", tmp_path / "train", "--annotations", tmp_path / "train.json"]
    argv += ["--validation-images", tmp_path / "val", "--validation-annotations", tmp_path / "val.json"]
    assert run(capsys, "data", "prepare", "coco", "-o", tmp_path / "out", *argv, "--workers", 1).code == 0
    assert [records_of(tmp_path / "out" / part)[0].captions for part in ("train", "validation")] == [["train"], ["val"]]


def test_cub_and_dfgan(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    root = write_names(tmp_path / "birds", train=[BIRDS[2]], test=[*BIRDS[:2]])
    write_cub(root / "CUB_200_2011")
    write_texts(root / "text")
    argv = ["--captions", root / "text", "--workers", 1, "--min-side", 45, "--shorter-side", 50]
    ended = run(capsys, "data", "prepare", "cub", root / "CUB_200_2011", tmp_path / "cub", *argv)
    assert "encoded again: 2; kept as they were: 0" in ended.out and "skipped, too small: 1" in ended.out
    argv += ["--split-lists", root]
    assert run(capsys, "data", "prepare", "cub", root / "CUB_200_2011", "-o", tmp_path / "lists", *argv).code == 0
    assert [r.fields["file"] for r in records_of(tmp_path / "lists" / "train")] == [f"{BIRDS[2]}.jpg"]
    assert run(capsys, "data", "prepare", "dfgan", root, tmp_path / "out", "--workers", 1).code == 0
    assert len(records_of(tmp_path / "out" / "test")) == 2


@pytest.mark.parametrize("name", ["cc3m", "cc12m"])
def test_conceptual_captions(capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str) -> None:
    tar = write_tar(tmp_path / "in" / "00000.tar", [("1.jpg", noise(1)), ("1.txt", b"one")])
    content = tar.read_bytes()
    assert run(capsys, "data", "prepare", name, tmp_path / "in", tmp_path / "out", "--workers", 1).code == 0
    assert records_of(tmp_path / "out" / "train")[0].captions == ["one"]
    assert json.loads((tmp_path / "out" / "report.json").read_text())["source"] == name
    assert run(capsys, "data", "prepare", name, tmp_path / "in", "--in-place", "--workers", 1).code == 0
    assert files_of(tmp_path / "in").keys() == {"00000.tar", "00000.records.json", "index.json", "report.json"}
    assert tar.read_bytes() == content
    assert "leave -o out" in run(capsys, "data", "prepare", name, tmp_path / "in", tmp_path / "o", "--in-place").err
    assert "-o is missing: name a folder for the shards" in run(capsys, "data", "prepare", name, tmp_path / "in").err


def test_hub(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pytest.importorskip("datasets")
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"jpg": [noise(0)], "txt": ["one"]}), tmp_path / "a.parquet")
    argv = ["--image-column", "jpg", "--caption-column", "txt", "--split", "dev", "--workers", 1]
    ended = run(capsys, "data", "prepare", "hub", tmp_path / "a.parquet", tmp_path / "out", *argv)
    assert (ended.code, ended.err) == (0, "")
    assert records_of(tmp_path / "out" / "dev")[0].captions == ["one"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["folder", "IN", "OUT", "--validation", "1"], "--validation 1: give a share"),
        (["folder", "IN", "OUT", "--quality", "0"], "--quality 0"),
        (["folder", "nowhere", "OUT"], "nowhere: no such folder"),
        (["dfgan", "IN", "OUT"], "neither train/ nor test/"),
        (["cub", "IN", "OUT", "--captions", "IN"], "images.txt: cannot be read"),
    ],
)
def test_errors_are_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path, argv: list[str], message: str) -> None:
    captioned(tmp_path / "IN", 1)
    ended = run(capsys, "data", "prepare", *(tmp_path / arg if arg.isupper() else arg for arg in argv))
    assert ended.code == 2 and message in ended.err and ended.err.count("\n") == 1
    assert not (tmp_path / "OUT").exists()
