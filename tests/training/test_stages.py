"""Stages: G alone first, then the paper's objective, grown on the way, and resumed wherever it was."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from models import tiny as parts
from safetensors.torch import load_file
from training import toy
from training.toy import open_run

import galip
from galip.data.folder import CaptionedFolder
from galip.data.samples import Samples
from galip.errors import GalipError, InputError
from galip.models.generator import MateGenerator
from galip.training.checkpoint import forget_beyond, list_checkpoints, read_info
from galip.training.config import TrainConfig
from galip.training.distances import pyramid_l1
from galip.training.export import export_checkpoint
from galip.training.stages import grow, stages_of

WEIGHTS = "diffusion_pytorch_model.safetensors"
RECONSTRUCT: dict[str, Any] = {
    "name": "reconstruct",
    "schedule": {"images": 16, "batch": 8, "warmup": 8, "decay": "cosine"},
    "loss": {"objective": "reconstruct", "noise": "open"},
    "optimizer": {"generator": "muon", "lr_generator": 1e-3, "betas": [0.9, 0.99]},
    "data": {"canonical": 1.0},
}
SHARPEN: dict[str, Any] = {"name": "sharpen", "schedule": {"images": 8}, "loss": {"paired": 5.0}}
GROW = SHARPEN | {"generator": {"block_sizes": [8, 16, 32, 64], "block_channels": [16, 12, 8, 8]}}


def staged(data: Path, clip: Path, *stages: dict[str, Any], **sections: Any) -> TrainConfig:
    return toy.config(data, clip, stages=list(stages or (RECONSTRUCT, SHARPEN)), **sections)


def rows(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def weights(run: Path) -> dict[str, torch.Tensor]:
    folder = list_checkpoints(run / "checkpoints")[-1]
    return {f"{p.stem}.{k}": t for p in folder.glob("*.safetensors") for k, t in load_file(p).items()}


def test_a_stage_has_its_own_values_and_the_runs_elsewhere(toy_data: Path, toy_clip: Path) -> None:
    config = staged(toy_data, toy_clip, optimizer={"lr_discriminator": 3e-4})
    first, second = stages_of(config)
    assert (first.name, first.start, first.end) == ("reconstruct", 0, 16)
    assert (second.name, second.start, second.end) == ("sharpen", 16, 24)
    assert config.schedule.images == 24
    assert first.config.optimizer.generator == "muon" and second.config.optimizer.generator == "adam"
    assert first.config.optimizer.lr_discriminator == second.config.optimizer.lr_discriminator == 3e-4
    assert first.config.schedule.batch == 8 and second.config.schedule.batch == 4
    assert first.config.augmentation == second.config.augmentation == config.augmentation
    (only,) = stages_of(toy.config(toy_data, toy_clip))
    assert (only.start, only.end, only.name) == (0, 24, "")


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({"name": "a", "schedule": {"images": 8}, "loss": {"paried": 1}}, r"stages\.a\.loss\.paried: Extra inputs"),
        ({"name": "a", "schedule": {"images": 8, "batch": 1}}, r"stages\.a\.schedule\.batch: .*greater than or equal"),
        ({"name": "a", "schedule": {}}, r"every stage needs schedule\.images"),
        ({"name": "a", "schedule": {"images": 8}, "data": {"source": "pipe:x"}}, r"stages\.a\.data\.source"),
        ({"name": "a", "schedule": {"images": 8}, "evaluation": {}}, r"unknown field stages\.0\.evaluation"),
        ({"name": "sharpen", "schedule": {"images": 8}}, r"two have the same name"),
    ],
)
def test_what_is_wrong_in_a_stage_is_named(toy_data: Path, toy_clip: Path, stage: dict[str, Any], message: str) -> None:
    with pytest.raises(GalipError, match=message):
        staged(toy_data, toy_clip, stage, SHARPEN)


def test_both_stages_are_run_and_logged(
    toy_data: Path, toy_clip: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "galip")
    run = tmp_path / "run"
    evaluation = {"every": 8, "captions": 4}
    model = open_run(staged(toy_data, toy_clip, evaluation=evaluation, logging={"grid_every": 12}), run).fit()
    found = [row for row in rows(run) if "loss_g" in row]
    assert [(row["images"], row["stage"]) for row in found] == [(8, 0), (16, 0), (20, 1), (24, 1)]
    assert all("loss_d" not in row and row["loss_g"] == row["paired"] for row in found[:2])
    assert all({"loss_d", "adversarial", "similarity", "diversity"} <= row.keys() for row in found[2:])
    assert found[0]["rate"] == pytest.approx(1 / 8) and found[1]["rate"] == pytest.approx(0.5), "warm-up, then cosine"
    assert found[2]["rate"] == 1, "the next stage has its own schedule"
    assert "stage sharpen: 8 images, adversarial" in caplog.text
    assert galip.load(model, engine="torch")("rain", seed=0, output_type="np").images.shape == (1, 32, 32, 3)


@pytest.mark.parametrize("at", [8, 16, 20])
def test_a_run_is_resumed_in_any_stage_bit_for_bit(toy_data: Path, toy_clip: Path, tmp_path: Path, at: int) -> None:
    config = staged(toy_data, toy_clip, RECONSTRUCT, GROW, checkpoints={"every": 4, "keep": 9})
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    open_run(config, whole).fit()
    open_run(config, parted).fit()
    forget_beyond(parted / "checkpoints", at)
    last = list_checkpoints(parted / "checkpoints")[-1]
    assert (read_info(last).images, read_info(last).stage) == (at, 0 if at < 16 else 1)
    resumed = open_run(config, parted, resume="latest")
    assert resumed.state.seen == at and resumed.differences == []
    resumed.fit()
    ours, theirs = weights(parted), weights(whole)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert [row["images"] for row in rows(parted)] == [row["images"] for row in rows(whole)]


def test_a_stage_may_enlarge_the_images(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    config = staged(toy_data, toy_clip, RECONSTRUCT, GROW, checkpoints={"every": 8, "keep": 9})
    trainer = open_run(config, tmp_path / "run")
    model = trainer.fit()
    assert trainer.state.networks.generator.image_size == 64
    first, *_, last = list_checkpoints(tmp_path / "run" / "checkpoints")
    exported = [export_checkpoint(one, tmp_path / one.name) for one in (first, last)]
    for folder, side in ((model, 64), (exported[0], 32), (exported[1], 64)):
        assert galip.load(folder, engine="torch")("rain", seed=0, output_type="np").images.shape == (1, side, side, 3)
    ours, again = (load_file(folder / "generator" / WEIGHTS) for folder in (model, exported[1]))
    assert all(torch.equal(ours[key], again[key]) for key in ours)
    alone = toy.config(toy_data, toy_clip, stages=[RECONSTRUCT])
    with pytest.raises(InputError, match="the checkpoint is of stage 2, and this configuration has 1"):
        open_run(alone, tmp_path / "run", resume="latest")


def test_a_grown_generator_begins_as_the_enlarged_image() -> None:
    torch.manual_seed(0)
    before = parts.scatter(parts.generator())
    sizes = {"block_sizes": [8, 16, 32, 64], "block_channels": [16, 12, 8, 8]}
    after = MateGenerator(**{k: v for k, v in before.config.items() if not k.startswith("_")} | sizes)
    begun = grow(before, after)
    assert begun and all(name.startswith("image_generator.blocks.3.") for name in begun)
    z, e, vision = torch.randn(2, before.z_dim), torch.randn(2, before.cond_dim), parts.vision()
    with torch.no_grad():
        small, large = before(z, e, vision), after(z, e, vision)
    assert large.shape[-1] == 64
    assert pyramid_l1(torch.nn.functional.avg_pool2d(large, 2), small) < 0.35 * pyramid_l1(0 * small, small)


def test_reconstruction_learns_each_captions_image(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    """Ten times nearer than it began, by Muon, and without any D."""
    stage = RECONSTRUCT | {"schedule": {"images": 8 * 200, "batch": 8, "warmup": 80, "decay": "cosine"}}
    trainer = open_run(staged(toy_data, toy_clip, stage, logging={"every": 8}), tmp_path / "run")
    trainer.stages = trainer.stages[:1]
    before = {key: value.clone() for key, value in trainer.state.networks.discriminator.state_dict().items()}
    trainer.fit()
    found = rows(tmp_path / "run")
    assert sum(row["paired"] for row in found[-10:]) / 10 < 0.15 * found[0]["paired"]
    after = trainer.state.networks.discriminator.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_noise_is_off_where_a_caption_leaves_nothing_open(toy_clip: Path, tmp_path: Path) -> None:
    """In the toy data each caption has three images; a fourth, with a caption of its own, has one."""
    data = toy.pictures(tmp_path / "data")
    table = data / "metadata.jsonl"
    first = json.loads(table.read_text().splitlines()[0])
    table.write_text(table.read_text() + json.dumps(first | {"captions": ["a rain of two"]}) + "\n")
    trainer = open_run(toy.config(data, toy_clip, loss={"noise": "open", "paired": 1.0}), tmp_path / "run")
    text = toy.caption_vectors(trainer)(["rain", "a rain of two", "red heart", "never seen"])
    assert text.open is not None and text.open.flatten().tolist() == [1, 0, 1, 0]
    batch = next(iter(toy.batches(trainer)))
    (micro,) = trainer.state.step.micro_batches(batch, text)
    z = trainer.state.step.noise(micro, micro.random.z)
    assert torch.equal(z[[0, 2]], micro.random.z[[0, 2]]) and not z[[1, 3]].any()
    plain = open_run(toy.config(data, toy_clip), tmp_path / "plain")
    assert toy.caption_vectors(plain)(["rain"]).open is None


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0.5), (0.6, 0.8), (1.0, 1.0)])
def test_canonical_captions_come_as_often_as_asked(toy_data: Path, share: float, expected: float) -> None:
    """Each toy image has two captions."""
    source = CaptionedFolder(toy_data)
    plain, canonical = (Samples(source, 5, 32, 32, False, canonical=part) for part in (0.0, share))
    firsts = Counter(canonical[i].caption in toy.CAPTIONS for i in range(600))
    assert abs(firsts[True] / 600 - expected) < 0.07
    assert all((plain[i].pixels == canonical[i].pixels).all() for i in range(20)), "nothing else changes"
