"""Conditional layers that every part of Mate-G is made of (paper, section 3.2; DF-GAN's fusion block)."""

import torch.nn.functional as F
from torch import Tensor, nn

LEAKY_SLOPE = 0.2
"""Negative slope of every LeakyReLU in GALIP."""


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
        gamma = self.gamma(cond)[:, :, None, None]  # [B, C] -> [B, C, 1, 1]
        beta = self.beta(cond)[:, :, None, None]
        # Added in place: the product is nobody else's. Not torch.addcmul: its fused rounding differs from the released
        # network's and flips enough LeakyReLUs to show in the gradients.
        return (gamma * x).add_(beta)


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
        # In place: the affine layer's output is nobody else's and its backward does not need it, so that each
        # activation is one stored map instead of two.
        x = F.leaky_relu(self.affine0(x, cond), LEAKY_SLOPE, inplace=True)
        return F.leaky_relu(self.affine1(x, cond), LEAKY_SLOPE, inplace=True)
