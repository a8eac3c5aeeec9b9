"""A run folder of version 0.1, made by it, goes on as that version itself went on.

`version_0_1` holds the run after 12 of 24 images; `expected` what version 0.1 had after 24, from an uninterrupted run.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from training import toy
from training.toy import open_run

from galip.training.checkpoint import list_checkpoints
from galip.training.config_file import load_config

OLD = Path(__file__).parent / "version_0_1"


def rows(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The old run with the data and the CLIP that its configuration names."""
    monkeypatch.chdir(tmp_path)
    toy.pictures(Path("data"))
    toy.clip(Path("clip"))
    shutil.copytree(OLD, "run", ignore=shutil.ignore_patterns("expected"))
    return Path("run")


def test_it_goes_on_by_its_own_configuration(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = load_config(run / "config.yaml", ["run.images=24", "run.checkpoint_every=4"])
    assert "run.batch -> schedule.batch" in caplog.text and "loss.colour -> augmentation.colour" in caplog.text
    trainer = open_run(config, run, resume="latest")
    assert trainer.state.seen == 12
    assert trainer.differences == ["checkpoints.every: 100 -> 4", "schedule.images: 12 -> 24"]
    trainer.fit()

    last = list_checkpoints(run / "checkpoints")[-1]
    assert last.name == "images-000000024"
    for name in ("generator", "discriminator", "ema"):
        start, ours, theirs = (
            torch.cat([tensor.flatten() for _, tensor in sorted(load_file(folder / f"{name}.safetensors").items())])
            for folder in (OLD / "checkpoints" / "images-000000012", last, OLD / "expected")
        )
        # On the machine that made it bit for bit; another one adds in another order.
        assert (ours - theirs).norm() < 0.02 * (theirs - start).norm(), name
    for ours, theirs in zip(rows(run / "log.jsonl"), rows(OLD / "expected" / "log.jsonl"), strict=True):
        assert ours.keys() == theirs.keys()
        for number in theirs.keys() - {"images_per_second"}:
            assert ours[number] == pytest.approx(theirs[number], rel=1e-3, abs=1e-4), number
