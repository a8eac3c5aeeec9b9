"""Distances between images, differentiable."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_PYRAMID_LEVELS = 4


def pyramid_l1(one: Tensor, other: Tensor) -> Tensor:
    """Mean L1 between images, both [B, C, S, S], over a pyramid.

    The mean over the images themselves and their averages over squares of 2, 4 and 8 pixels (as far as S can be
    divided): the coarse levels are about layout and colour and leave room for detail.
    """
    difference = one.float() - other.float()
    levels = [difference.abs().mean()]
    while len(levels) < _PYRAMID_LEVELS and difference.shape[-1] % 2 == 0:
        difference = F.avg_pool2d(difference, 2)
        levels.append(difference.abs().mean())
    return torch.stack(levels).mean()


def energy_distances(fake: Tensor, real: Tensor, other_fake: Tensor) -> tuple[Tensor, Tensor]:
    """How far generated images are from the real one of their caption, and from another generated one of it.

    With X and X' independent, `E d(X, x) - 1/2 E d(X, X')` is the energy score (Gneiting and Raftery, "Strictly Proper
    Scoring Rules", 2007): least, for each pixel of each level, where generated images are distributed as real ones are.
    The first term alone, as in Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", 2017,
    is least where every noise gives the median. By symmetry the first minus the second, with X' held fixed, has the
    gradient of that score.

    Args:
        fake: X, [B, C, S, S].
        real: x, the real images of the same captions.
        other_fake: X', images of the same captions from other noise, not differentiated.

    Returns:
        The two distances, by `pyramid_l1`.
    """
    return pyramid_l1(fake, real), pyramid_l1(fake, other_fake.detach())
