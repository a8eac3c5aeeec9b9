"""`benchmarks/gpu.py`: the stages that a CPU can run are run at tiny size; one that fails costs the others nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.scripts import BENCHMARKS, script


def test_it_runs_at_tiny_size(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    command = [sys.executable, BENCHMARKS / "gpu.py", "--quick", "--only", "inference", "train", "--out", out]
    ended = subprocess.run(command, capture_output=True, text=True)
    result = json.loads(out.read_text())
    assert ended.returncode == 0, result["stages"]
    rows = result["stages"]["inference"]["rows"]
    assert [row for row in rows if "error" in row] == []
    assert len(rows) == 2 * 3 * 2 + 1  # two forms, three types and two batches; one that is compiled
    for row in rows:
        assert row["ms"] > 0 and row["share_of_peak"] > 0
        assert row["levels_from_fp32"] <= (0 if row["precision"] == "fp32" and row["form"] == "eager" else 20)
    rows = result["stages"]["train"]["rows"]
    assert [(row["step"], row["cuda_graph"]) for row in rows] == [("released", False), ("ours", False)]
    assert rows[0]["times_released"] == pytest.approx(1)
    assert "| inference" not in ended.stdout and "times_released" in ended.stdout


def test_a_stage_that_fails_or_hangs_is_a_row_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = script("gpu", monkeypatch)
    code = "import time; print('{\"a\": 1}', flush=True); time.sleep({})"
    hung = gpu.run(gpu.Stage("x", [sys.executable, "-c", code.replace("{}", "60")], 3), 100)
    assert (hung["ended"], hung["rows"]) == ("time was up", [{"a": 1}])
    failed = gpu.run(gpu.Stage("x", [sys.executable, "-c", "raise SystemExit('no such thing')"], 20), 100)
    assert failed["ended"] == 1 and "no such thing" in failed["said"]


def test_the_whole_fits_into_eight_minutes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gpu = script("gpu", monkeypatch)
    assert gpu.LIMIT < 480
    wanted = gpu.stages(False, tmp_path / "gpu.json")
    assert [stage.name for stage in wanted][:4] == ["inference", "train", "tests", "loader"]
    assert any(word == gpu.MEASURED for word in wanted[3].command)
    assert gpu.step_rate({"train": {"rows": [{"step": "ours", "images_per_second": 7.0}]}}) == 7.0
