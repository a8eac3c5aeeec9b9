"""`galip bench`: that its numbers are where they belong. How large they are is nobody's business here."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import tiny
from cli.running import run

from galip.benchmarking.running import gather, measure_model, run_worker, summary
from galip.benchmarking.worker import Orders, captions, measure
from galip.cli.bench import bench
from galip.errors import GalipError, InputError
from galip.export.exporting import Source, export


@pytest.fixture(scope="module")
def exported(model: Path) -> Path:
    folder = model.parent / "exported"
    export(tiny.pipeline(), Source("tiny-32", model), folder, "onnx")
    return folder


@pytest.mark.engines
def test_an_exported_model_is_measured_as_table_and_json(
    exported: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "speed.json"
    bench(str(exported), "onnxruntime", "3,1", threads=1, seconds=0, json_file=file)
    shown = capfd.readouterr().out
    assert "onnxruntime" in shown and "1 thread" in shown and "start to first image" in shown
    result = json.loads(file.read_text())
    assert result["threads"] == 1 and result["machine"]["versions"]["galip"]
    found = result["engines"]["onnxruntime"]
    assert list(result["engines"]) == ["onnxruntime"]
    assert found["first_picture"]["count"] == 3
    assert [cell["batch"] for cell in found["batches"]] == [1, 3]
    for cell in found["batches"]:
        assert all(0 < cell[part]["low"] <= cell[part]["median"] <= cell[part]["high"] for part in ("text", "image"))
        assert cell["pictures_per_second"] == cell["batch"] / cell["whole"]["median"]
        assert cell["peak_bytes"] >= found["first_peak_bytes"] > 2**24
    # A process of its own, without torch, whose memory is not that of this one.
    assert found["first_peak_bytes"] < 2**28


def test_a_worker_times_every_part_of_every_batch(model: Path) -> None:
    orders = Orders(str(model), "torch", "cpu", None, [1, 2], 0.0, time.monotonic())
    found = measure(orders)
    assert found["first_picture"] > 0
    assert list(found["cells"]) == ["1", "2"]
    for cell in found["cells"].values():
        assert [len(cell[part]) for part in ("whole", "text", "image")] == [3, 3, 3]


@pytest.mark.engines
def test_precisions_are_measured_beside_each_other(exported: Path) -> None:
    result = measure_model(str(exported), ["onnxruntime:fp32", "openvino"], [1], 1, seconds=0, rounds=1)
    assert list(result["engines"]) == ["onnxruntime:fp32", "openvino"]
    for wrong, message in (("onnxruntime:bf16", "onnxruntime computes in fp32 and int8"), ("openvino:fp8", "'fp8'")):
        with pytest.raises(InputError, match=message):
            measure_model(str(exported), [wrong], [1])


def test_rounds_are_taken_together() -> None:
    def one(first: float, whole: list[float], peak: int) -> dict[str, Any]:
        cell = {"whole": whole, "text": [0.1], "image": [0.2], "peak_bytes": peak}
        return {"first_picture": first, "first_peak_bytes": peak - 1, "cells": {"4": cell}}

    found = gather([one(1.0, [2.0, 3.0], 10), one(2.0, [4.0], 20)], [4])
    assert found["first_picture"]["median"] == 1.5
    assert found["first_peak_bytes"] == 19
    (cell,) = found["batches"]
    assert cell["whole"] == {"median": 3.0, "low": 2.5, "high": 3.5, "count": 3}
    assert cell["pictures_per_second"] == pytest.approx(4 / 3)
    assert cell["peak_bytes"] == 20
    assert summary([5.0]) == {"median": 5.0, "low": 5.0, "high": 5.0, "count": 1}


def test_captions_are_all_different() -> None:
    several = captions(3000)
    assert len(set(several)) == 3000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch", "0"], "--batch 0"),
        (["--batch", "two"], "--batch two"),
        (["--engine", "steam"], "there is no such engine"),
        (["--json-file", "/dev/null/speed.json"], "it cannot be written there"),
    ],
)
def test_mistakes_are_one_clean_line_before_anything_is_measured(
    model: Path, options: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = dict(zip(options[::2], options[1::2], strict=True))
    monkeypatch.setattr("galip.benchmarking.running.run_worker", lambda _orders: pytest.fail("it was measured"))
    with pytest.raises(InputError, match=message):
        bench(
            str(model),
            engine=named.get("--engine"),
            batch=named.get("--batch", "1"),
            json_file=Path(named["--json-file"]) if "--json-file" in named else None,
        )


@pytest.mark.engines
def test_an_exported_model_refuses_other_engines(exported: Path) -> None:
    with pytest.raises(InputError, match="is exported for onnx; use openvino or onnxruntime"):
        measure_model(str(exported), ["torch"], [1])


def test_what_goes_wrong_in_a_process_is_told(model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    (broken / "generator" / "diffusion_pytorch_model.safetensors").write_bytes(b"nothing")
    with pytest.raises(GalipError, match="engine torch: .*broken"):
        run_worker(Orders(str(broken), "torch", "cpu", 1, [1], 0.0, 0.0))


def test_the_command_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    ended = run(capsys, "bench", "no-such-model")
    assert ended.code == 2
    assert "there is no such folder" in ended.err
