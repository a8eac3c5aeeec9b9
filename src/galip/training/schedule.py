"""Learning rate over images seen: warm-up, then constant, linear or cosine decay."""

from __future__ import annotations

import math

from galip.training.config import OptimizerConfig


def lr_multiplier(options: OptimizerConfig, seen: int, total: int) -> float:
    """What both learning rates are multiplied with.

    Args:
        options: the run's `optimizer` section.
        seen: images seen before this step.
        total: images of the whole run, where the decay ends.

    Returns:
        Above 0 up to 1; 1 throughout with the defaults.
    """
    # At the first step a share of the warm-up, not zero, so that no step is wasted.
    warm = min(1.0, (seen + 1) / options.warmup) if options.warmup else 1.0
    if options.decay == "none":
        return warm
    done = min(1.0, seen / max(1, total))
    left = 1 - done if options.decay == "linear" else 0.5 * (1 + math.cos(math.pi * done))
    return warm * (options.decay_to + (1 - options.decay_to) * left)
