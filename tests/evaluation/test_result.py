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
from galip.utils.terminal import printable


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
    with pytest.raises(GalipError, match="result.json: it is missing"):
        read_result(path)

    write_result(path, a_result())
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole[: len(whole) // 2])
    with pytest.raises(GalipError, match="result.json: it cannot be read"):
        read_result(path)
    path.write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(GalipError, match="result.json: it cannot be read"):
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


def test_numbers_beyond_all_metrics_are_damage(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    for number in ("1e308", "-1e31", "1e999", "1" * 5000):
        write_result(path, a_result())
        path.write_text(path.read_text().replace('"value": 20.0', f'"value": {number}'))
        with pytest.raises(GalipError, match=r"result.json: (damaged, metrics.fid.value|it cannot be read)"):
            read_result(path)
    with pytest.raises(ValidationError, match="the interval ends at 1, before it begins at 2"):
        Number(value=1, low=2, high=1)


@pytest.mark.parametrize("line", ['{"number": 0, "caption": "\0"}', "\0", "[" * 10_000, "1" * 5000, '"\\ud800"'])
def test_odd_lines_are_one_line_of_complaint(tmp_path: Path, line: str) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_text(line)
    with pytest.raises(GalipError, match="scores.jsonl, line 1: (no JSON|damaged, )") as caught:
        read_rows(path, ImageScores)
    assert printable(caught.value) == str(caught.value)


def test_a_compressed_file_is_not_unpacked_without_end(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl.gz"
    path.write_bytes(gzip.compress(b" " * (300 << 20)))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(GalipError, match="it holds more than 256 MB"):
        read_rows(path, ImageScores)


def test_names_that_are_not_utf8_are_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_result(path, a_result(model="models/\udc80\udcff"))
    assert read_result(path).model == "models/\udc80\udcff"


def test_the_names_in_files_are_those_of_version_0_1(tmp_path: Path) -> None:
    """Each version reads the other's results."""
    path = tmp_path / "result.json"
    write_result(path, a_result(group_real_baseline={"counts": {"clip_score": Number(value=0.5)}}))
    tree = json.loads(path.read_text())
    assert {"n_drawn", "floors", "group_floors"} <= tree.keys()
    assert not {"n_generated", "real_baseline", "group_real_baseline"} & tree.keys()
    found = read_result(path)
    with pytest.warns(DeprecationWarning, match="Result.floors is now Result.real_baseline"):
        assert found.floors == found.real_baseline
    with pytest.warns(DeprecationWarning, match="n_generated"):
        assert found.n_drawn == found.n_generated
    with pytest.warns(DeprecationWarning, match="group_real_baseline"):
        assert found.group_floors == found.group_real_baseline
