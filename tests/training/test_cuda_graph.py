"""A step that is recorded as a CUDA graph is the same step; what cannot be recorded is refused."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from training import toy
from training.toy import open_run

from galip.errors import GalipError, InputError
from galip.training.config import TrainConfig
from galip.training.cuda_graph import WARMUP_STEPS, GraphedCall, check_capturable
from galip.training.loop import Trainer
from galip.training.plan import plan
from galip.training.step_base import StepStats
from galip.training.tensors import Bundle


def on_gpu(toy_data: Path, toy_clip: Path, cuda_graph: bool = False, images: int = 96) -> TrainConfig:
    return toy.config(
        toy_data,
        toy_clip,
        performance={"device": "cuda", "cuda_graph": cuda_graph},
        schedule={"batch": 8, "images": images},
        checkpoints={"every": 48},
        loss={"paired": 1.0},
        augmentation={"colour": 0.5},
    )


def rows(trainer: Trainer, steps: int) -> list[dict[str, float]]:
    """The last third at a tenth of the rates."""
    vectors = toy.caption_vectors(trainer)
    taken = []
    for number, batch in enumerate(islice(toy.batches(trainer), steps)):
        lr_multiplier = 1.0 if number < 2 * steps // 3 else 0.1
        taken.append(trainer.state.take_step(batch, vectors(batch.captions), lr_multiplier).numbers())
    return taken


def weights(trainer: Trainer) -> list[torch.Tensor]:
    networks = trainer.state.networks
    return [p.detach().cpu() for part in (networks.generator, networks.discriminator) for p in part.parameters()]


@pytest.mark.gpu
def test_a_recorded_step_is_the_plain_one(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    trainers = [open_run(on_gpu(toy_data, toy_clip, cuda_graph=graph), tmp_path) for graph in (False, True)]
    plain, recorded = (rows(trainer, 12) for trainer in trainers)
    for ours, theirs in zip(recorded, plain, strict=True):
        assert ours == pytest.approx(theirs, rel=0.02, abs=0.02)
    assert recorded[-1] != recorded[-2]
    start = weights(open_run(on_gpu(toy_data, toy_clip), tmp_path))
    moved = torch.cat([(a - b).flatten() for a, b in zip(weights(trainers[0]), start, strict=True)])
    apart = torch.cat([(a - b).flatten() for a, b in zip(*map(weights, trainers), strict=True)])
    assert apart.norm() < 0.2 * moved.norm()


@pytest.mark.gpu
def test_a_recorded_run_goes_on_with_or_without_recording(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    open_run(on_gpu(toy_data, toy_clip, cuda_graph=True), tmp_path).fit()
    for graph in (False, True):
        config = on_gpu(toy_data, toy_clip, cuda_graph=graph, images=192)
        trainer = open_run(config, tmp_path, resume="latest")
        assert trainer.state.seen == 96
        before = weights(trainer)
        found = rows(trainer, 6)
        assert all(torch.isfinite(torch.tensor(list(row.values()))).all() for row in found)
        assert not any(torch.equal(a, b) for a, b in zip(weights(trainer), before, strict=True) if a.numel() > 1)


@pytest.mark.gpu
def test_a_batch_of_another_form_gets_a_recording_of_its_own(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    trainer = open_run(on_gpu(toy_data, toy_clip, cuda_graph=True), tmp_path)
    vectors = toy.caption_vectors(trainer)
    for number, batch in enumerate(islice(toy.batches(trainer), 10)):
        captions = ["rain"] * 8 if number % 2 else batch.captions
        row = trainer.state.take_step(replace(batch, captions=captions), vectors(captions)).numbers()
        assert (row["d_mismatch"] == 0) == (len(set(captions)) == 1)
        assert all(math.isfinite(value) for value in row.values())


@dataclass(frozen=True)
class Pair(Bundle):
    first: torch.Tensor
    second: torch.Tensor | None


class FakeGraph:
    """What a CUDA graph does, on a CPU: repeats what was enqueued while it was recorded, on the same memory."""

    recording: FakeGraph | None = None
    work: Callable[[], None]

    def replay(self) -> None:
        self.work()


@pytest.fixture
def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def recording(graph: FakeGraph) -> Iterator[None]:
        FakeGraph.recording = graph
        yield
        FakeGraph.recording = None

    class FakeStream:
        def wait_stream(self, other: FakeStream) -> None:
            pass

    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
    monkeypatch.setattr(torch.cuda, "graph", recording)
    monkeypatch.setattr(torch.cuda, "Stream", FakeStream)
    monkeypatch.setattr(torch.cuda, "current_stream", FakeStream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())


@pytest.mark.usefixtures("without_gpu")
def test_each_form_of_inputs_is_recorded_once_and_replayed_on_new_values() -> None:
    calls = []

    def step_impl(pair: Pair) -> torch.Tensor:
        calls.append(FakeGraph.recording)
        answer = torch.zeros(1)

        def work() -> None:
            answer.copy_(pair.first + (0 if pair.second is None else pair.second))

        if FakeGraph.recording is None:
            work()
        else:
            FakeGraph.recording.work = work
        return answer

    recorded = GraphedCall(step_impl)
    for number in range(12):
        second = torch.full((1,), 10.0) if number % 3 else None
        given = Pair(torch.full((1,), float(number)), second)
        assert recorded(given).item() == number + (10 if number % 3 else 0)
        assert given.first.item() == number
    assert [graph is None for graph in calls] == [True] * WARMUP_STEPS + [False, False]


@pytest.mark.usefixtures("without_gpu")
def test_a_step_that_cannot_be_recorded_names_the_remedy() -> None:
    def step_impl(pair: Pair) -> torch.Tensor:
        if FakeGraph.recording is not None:
            raise RuntimeError("operation not permitted when stream is capturing\nand more")
        return pair.first

    recorded, given = GraphedCall(step_impl), Pair(torch.zeros(1), None)
    for _ in range(WARMUP_STEPS):
        recorded(given)
    with pytest.raises(GalipError, match=r"stream is capturing\); set performance\.cuda_graph=false$"):
        recorded(given)


@pytest.mark.parametrize("captured", [False, True])
def test_a_dry_run_measures_the_steps_that_most_of_the_run_takes(
    toy_data: Path, toy_clip: Path, tmp_path: Path, captured: bool
) -> None:
    trainer = open_run(toy.config(toy_data, toy_clip), tmp_path)
    trainer.state.config = toy.change(trainer.config, performance={"cuda_graph": captured})
    slow = [0.3] * (WARMUP_STEPS + 1 if captured else 1)

    def slow_at_first(*arguments: Any) -> StepStats:
        time.sleep(slow.pop() if slow else 0)
        return StepStats()

    trainer.state.take_step = slow_at_first
    assert plan(trainer).seconds_per_step < 0.1
    assert not slow


def test_a_recording_needs_a_gpu(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"performance\.cuda_graph needs a CUDA GPU, and this run computes on cpu"):
        open_run(toy.config(toy_data, toy_clip, performance={"cuda_graph": True}), tmp_path)


@pytest.mark.parametrize(
    ("run", "world", "message"),
    [
        ({}, 2, r"is for one process, and 2 were launched"),
        ({"precision": "fp16"}, 1, r"loss scaler's decisions; set performance\.precision to bf16"),
        ({"micro_batch": 4}, 1, r"leave performance\.micro_batch out"),
        ({"compile": True}, 1, r"and performance\.compile have not been seen"),
        ({"checkpoint_vit": True}, 1, r"performance\.checkpoint_vit does the opposite"),
    ],
)
def test_what_cannot_be_captured_is_named(run: dict[str, Any], world: int, message: str) -> None:
    class GPU:
        device = torch.device("cuda")

    distributed: Any = GPU()
    distributed.world = world
    sections = {"schedule": {"images": 8, "batch": 8}, "performance": run}
    config = TrainConfig.model_validate({"name": "toy", "data": {"source": "."}, **sections})
    with pytest.raises(InputError, match=rf"performance\.cuda_graph .*{message}"):
        check_capturable(config, distributed)
