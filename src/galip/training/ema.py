"""The exponential moving average of the generator's weights, which is what users get."""

import copy
from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def frozen_copy(network: Network) -> Network:
    """A copy that starts the average: same weights, in eval mode, without gradients."""
    return copy.deepcopy(network).eval().requires_grad_(False)


@torch.no_grad()
def update_ema(
    average: nn.Module, network: nn.Module, batch: int, seen: int, half_life: int, ramp: float | None
) -> None:
    """Move `average` towards `network` after a step.

    Args:
        average, network: same architecture.
        batch: images in this step.
        seen: images seen in the run, this step included.
        half_life: in images; 0: the average is the network itself.
        ramp: the half-life is at most this share of `seen`, so that early noise is forgotten; None: fixed.
    """
    if ramp is not None and half_life:
        half_life = min(half_life, max(1, int(ramp * seen)))
    decay = 0.5 ** (batch / half_life) if half_life else 0.0
    averaged: list[torch.Tensor] = list(average.parameters())
    current = list(network.parameters())
    torch._foreach_lerp_(averaged, [p.to(a.dtype) for p, a in zip(current, averaged, strict=True)], 1 - decay)
    for kept, buffer in zip(average.buffers(), network.buffers(), strict=True):
        kept.copy_(buffer)
