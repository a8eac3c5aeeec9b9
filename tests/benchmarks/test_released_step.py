"""The benchmark compares like with like: both steps have the same loss terms and lead to the same weights."""

from __future__ import annotations

import copy
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from models import tiny
from torch import Tensor

from galip.data.samples import Batch
from galip.distributed import Distributed
from galip.training.config import TrainConfig
from galip.training.networks import Networks
from galip.training.rng import sample_noise
from galip.training.step import GANStep
from galip.training.text_vectors import CaptionVectors

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
CAPTIONS = ["a red heart", "two sleepy birds in the rain", "kitten", "the cat of the heart"]
CONFIG = TrainConfig.model_validate(
    {
        "name": "tiny",
        "data": {"source": "."},
        "schedule": {"images": 4, "batch": 4},
        "performance": {"device": "cpu"},
    }
)


@pytest.fixture(scope="module")
def released_step() -> ModuleType:
    spec = importlib.util.spec_from_file_location("released_step", BENCHMARKS / "released_step.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["released_step"] = module
    spec.loader.exec_module(module)
    return module


def tiny_networks() -> Networks:
    """Nothing at its initial value, the released quirks included."""
    torch.manual_seed(3)
    tokenizer = tiny.tokenizer()
    text_encoder = tiny.clip_text_model(tokenizer.eos_token_id, len(tokenizer)).requires_grad_(False).eval()
    generator = tiny.scatter(tiny.generator(clip_input="released"))
    discriminator = tiny.scatter(tiny.discriminator(dead_shortcuts=True))
    return Networks(tokenizer, text_encoder, tiny.vision("released"), generator, discriminator)


class Pair:
    """Both steps, each with its own copy of the same weights, and a batch for both."""

    def __init__(self, released_step: ModuleType) -> None:
        self.theirs = tiny_networks()
        self.ours = copy.deepcopy(self.theirs)
        for network in (self.ours.vision, self.ours.generator, self.ours.discriminator):
            network.to(memory_format=torch.channels_last)
        self.ours.generator.fold()
        for name, parameter in self.ours.discriminator.named_parameters():
            parameter.requires_grad_(".dead_shortcut." not in name)
        processes = Distributed("cpu")
        self.our_step = GANStep(self.ours, CONFIG, processes)
        self.their_step = released_step.ReleasedStep(self.theirs, CONFIG.loss, CONFIG.optimizer)
        self.sentences = CaptionVectors(self.ours, sorted(CAPTIONS), processes)

    def step(self, number: int) -> tuple[dict[str, float], dict[str, float]]:
        random = torch.Generator().manual_seed(number)
        images = torch.randint(256, (4, 3, 32, 32), generator=random, dtype=torch.uint8)
        batch = Batch(images, CAPTIONS, list(range(4 * number, 4 * number + 4)))
        z = sample_noise(CONFIG.seed, batch.indices, tiny.Z_DIM)
        return self.our_step(batch, self.sentences(CAPTIONS)).numbers(), self.their_step(images, CAPTIONS, z)

    def gradients(self, name: str) -> list[tuple[str, Tensor, Tensor]]:
        """Of the last step: with beta 0, Adam's first moment is the gradient."""
        steps, found = (self.our_step, self.their_step), []
        ours, theirs = (dict(getattr(networks, name).named_parameters()) for networks in (self.ours, self.theirs))
        for key, parameter in ours.items():
            states = [
                step.optimizers[name].state.get(p) for step, p in zip(steps, (parameter, theirs[key]), strict=True)
            ]
            assert (not states[0]) == (not states[1]) == (".dead_shortcut." in key), key
            if states[0] and states[1]:
                found.append((key, states[0]["exp_avg"], states[1]["exp_avg"]))
        return found


def test_every_loss_term_is_the_same(released_step: ModuleType) -> None:
    ours, theirs = Pair(released_step).step(0)
    assert theirs == pytest.approx({name: ours[name] for name in theirs}, rel=1e-5, abs=1e-5)
    assert ours.keys() - theirs.keys() == {"diversity"}
    assert theirs["penalty"] > 0 and theirs["d_mismatch"] != theirs["d_real"]


@pytest.mark.parametrize("name", ["generator", "discriminator"])
def test_gradients_and_weights_after_a_step_are_the_same(released_step: ModuleType, name: str) -> None:
    pair = Pair(released_step)
    pair.step(0)
    for key, ours, theirs in pair.gradients(name):
        assert theirs.abs().max() > 0, key
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5 * theirs.abs().max().item(), msg=key)
    theirs_after = getattr(pair.theirs, name).state_dict()
    for key, ours in getattr(pair.ours, name).state_dict().items():
        torch.testing.assert_close(ours, theirs_after[key], rtol=1e-3, atol=1e-5, msg=key)


def test_the_released_step_does_the_work_that_it_is_there_for(released_step: ModuleType) -> None:
    """Without these, the comparison would flatter it."""
    pair = Pair(released_step)
    step, looked, texts = pair.their_step, [], []
    look, encode = step.look, step.encode

    def noted_look(images: Tensor) -> tuple[Tensor, Tensor]:
        looked.append(images)
        return look(images)

    def noted_encode(captions: list[str]) -> Tensor:
        texts.append(encode(captions))
        return texts[-1]

    step.look, step.encode = noted_look, noted_encode
    pair.step(0)
    real, fake = looked
    assert real.grad is not None and real.grad.abs().max() > 0, "D's loss goes back to the pixels"
    assert texts[0].grad is not None and fake.requires_grad
    discriminator = pair.theirs.discriminator
    assert all(p.requires_grad for p in discriminator.parameters())
    assert all(p.grad is not None for name, p in discriminator.named_parameters() if ".dead_shortcut." not in name)
    assert all(p.grad is None for p in pair.ours.discriminator.parameters())
    assert not any(block.folded for block in pair.theirs.generator.image_generator.blocks)


@pytest.mark.slow
def test_the_benchmark_runs_and_finds_both_steps_the_same(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    options = ["--preset", "tiny", "--batch", "3", "--steps", "2", "--threads", "1", "--sweep", "--cells", "tiny:2"]
    command = [sys.executable, str(BENCHMARKS / "train_step.py"), *options, "--out", str(out)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr
    result = json.loads(out.read_text())
    assert 0 <= result["largest_difference"] <= 1e-5
    for kind in ("released", "ours"):
        parts = result["parts"][kind]
        assert result["peak_bytes"][kind] > 1e8 and len(result["all_seconds"][kind]) == 2
        assert sum(parts.values()) == pytest.approx(result["seconds"][kind])
        assert all(seconds > 0 for name, seconds in parts.items() if name != "everything else")
    assert result["ratio"] == result["seconds"]["released"] / result["seconds"]["ours"]
    assert [(row["preset"], row["batch"]) for row in result["sweep"]] == [("tiny", 2)]
    assert "| peak memory, GiB |" in ended.stdout and "ratio" in ended.stdout
