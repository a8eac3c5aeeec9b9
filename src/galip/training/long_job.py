"""Trainings that precede a run: steps on batches, a file from which they go on bit for bit, a folder in the end."""

from __future__ import annotations

import logging
import math
import pickle
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from galip.data.samples import Batch
from galip.errors import GalipError
from galip.training.forecast import Forecast
from galip.training.preparation_config import JobConfig
from galip.utils.atomic import atomic_file, atomic_folder
from galip.utils.progress import Progress

logger = logging.getLogger(__name__)

_SAVE_SECONDS = 240.0
_WARMUP_STEPS = 100
_MAX_NORM = 5.0


class Learner(Protocol):
    """What a job trains.

    Attributes:
        name: of the job, and of its folder.
        purpose: what it is for, in a few words.
        module: all that learns.
    """

    name: str
    purpose: str
    module: nn.Module

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The terms whose sum is made small, by name; what is random depends on the batch's sample numbers alone."""

    def save(self, folder: Path) -> None:
        """Write what was learnt into a new folder."""


def fit(
    learner: Learner,
    options: JobConfig,
    batches: Callable[[int], Iterable[Batch]],
    folder: Path,
    data: str,
    stop: threading.Event,
    progress: Progress,
) -> bool:
    """Train a job to its end, or until it is asked to stop; either way nothing is lost.

    Args:
        learner: what is trained.
        options: how.
        batches: gives the job's batches from a sample number on.
        folder: where the result goes; `<folder>.pt` keeps what is unfinished.
        data: hash of the data, which must not change on the way.
        stop: set when the process is asked to stop.
        progress: told how many images have been seen.

    Returns:
        Whether the job is done.

    Raises:
        GalipError: the progress file is damaged or of other data, or a loss is not finite.
    """
    kept = folder.parent / f"{folder.name}.pt"
    optimizer = _adamw(learner.module, options.lr)
    seen = _restore(kept, learner, optimizer, data)
    steps = -(-options.images // options.batch)
    forecast, saved = Forecast(options.images - seen), time.monotonic()
    for batch in batches(seen) if seen < options.images else ():
        _set_rate(optimizer, options.lr, seen // options.batch, steps)
        terms = learner.losses(batch)
        loss = torch.stack(list(terms.values())).sum()
        if not bool(loss.isfinite()):
            raise GalipError(f"{learner.name}: the loss is not finite after {seen} images; lower its lr")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(learner.module.parameters(), _MAX_NORM)
        optimizer.step()
        seen += options.batch
        progress(learner.name, min(seen, options.images), options.images)
        if (expected := forecast.step(options.batch)) is not None:
            logger.info("%s: %s, %s images, %s", learner.name, learner.purpose, f"{options.images:,}", expected)
        done = seen >= options.images
        if done or stop.is_set() or time.monotonic() - saved > _SAVE_SECONDS:
            saved = time.monotonic()
            state = {"module": learner.module.state_dict(), "optimizer": optimizer.state_dict()}
            with atomic_file(kept) as unfinished:
                torch.save(state | {"seen": seen, "data": data}, unfinished)
        if done:
            logger.info("%s: %s", learner.name, ", ".join(f"{name} {value:.3f}" for name, value in terms.items()))
            break
        if stop.is_set():
            logger.info(
                "%s: stopped at %d of %d images; go on with --resume latest", learner.name, seen, options.images
            )
            return False
    with atomic_folder(folder) as unfinished:
        learner.save(unfinished)
    kept.unlink(missing_ok=True)
    return True


def _restore(kept: Path, learner: Learner, optimizer: torch.optim.Optimizer, data: str) -> int:
    """Go on from the progress file, if there is one; returns the images seen."""
    if not kept.exists():
        return 0
    try:
        state: dict[str, Any] = torch.load(kept, map_location="cpu", weights_only=True)
        if state["data"] != data:
            raise GalipError(f"{kept}: the data has changed since; remove this file to begin anew")
        learner.module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
        return int(state["seen"])
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        why = type(error).__name__
        raise GalipError(f"{kept}: cannot be gone on from ({why}); remove it to begin this anew") from error


def _adamw(module: nn.Module, lr: float) -> torch.optim.Optimizer:
    parameters = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=lr, betas=(0.9, 0.98))


def _set_rate(optimizer: torch.optim.Optimizer, lr: float, step: int, steps: int) -> None:
    warm = min(1.0, (step + 1) / max(1, min(_WARMUP_STEPS, steps // 10)))
    for group in optimizer.param_groups:
        group["lr"] = lr * warm * (0.01 + 0.99 * (1 + math.cos(math.pi * step / steps)) / 2)
