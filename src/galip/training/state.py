"""The state of a run: networks, optimisers, how far it is. All that a checkpoint holds, and all that a step changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

import galip
from galip.conversion.optimizers import Moments, load_moments
from galip.data.samples import Batch
from galip.distributed import Distributed
from galip.model_repo.resolve import fetch
from galip.models.text import measure_scale
from galip.torch_backend.loading import no_progress_bars
from galip.training.batches import per_rank_batch_size
from galip.training.checkpoint import CheckpointInfo, Keep, load_checkpoint, save_checkpoint
from galip.training.config import TrainConfig
from galip.training.cuda_graph import CUDAGraphStep, check_capturable
from galip.training.ema import frozen_copy, update_ema
from galip.training.guards import check_finite
from galip.training.memory import keep_freed_memory
from galip.training.moments import load_moments_into
from galip.training.networks import Networks, build_networks
from galip.training.reconstruction import ReconstructionStep
from galip.training.schedule import lr_multiplier
from galip.training.stages import Stage, grow, next_networks, stages_of
from galip.training.step import GANStep
from galip.training.step_base import StepStats, TakesSteps, TrainingStep, prepare_models
from galip.training.text_vectors import TextVectors

_SCALE_CAPTIONS = 2048


class TrainState:
    """Networks, optimisers and progress of a run in one of its stages; reads no data and writes nothing.

    Args:
        stage: the stage.
        networks: as `build_networks` makes them; they are moved to the run's device.
        distributed: the processes of the run.

    Attributes:
        config: what holds in the stage.
        average: the averaged generator.
        step: the optimisers, and what they do with a batch.
        seen: images seen.
        lr_scale: what the collapse guard has multiplied the learning rates with.
    """

    def __init__(self, stage: Stage, networks: Networks, distributed: Distributed) -> None:
        self.stage, self.config = stage, stage.config
        self.networks, self.distributed = networks, distributed
        config = stage.config
        if config.performance.cuda_graph:
            check_capturable(config, distributed)
        self.per_rank_batch = per_rank_batch_size(
            config.schedule.batch, config.performance.micro_batch, distributed.world
        )
        prepare_models(networks, distributed.device, config.performance.channels_last)
        networks.vision.checkpointing = config.performance.checkpoint_vit
        self.average = frozen_copy(networks.generator)
        make = ReconstructionStep if config.loss.objective == "reconstruct" else GANStep
        self.step: TrainingStep = make(networks, config, distributed)
        self.take_step = self._stepper()
        self.seen = 0
        self.lr_scale = 1.0

    def next_stage(self, stage: Stage) -> TrainState:
        """The state at the beginning of the next stage: weights and average go on, optimisers begin anew.

        Raises:
            InputError: the networks of the two stages have nothing in common.
        """
        networks = next_networks(self.networks, stage.config)
        networks.to_device(self.distributed.device)
        after = TrainState(stage, networks, self.distributed)
        grow(self.average, after.average)
        after.seen = self.seen
        return after

    def _stepper(self) -> TakesSteps:
        return CUDAGraphStep(self.step) if self.config.performance.cuda_graph else self.step

    # ---- a step

    def lr_multiplier(self) -> float:
        """What the configuration's learning rates are multiplied with in the next step."""
        return self.lr_scale * lr_multiplier(self.config.schedule, self.seen - self.stage.start)

    def advance(self, batch: Batch, text: TextVectors) -> StepStats:
        """Take a step with the run's learning rates, and let the average follow.

        Args:
            batch: this process's samples.
            text: vectors of their captions.

        Raises:
            NotFiniteError: a number of the step is not finite; the average has not followed.
        """
        stats = self.take_step(batch, text, self.lr_multiplier(), self.seen - self.stage.start)
        check_finite(stats.numbers())
        size, ema = self.config.schedule.batch, self.config.ema
        self.seen += size
        update_ema(self.average, self.networks.generator, size, self.seen, ema.half_life, ema.ramp)
        return stats

    def begin_with(self, moments: Moments) -> None:
        """Let the optimisers begin with these moments, before the first step.

        Raises:
            InputError: they are of other networks, or an optimiser is not Adam.
        """
        load_moments_into(self.step.optimizers, self.networks, moments)
        self.take_step = self._stepper()

    # ---- checkpoints

    def save(self, folder: Path, config: TrainConfig, **about: Any) -> Path | None:
        """Write a checkpoint of this moment into `folder`; the main process does.

        Args:
            folder: the run's checkpoint folder.
            config: of the whole run.
            about: further fields of `CheckpointInfo`.

        Returns:
            The checkpoint; None on other processes.
        """
        states = self.step.state_dict() | {"random": self.distributed.collect([_random_state(self.distributed.device)])}
        if not self.distributed.is_main:
            return None
        info = CheckpointInfo(
            images=self.seen,
            version=galip.__version__,
            config=config.model_dump(mode="json"),
            stage=self.stage.number,
            lr_scale=self.lr_scale,
            text_scale=None if self.networks.t5 is None else self.networks.t5.scale,
            **about,
        )
        keep = Keep(config.checkpoints.keep, config.checkpoints.keep_every)
        return save_checkpoint(folder, info, self._saved_networks(), states, keep)

    def load(self, checkpoint: Path) -> CheckpointInfo:
        """Go on from a checkpoint.

        Raises:
            GalipError: it is damaged, or of other networks.
        """
        info, states = load_checkpoint(checkpoint, self._saved_networks(), self.distributed.device)
        self.step.load_state_dict(states)
        self.take_step = self._stepper()
        _set_random_state(states["random"], self.distributed.rank)
        self.seen = info.images
        self.lr_scale = float(info.guard.get("lowered", 1.0)) if info.lr_scale is None else info.lr_scale
        if self.networks.t5 is not None and self.config.model.text_scale is None and info.text_scale is not None:
            self.networks.t5.scale = info.text_scale
        return info

    def _saved_networks(self) -> dict[str, nn.Module]:
        networks = self.networks
        saved: dict[str, nn.Module] = {
            "generator": networks.generator,
            "ema": self.average,
            "discriminator": networks.discriminator,
        }
        return saved if networks.heads is None else saved | {"heads": networks.heads}


