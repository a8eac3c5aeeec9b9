"""Conditional layers that every part of Mate-G is made of (paper, section 3.2; DF-GAN's fusion block)."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

LEAKY_SLOPE = 0.2
"""Negative slope of every LeakyReLU in GALIP."""

Modulation = Sequence[Tensor]
"""What a condition makes of a fusion block: gamma, beta of its first affine layer, then its second's, [B, C, 1, 1]."""


def _affine_head(channels: int, cond_dim: int, initial: float) -> nn.Sequential:
    """Linear -> ReLU -> Linear that answers the constant `initial`, whatever the condition, until it is trained."""
    first, second = nn.Linear(cond_dim, channels), nn.Linear(channels, channels)
    nn.init.zeros_(second.weight)
    nn.init.constant_(second.bias, initial)
    return nn.Sequential(first, nn.ReLU(), second)


class Affine(nn.Module):
    """Conditional affine modulation: `gamma(cond) * x + beta(cond)`, one pair of numbers per channel.

    Training begins at the identity: gamma answers 1 and beta 0 for every condition.

    Args:
        channels: channels of the feature map, and hidden width of both predictors.
        cond_dim: length of the condition vector (noise and sentence vector together).
    """

    def __init__(self, channels: int, cond_dim: int) -> None:
        super().__init__()
        self.gamma = _affine_head(channels, cond_dim, 1.0)
        self.beta = _affine_head(channels, cond_dim, 0.0)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        """Modulate `x` [B, C, H, W] by `cond` [B, cond_dim]; returns [B, C, H, W]."""
        return _modulate(x, _as_map(self.gamma(cond)), _as_map(self.beta(cond)))


class FusionBlock(nn.Module):
    """Deep text-image fusion: affine, LeakyReLU(0.2), affine, LeakyReLU(0.2).

    Args:
        channels: channels of the feature map.
        cond_dim: length of the condition vector.
    """

    def __init__(self, channels: int, cond_dim: int) -> None:
        super().__init__()
        self.affine0 = Affine(channels, cond_dim)
        self.affine1 = Affine(channels, cond_dim)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        """Fuse `cond` [B, cond_dim] into `x` [B, C, H, W]; returns [B, C, H, W] and leaves `x` untouched."""
        return fuse(x, self.modulation(cond))

    def modulation(self, cond: Tensor) -> Modulation:
        """What `cond` [B, cond_dim] makes of this block, for `fuse`."""
        return [_as_map(head(cond)) for head in self.heads]

    @property
    def heads(self) -> list[nn.Sequential]:
        """The predictors of a `Modulation`, in its order."""
        return [self.affine0.gamma, self.affine0.beta, self.affine1.gamma, self.affine1.beta]


def fuse(x: Tensor, modulation: Modulation) -> Tensor:
    """A fusion block whose modulation is at hand: `x` [B, C, H, W] stays untouched."""
    gamma0, beta0, gamma1, beta1 = modulation
    # In place: the affine layer's output is nobody else's and its backward does not need it, so that each activation is
    # one stored map instead of two.
    x = F.leaky_relu(_modulate(x, gamma0, beta0), LEAKY_SLOPE, inplace=True)
    return F.leaky_relu(_modulate(x, gamma1, beta1), LEAKY_SLOPE, inplace=True)


def _modulate(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    # Added in place: the product is nobody else's. Not torch.addcmul: its fused rounding differs from the released
    # network's and flips enough LeakyReLUs to show in the gradients.
    return (gamma * x).add_(beta)


def _as_map(channels: Tensor) -> Tensor:
    return channels[:, :, None, None]  # [B, C] -> [B, C, 1, 1]
