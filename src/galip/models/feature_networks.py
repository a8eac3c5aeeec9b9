"""Frozen vision networks as a discriminator looks through them: images -> feature maps at several depths.

`galip.training.feature_networks` opens them by name; `galip.models.feature_heads` judges what they see.
"""

from collections.abc import Sequence
from math import isqrt
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from typing_extensions import Self


class FeatureNetwork(nn.Module):
    """A vision network that never learns. Gradients flow through it to the images.

    Args:
        network: with its weights; frozen in place.
        mean, std: by which its input in [0, 1] is normalised, three numbers each.
        depths: which of its maps are used; what a number means is the subclass's.
        side: pixels that images are resized to; 0: twice the images' own side, as the first convolution of most
            networks passes over every other pixel, and what it does not see nobody mends.
    """

    _mean: Tensor
    _std: Tensor

    def __init__(
        self, network: nn.Module, mean: Sequence[float], std: Sequence[float], depths: Sequence[int], side: int = 0
    ) -> None:
        super().__init__()
        self.network, self.depths, self.side = network, tuple(depths), side
        self.register_buffer("_mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("_std", torch.tensor(std)[:, None, None], persistent=False)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "Self":
        """Stay in eval mode; `mode` is ignored."""
        return super().train(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps, each [B, C, h, w], of `images` [B, 3, S, S] in about [-1, 1], not clamped."""
        x = (images + 1) / 2
        side = self.side or 2 * x.shape[-1]
        if x.shape[-1] != side:
            x = F.interpolate(x, (side, side), mode="bilinear", align_corners=False, antialias=side < x.shape[-1])
        return self._maps((x - self._mean) / self._std)

    def channels(self) -> list[int]:
        """Channels of each map, found by a look at an empty image."""
        with torch.no_grad():
            return [maps.shape[1] for maps in self(self._mean.new_zeros(1, 3, 64, 64))]

    def _maps(self, x: Tensor) -> list[Tensor]:
        """Maps of normalised images [B, 3, side, side]."""
        raise NotImplementedError


class TimmFeatures(FeatureNetwork):
    """A network of timm; a depth is a number in its `feature_info`."""

    def _maps(self, x: Tensor) -> list[Tensor]:
        network: Any = self.network
        maps: list[Tensor] = network.forward_intermediates(x, indices=list(self.depths), intermediates_only=True)
        return maps


class TransformersFeatures(FeatureNetwork):
    """A vision network of transformers; a depth is a number of its hidden states, 0 is what enters the first block."""

    def _maps(self, x: Tensor) -> list[Tensor]:
        network: Any = self.network
        found = network(pixel_values=x, output_hidden_states=True)
        states = getattr(found, "reshaped_hidden_states", None) or found.hidden_states
        return [spatial(states[depth]) for depth in self.depths]


def spatial(state: Tensor) -> Tensor:
    """A hidden state as a map: [B, C, h, w] as it is; tokens [B, N, C] without the class and register tokens before."""
    if state.ndim == 4:
        return state
    grid = isqrt(state.shape[1])
    return state[:, -(grid**2) :].transpose(1, 2).unflatten(2, (grid, grid))