def build_state(
    config: TrainConfig, distributed: Distributed | None = None, captions: Callable[[int], list[str]] | None = None
) -> TrainState:
    """The state that a run begins with, in its first stage.

    Args:
        config: the run.
        distributed: its processes; None: this one alone, on the configured device.
        captions: gives so many captions of the data, by which a T5's scale is measured where it is not known.

    Raises:
        GalipError: CLIP or configuration are unusable.
    """
    distributed = distributed or Distributed(config.performance.device, "performance.device")
    if config.performance.threads:
        torch.set_num_threads(config.performance.threads)
    if distributed.device.type == "cpu":
        keep_freed_memory()
    with no_progress_bars():
        first = stages_of(config)[0]
        networks = build_networks(first.config)
        networks.to_device(distributed.device)
        state = TrainState(first, networks, distributed)
    if config.model.with_optimizers:
        state.begin_with(load_moments(fetch(config.model.start_from, discriminator=True)))
    if networks.t5 is not None and not networks.t5_scale_known and captions is not None:
        networks.t5.scale = measure_scale(networks.t5, captions(_SCALE_CAPTIONS))
    return state


# ---- the process's random state, which only a future user of torch.rand would need


def _random_state(device: torch.device) -> dict[str, Any]:
    state: dict[str, Any] = {"torch": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _set_random_state(states: list[dict[str, Any]], rank: int) -> None:
    # A process that the checkpoint does not know keeps its fresh state; samples do not depend on it.
    if rank >= len(states):
        return
    state = states[rank]
    torch.set_rng_state(state["torch"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())
