"""What a run becomes: half precision, less noise, and a record of every stage that it has come through."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from training import toy

import galip
from galip.training.run import open_run

RECIPE = Path(__file__).parents[2] / "recipes" / "emoji"


@pytest.fixture
def export() -> ModuleType:
    sys.path.insert(0, str(RECIPE))
    try:
        return importlib.import_module("export")
    finally:
        sys.path.remove(str(RECIPE))


def run_of(folder: Path, scratch: Path) -> Path:
    config = toy.config(
        toy.pictures(scratch / "data"), toy.clip(scratch / "clip"), logging={"every": 4}, schedule={"images": 8}
    )
    open_run(config, folder).fit()
    return folder


@pytest.mark.slow
def test_a_run_is_exported_with_less_noise_and_its_stages(
    export: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(tmp_path / "run", tmp_path)
    (tmp_path / "work" / "clip").mkdir(parents=True)
    (tmp_path / "work" / "clip" / "log.json").write_text(json.dumps([{"step": 1}, {"step": 2}]))
    monkeypatch.setattr(export, "WORK", tmp_path / "work")
    export.export(run, tmp_path / "state")
    state = json.loads((tmp_path / "state" / "training.json").read_text())
    assert (state["images"], state["truncation"], state["clip"]) == (8, 1.0, {"step": 2})
    assert [(stage["images"], stage["batch"], stage["hardware"]) for stage in state["stages"]] == [
        (8, 4, "a CPU (threads: 1)")
    ]

    (run / "start.json").write_text(json.dumps({"model": "state", "training": state}))  # as if it had gone on from it
    (run / "environment.json").write_text(json.dumps({"device": "cuda", "gpu": "NVIDIA H200", "threads": 16}))
    export.export(run, tmp_path / "asset", 0.5)
    said = json.loads((tmp_path / "asset" / "training.json").read_text())
    assert (said["images"], said["truncation"]) == (16, 0.5)
    assert [stage["hardware"] for stage in said["stages"]] == ["a CPU (threads: 1)", "one NVIDIA H200"]

    whole, less = (galip.load(tmp_path / name, engine="torch", device="cpu") for name in ("state", "asset"))
    z, e = torch.randn(2, whole.generator.z_dim), whole.encode_prompt(["red heart", "rain"])
    with torch.no_grad():
        expected = whole.generator(0.5 * z, e, whole.vision)
        torch.testing.assert_close(less.generator(z, e, less.vision), expected, rtol=1e-3, atol=1e-3)
    assert "_name_or_path" not in (tmp_path / "asset" / "model_index.json").read_text()

    (run / "start.json").write_text(json.dumps({"model": "asset", "training": said}))
    with pytest.raises(SystemExit, match="went on from a model of scaled noise"):
        export.export(run, tmp_path / "twice", 0.5)
    del state["stages"]
    (run / "start.json").write_text(json.dumps({"model": "state", "training": state}))
    export.export(run, tmp_path / "old", 0.5)
    stages = json.loads((tmp_path / "old" / "training.json").read_text())["stages"]
    assert [(stage["images"], stage["hardware"]) for stage in stages] == [(8, export.UNKNOWN), (8, "one NVIDIA H200")]
    assert (export.duration(1.5), export.duration(6.7)) == ("90 minutes", "7 hours")
