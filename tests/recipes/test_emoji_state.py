"""The model to train on from is rebuilt from the bundled one, bit for bit."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import tiny
import torch
from safetensors.numpy import load_file

import galip

RECIPE = Path(__file__).parents[2] / "recipes" / "emoji"


@pytest.fixture
def state() -> ModuleType:
    sys.path.insert(0, str(RECIPE))
    try:
        return importlib.import_module("state")
    finally:
        sys.path.remove(str(RECIPE))


def test_the_bundled_model_gives_it_back(state: ModuleType, tmp_path: Path) -> None:
    state.rebuild(tmp_path / "state")  # compares the weights with their hash itself
    asset = json.loads((state.ASSET / "training.json").read_text())
    rebuilt = json.loads((tmp_path / "state" / "training.json").read_text())
    assert rebuilt == asset | {"truncation": 1.0} and asset["truncation"] == 0.5
    before, after = (load_file(folder / state.GENERATOR) for folder in (tmp_path / "state", state.ASSET))
    name = "prompt_predictor.linear.weight"
    near = np.abs(before[name][:, :64].astype(float) * 0.5 - after[name][:, :64]).max()
    assert near < 1e-6 and (before[name][:, 64:] == after[name][:, 64:]).all()
    pipe = galip.load(tmp_path / "state", engine="torch", device="cpu")
    assert pipe("red heart", seed=0).images[0].size == (64, 64)


def test_the_difference_is_written_for_a_model_and_belongs_to_it_alone(state: ModuleType, tmp_path: Path) -> None:
    pipe = tiny.pipeline()
    pipe.to(torch.float16).save_pretrained(tmp_path / "whole")
    pipe.generator.truncate(0.3)
    pipe.save_pretrained(tmp_path / "asset")
    for name in ("whole", "asset"):
        (tmp_path / name / "discriminator").mkdir(exist_ok=True)
    (tmp_path / "asset" / "training.json").write_text('{"truncation": 0.3}')
    file = tmp_path / "difference.json"
    state.write_difference(tmp_path / "whole", tmp_path / "asset", file)
    state.rebuild(tmp_path / "again", tmp_path / "asset", file)
    assert (tmp_path / "again" / state.GENERATOR).read_bytes() == (tmp_path / "whole" / state.GENERATOR).read_bytes()
    with pytest.raises(SystemExit, match="belongs to another model"):
        state.rebuild(tmp_path / "again", state.ASSET, file)
