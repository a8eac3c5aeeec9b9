"""A discriminator that looks at pixels, without CLIP: what the paper compares Mate-D with."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config

# diffusers finds an out-of-tree class only where its defining module holds the name ModelMixin.
from torch import Tensor, nn

from galip.models.discriminator import Assessed, QualityAssessor
from galip.models.layers import LEAKY_SLOPE

if TYPE_CHECKING:
    from typing_extensions import Self

_MIN_GRID = 7
_MAX_FACTOR = 8
_MAX_CHANNELS = 1024
_STEP = 4


class DownBlock(nn.Module):
    """Residual block that halves the side (DF-GAN's): `pool(shortcut(x)) + gamma * res(x)`, gamma starting at 0.

    Args:
        in_channels: channels in.
        out_channels: channels out.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 4, stride=2, padding=1, bias=False)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.shortcut = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """`x` [B, in_channels, s, s] -> [B, out_channels, s / 2, s / 2]."""
        res = F.leaky_relu(self.conv1(x), LEAKY_SLOPE)
        res = F.leaky_relu(self.conv2(res), LEAKY_SLOPE)
        out: Tensor = F.avg_pool2d(self.shortcut(x), 2) + self.gamma * res
        return out


class PlainDiscriminator(Assessed):
    """A convolutional discriminator of image and sentence vector, with Mate-D's quality assessor.

    Where Mate-D takes tapped CLIP features it takes the images, so that a gradient penalty on what it takes is one on
    pixels. Arguments are the saved configuration.

    Args:
        image_size: side of the images in pixels; it is halved while it is even and at least 7 are left.
        channels: of the first map; doubled at each halving, up to eight times as many.
        out_channels: channels of the image features.
        assessor_channels: channels inside the quality assessor.
        cond_dim: length of the sentence vector.

    Raises:
        ValueError: the image is too small.
    """

    tap_blocks: tuple[int, ...] = ()

    @register_to_config
    def __init__(
        self,
        image_size: int = 224,
        channels: int = 64,
        out_channels: int = 512,
        assessor_channels: int = 128,
        cond_dim: int = 512,
    ) -> None:
        super().__init__()
        self.image_size, self.cond_dim = image_size, cond_dim
        grid, halvings = image_size, 0
        while grid % 2 == 0 and grid // 2 >= _MIN_GRID:
            grid, halvings = grid // 2, halvings + 1
        widths = [channels * min(2**number, _MAX_FACTOR) for number in range(halvings)] + [out_channels]
        self.stem = nn.Conv2d(3, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList(DownBlock(before, after) for before, after in pairwise(widths))
        self.quality_assessor = QualityAssessor(out_channels, cond_dim, assessor_channels, grid)

    @classmethod
    def of_size(
        cls, parameters: int, image_size: int, out_channels: int, assessor_channels: int, cond_dim: int
    ) -> Self:
        """One with about so many parameters: `channels` is chosen for that, other arguments are the class's."""
        arguments = {
            "image_size": image_size,
            "out_channels": out_channels,
            "assessor_channels": assessor_channels,
            "cond_dim": cond_dim,
        }

        def misses_by(channels: int) -> int:
            with torch.device("meta"):
                network = cls(channels=channels, **arguments)
            return sum(parameter.numel() for parameter in network.parameters()) - parameters

        low, high = 1, _MAX_CHANNELS // _STEP  # more channels are more parameters
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if misses_by(middle * _STEP) >= 0 else (middle + 1, high)
        nearest = min(
            (number for number in (low - 1, low) if number), key=lambda number: abs(misses_by(number * _STEP))
        )
        return cls(channels=nearest * _STEP, **arguments)

    def features(self, taps: Sequence[Tensor]) -> Tensor:
        """Image features.

        Args:
            taps: the images alone, [B, 3, image_size, image_size] in [-1, 1].

        Returns:
            [B, out_channels, g, g].

        Raises:
            ValueError: number or shape is wrong.
        """
        expected = (3, self.image_size, self.image_size)
        if len(taps) != 1 or tuple(taps[0].shape[1:]) != expected:
            raise ValueError(
                f"taps has shapes {[tuple(tap.shape) for tap in taps]}; this discriminator looks at images, "
                f"[B, {', '.join(map(str, expected))}]"
            )
        x = self.stem(taps[0])
        for block in self.blocks:
            x = block(x)
        return x
