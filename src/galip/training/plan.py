"""What a run will take, before it is started: sizes, memory, steps, and time from a few measured steps."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import islice

import torch
from torch import nn

from galip.training.cuda_graph import WARMUP_STEPS
from galip.training.loop import Trainer
from galip.utils.memory import peak_bytes

_MEASURED_STEPS = 3
_GIB = 2**30


@dataclass(frozen=True)
class Plan:
    """The plan of a run, for one process of `processes`.

    Attributes:
        trained, frozen: parameters by network.
        images, batch, micro_batch, processes: of the run; `micro_batch` is what a process holds at once.
        steps: still to come.
        state_gib: weights, gradients, Adam's two moments, average, and frozen networks, estimated from the sizes.
        peak_gib: what the measured steps took at most, everything included.
        seconds_per_step: mean of the measured steps after the first, or after those that precede the recorded ones.
        records: captioned images of the data; None if it is streamed.
    """

    trained: dict[str, int]
    frozen: dict[str, int]
    images: int
    batch: int
    micro_batch: int
    processes: int
    device: str
    steps: int
    state_gib: float
    peak_gib: float
    seconds_per_step: float
    records: int | None

    def lines(self) -> list[str]:
        """The plan as text."""
        hours = self.steps * self.seconds_per_step / 3600
        held = self.batch // self.processes
        text = [
            "trained: " + ", ".join(f"{name} {count:,} parameters" for name, count in self.trained.items()),
            "frozen: " + ", ".join(f"{name} {count:,}" for name, count in self.frozen.items()),
            f"{self.processes} process(es) on {self.device}; each step {self.batch} images, {held} a process, "
            f"{self.micro_batch} at once",
            f"{self.steps:,} steps to {self.images:,} images"
            + (f", {self.images / self.records:.1f} epochs of {self.records:,} images" if self.records else ""),
            f"memory of a process: {self.state_gib:.2f} GiB of weights and optimisers, "
            f"at most {self.peak_gib:.2f} GiB seen",
            f"{self.seconds_per_step:.2f} s a step, {self.batch / self.seconds_per_step:.1f} images/s, "
            f"{hours:.1f} h in all (from {_MEASURED_STEPS} steps)",
        ]
        return text


def plan(trainer: Trainer) -> Plan:
    """Take a few steps with `trainer`, which is spent afterwards, and work out the rest. Nothing is written.

    Args:
        trainer: as it is before `fit`.
    """
    state, device = trainer.state, trainer.distributed.device
    config, stage = state.config, state.stage
    networks = state.networks
    trained: dict[str, nn.Module] = {"generator": networks.generator, "discriminator": networks.discriminator}
    if networks.heads is not None:
        trained["heads"] = networks.heads
    frozen: dict[str, nn.Module] = {"CLIP-ViT": networks.vision.model, "text encoder": networks.text_encoder}
    if networks.t5 is not None:
        frozen["T5"] = networks.t5.model
    if networks.second is not None:
        frozen |= {"second CLIP-ViT": networks.second.vision.model, "second text": networks.second.encoder.model}
    for options, network in zip(config.model.feature_networks, networks.feature_networks, strict=True):
        frozen[options.name] = network
    counts = {name: _count(network) for name, network in trained.items()}
    frozen_counts = {name: _count(network) for name, network in frozen.items()}
    # Weights, gradients and two moments of what is trained, the average, and the frozen networks, four bytes each.
    held = 4 * sum(counts.values()) + counts["generator"] + sum(frozen_counts.values())
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    vectors, times = trainer.data.caption_vectors(networks, state.config, cached=False), []
    first = WARMUP_STEPS + 1 if config.performance.cuda_graph else 1  # steps that are slower than the rest of the run
    for batch in islice(trainer.data.loader(state.step.sample_rng, state.seen), first + _MEASURED_STEPS - 1):
        begun = time.perf_counter()
        state.take_step(batch, vectors(batch.captions))
        times.append(time.perf_counter() - begun)
    later = times[first:]
    return Plan(
        trained=counts,
        frozen=frozen_counts,
        images=stage.end,
        batch=config.schedule.batch,
        micro_batch=min(config.performance.micro_batch or state.per_rank_batch, state.per_rank_batch),
        processes=state.distributed.world,
        device=str(device),
        steps=max(0, -(-(stage.end - state.seen) // config.schedule.batch)),
        state_gib=4 * held / _GIB,
        peak_gib=_peak_bytes(device) / _GIB,
        seconds_per_step=sum(later) / len(later),
        records=trainer.data.records,
    )


def _count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return peak_bytes()
