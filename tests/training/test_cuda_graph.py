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

from galip.errors import GalipError, InputError
from galip.training.config import RunConfig, TrainConfig
from galip.training.cuda_graph import WARMUP_STEPS, GraphedCall, check_capturable
from galip.training.loop import Trainer
from galip.training.plan import plan
from galip.training.step import GANStep
from galip.training.tensors import Bundle


def on_gpu(toy_data: Path, toy_clip: Path, **run: Any) -> TrainConfig:
    config = toy.config(toy_data, toy_clip, device="cuda", batch=8, images=96, **run)
    return config.model_copy(update={"loss": config.loss.model_copy(update={"paired": 1.0, "colour": 0.5})})


def rows(trainer: Trainer, steps: int) -> list[dict[str, float]]:
    """The last third at a tenth of the rates."""
    sentences = trainer.sentences()
    taken = []
    for number, batch in enumerate(islice(trainer.loader(), steps)):
        lr_multiplier = 1.0 if number < 2 * steps // 3 else 0.1
        taken.append(trainer.take_step(batch, sentences(batch.captions), lr_multiplier).numbers())
    return taken


def weights(trainer: Trainer) -> list[torch.Tensor]:
    networks = trainer.networks
    return [p.detach().cpu() for part in (networks.generator, networks.discriminator) for p in part.parameters()]


@pytest.mark.gpu
def test_a_recorded_step_is_the_plain_one(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    trainers = [Trainer(on_gpu(toy_data, toy_clip, cuda_graph=graph), tmp_path) for graph in (False, True)]
    plain, recorded = (rows(trainer, 12) for trainer in trainers)
    for ours, theirs in zip(recorded, plain, strict=True):
        assert ours == pytest.approx(theirs, rel=0.02, abs=0.02)
    assert recorded[-1] != recorded[-2]
    start = weights(Trainer(on_gpu(toy_data, toy_clip), tmp_path))
    moved = torch.cat([(a - b).flatten() for a, b in zip(weights(trainers[0]), start, strict=True)])
    apart = torch.cat([(a - b).flatten() for a, b in zip(*map(weights, trainers), strict=True)])
    assert apart.norm() < 0.2 * moved.norm()


@pytest.mark.gpu
def test_a_recorded_run_goes_on_with_or_without_recording(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    Trainer(on_gpu(toy_data, toy_clip, cuda_graph=True, checkpoint_every=48), tmp_path).fit()
    for graph in (False, True):
        config = on_gpu(toy_data, toy_clip, cuda_graph=graph)
        config = config.model_copy(update={"run": config.run.model_copy(update={"images": 192})})
        trainer = Trainer(config, tmp_path, resume="latest")
        assert trainer.seen == 96
        before = weights(trainer)
        found = rows(trainer, 6)
        assert all(torch.isfinite(torch.tensor(list(row.values()))).all() for row in found)
        assert not any(torch.equal(a, b) for a, b in zip(weights(trainer), before, strict=True) if a.numel() > 1)


@pytest.mark.gpu
def test_a_batch_of_another_form_gets_a_recording_of_its_own(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    trainer = Trainer(on_gpu(toy_data, toy_clip, cuda_graph=True), tmp_path)
    sentences = trainer.sentences()
    for number, batch in enumerate(islice(trainer.loader(), 10)):
        captions = ["rain"] * 8 if number % 2 else batch.captions
        row = trainer.take_step(replace(batch, captions=captions), sentences(captions)).numbers()
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
    with pytest.raises(GalipError, match=r"not permitted when stream is capturing\); set run\.cuda_graph=false$"):
        recorded(given)


@pytest.mark.parametrize("recorded", [False, True])
def test_a_dry_run_measures_the_steps_that_most_of_the_run_takes(
    toy_data: Path, toy_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: bool
) -> None:
    trainer = Trainer(toy.config(toy_data, toy_clip), tmp_path)
    config = trainer.config
    trainer.config = config.model_copy(update={"run": config.run.model_copy(update={"cuda_graph": recorded})})
    slow = [0.3] * (WARMUP_STEPS + 1 if recorded else 1)
    monkeypatch.setattr(GANStep, "__call__", lambda *arguments: time.sleep(slow.pop() if slow else 0))
    assert plan(trainer).seconds_per_step < 0.1
    assert not slow


def test_a_recording_needs_a_gpu(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"run\.cuda_graph needs a CUDA GPU, and this run computes on cpu"):
        Trainer(toy.config(toy_data, toy_clip, cuda_graph=True), tmp_path)


@pytest.mark.parametrize(
    ("run", "world", "message"),
    [
        ({}, 2, r"is for one process, and 2 were launched"),
        ({"precision": "fp16"}, 1, r"loss scaler's decisions; set run\.precision to bf16"),
        ({"micro_batch": 4}, 1, r"leave run\.micro_batch out"),
        ({"compile": True}, 1, r"and run\.compile have not been seen"),
        ({"checkpoint_vit": True}, 1, r"run\.checkpoint_vit does the opposite"),
    ],
)
def test_what_cannot_be_recorded_is_named(run: dict[str, Any], world: int, message: str) -> None:
    class GPU:
        device = torch.device("cuda")

    processes: Any = GPU()
    processes.world = world
    with pytest.raises(InputError, match=rf"run\.cuda_graph .*{message}"):
        check_capturable(RunConfig(images=8, batch=8, **run), processes)
