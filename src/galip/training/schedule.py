"""Learning rate over images seen: warm-up, then constant, linear or cosine decay."""

from __future__ import annotations

import math

from galip.training.config import ScheduleConfig


def lr_multiplier(schedule: ScheduleConfig, seen: int) -> float:
    """What the learning rates are multiplied with.

    Args:
        schedule: the run's `schedule` section.
        seen: images seen before this step.

    Returns:
        Above 0 up to 1; 1 throughout with the defaults.
    """
    # At the first step a share of the warm-up, not zero, so that no step is wasted.
    warm = min(1.0, (seen + 1) / schedule.warmup) if schedule.warmup else 1.0
    if schedule.decay == "none":
        return warm
    done = min(1.0, seen / max(1, schedule.images))
    left = 1 - done if schedule.decay == "linear" else 0.5 * (1 + math.cos(math.pi * done))
    return warm * (schedule.decay_to + (1 - schedule.decay_to) * left)
