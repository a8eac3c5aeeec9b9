from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import pytest
from evaluation.results import a_result, flag
from pydantic import ValidationError

from galip.errors import GalipError
from galip.evaluation.result import (
    ImageScores,
    Number,
    Sample,
    files_of,
    read_result,
    read_rows,
    write_result,
    write_rows,
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    result = a_result(flags=[flag("warning", "few images", "fid")], images_seen=None)
    path = tmp_path / "new" / "result.json"
    write_result(path, result)
    assert read_result(path) == result
    assert list(path.parent.iterdir()) == [path]  # nothing unfinished is left
    assert files_of(path) == tmp_path / "new" / "result.files"


def test_equal_results_are_equal_files(tmp_path: Path) -> None:
    for name in ("one.json", "two.json"):
        write_result(tmp_path / name, a_result())
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_settings_are_what_the_file_will_hold() -> None:
    assert a_result(settings={"metrics": ("fid",)}).settings == {"metrics": ["fid"]}
    for unwritable in ({"a": object()}, {"a": math.nan}):
        with pytest.raises(ValidationError):
            a_result(settings=unwritable)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_is_finite(value: float) -> None:
    with pytest.raises(ValidationError):
        Number(value=value)


def test_damaged_files_say_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    with pytest.raises(GalipError, match="result.json: there is no such file"):
        read_result(path)

    write_result(path, a_result())
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole[: len(whole) // 2])
    with pytest.raises(GalipError, match="result.json: not whole, or no JSON"):
        read_result(path)
    path.write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(GalipError, match="result.json: not whole, or no JSON"):
        read_result(path)
    path.write_text('{"model": "a"}')
    with pytest.raises(GalipError, match="no result of galip evaluate"):
        read_result(path)

    tree = json.loads(whole)
    tree["metrics"]["fid"]["value"] = "many"
    path.write_text(json.dumps(tree))
    with pytest.raises(GalipError, match="result.json: damaged, metrics.fid.value:"):
        read_result(path)
    with pytest.raises(GalipError, match="cannot be read"):
        read_result(tmp_path)


def test_another_format_is_refused_before_its_fields_are_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps({"format": 2, "protocol": {"by": "then"}}))
    with pytest.raises(GalipError, match="its format is 2, but this version of galip reads 1"):
        read_result(path)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GalipError, match="cannot be written"):
        write_result(tmp_path / "file" / "result.json", a_result())


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_rows_come_back(tmp_path: Path, name: str) -> None:
    rows = [
        ImageScores(number=number, caption='ein Vögel\u2028 "x"\n', seed=7, scores={"clip_score": number / 10})
        for number in range(3)
    ]
    path = tmp_path / "files" / name
    write_rows(path, rows)
    assert read_rows(path, ImageScores) == rows
    assert [each.name for each in path.parent.iterdir()] == [name]
    before = path.read_bytes()
    write_rows(path, rows)
    assert path.read_bytes() == before


def test_rows_that_are_not_there_are_none(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "samples.jsonl", Sample) == []


def test_damaged_rows_name_the_line(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    good = json.dumps({"number": 0, "caption": "a", "seed": 0, "scores": {}})
    path.write_text(f"{good}\n{good[:-5]}\n")
    with pytest.raises(GalipError, match="scores.jsonl, line 2: no JSON"):
        read_rows(path, ImageScores)
    path.write_text(f'{good}\n\n{{"number": 0}}\n')
    with pytest.raises(GalipError, match="scores.jsonl, line 3: damaged, caption"):
        read_rows(path, ImageScores)
    cut = tmp_path / "scores.jsonl.gz"
    cut.write_bytes(gzip.compress(good.encode() * 100)[:-12])
    with pytest.raises(GalipError, match="scores.jsonl.gz: cannot be read"):
        read_rows(cut, ImageScores)
