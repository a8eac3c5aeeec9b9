"""Discriminators on the features of frozen networks, beside Mate-D.

After Sauer et al., "Projected GANs Converge Faster", 2021, and "StyleGAN-T", 2023: a small head at each of several
depths, spectrally normalised, which asks of every place whether it is real and fits the caption.
"""

from collections.abc import Sequence
from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

from galip.models.layers import LEAKY_SLOPE


class FeatureHead(nn.Module):
    """Judges one feature map, with the sentence by projection (Miyato and Koyama, "cGANs with Projection", 2018).

    Args:
        in_channels: of the map.
        cond_dim: length of the sentence vector.
        channels: inside the head.
    """

    def __init__(self, in_channels: int, cond_dim: int, channels: int) -> None:
        super().__init__()
        self.enter = spectral_norm(nn.Conv2d(in_channels, channels, 1))
        self.inner = spectral_norm(nn.Conv2d(channels, channels, 3, padding=1))
        self.score = spectral_norm(nn.Conv2d(channels, 1, 1))
        self.text = spectral_norm(nn.Linear(cond_dim, channels))

    def forward(self, features: Tensor, e: Tensor) -> Tensor:
        """Logits [B, h, w] of `features` [B, in_channels, h, w] with sentence vectors `e` [B, cond_dim]."""
        x = F.leaky_relu(self.enter(F.group_norm(features, 1)), LEAKY_SLOPE)
        x = x + F.leaky_relu(self.inner(x), LEAKY_SLOPE)
        sentence = self.text(F.normalize(e, dim=1) * sqrt(x.shape[1]))  # [B, channels], of any vector's direction
        logits: Tensor = self.score(x).squeeze(1) + (x * sentence[:, :, None, None]).mean(1)
        return logits


class FeatureHeads(nn.Module):
    """A head for each map of the feature networks.

    The estimates of spectral norms change in `update_norms` alone, so that what a head says of an image depends neither
    on how often it is asked nor on how a batch is divided.

    Args:
        in_channels: of each map.
        cond_dim: length of the sentence vector.
        channels: inside each head.
    """

    def __init__(self, in_channels: Sequence[int], cond_dim: int, channels: int = 64) -> None:
        super().__init__()
        self.heads = nn.ModuleList(FeatureHead(count, cond_dim, channels) for count in in_channels)
        self.eval()

    def forward(self, maps: Sequence[Tensor], e: Tensor) -> list[Tensor]:
        """Logits of each map, each [B, h, w]."""
        return [head(features, e) for head, features in zip(self.heads, maps, strict=True)]

    @torch.no_grad()
    def update_norms(self) -> None:
        """Bring the estimates of all spectral norms nearer to the present weights, once a step."""
        for module in self.modules():
            if isinstance(module, parametrize.ParametrizationList):
                module.train()
                module()
                module.eval()
