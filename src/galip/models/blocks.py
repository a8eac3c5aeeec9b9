"""The conditional blocks that Mate-G is built of, each in the forms in which it can be computed (paper, section 3.3).

A form says how a block is computed, not what: the function and its weights are the same. As built, a block computes
what the paper writes, in its order. `folded` does the work before upsampling; `stacked` computes the predictors of a
block's modulations together. `MateGenerator.fold` and `MateGenerator.for_inference` choose.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from galip.models.layers import FusionBlock, Modulation, fuse


class BridgeBlock(nn.Module):
    """Residual block of the Bridge-FP: `x + fuse2(conv2(fuse1(conv1(x))))`, through a narrower middle.

    Args:
        channels: channels in and out.
        hidden: channels in the middle.
        cond_dim: length of the condition vector.
    """

    def __init__(self, channels: int, hidden: int, cond_dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, hidden, 3, padding=1)
        self.fuse1 = FusionBlock(hidden, cond_dim)
        self.conv2 = nn.Conv2d(hidden, channels, 3, padding=1)
        self.fuse2 = FusionBlock(channels, cond_dim)
        self.stacked = False

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        """Refine `x` [B, channels, g, g] under `cond` [B, cond_dim]."""
        first, second = _modulations(self, cond)
        h = fuse(self.conv1(x), first)
        out: Tensor = x + fuse(self.conv2(h), second)
        return out


class UpBlock(nn.Module):
    """Nearest-neighbour upsampling with text fusion: `shortcut(x) + conv2(fuse2(conv1(fuse1(x))))`, x upsampled.

    Args:
        in_channels: channels in.
        out_channels: channels out; where they differ from `in_channels` the shortcut is a 1x1 convolution.
        cond_dim: length of the condition vector.
        size: side of the output in pixels; need not be a multiple of the input's.
    """

    def __init__(self, in_channels: int, out_channels: int, cond_dim: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.fuse1 = FusionBlock(in_channels, cond_dim)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.fuse2 = FusionBlock(out_channels, cond_dim)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)
        self.folded = self.stacked = False

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        """`x` [B, in_channels, s, s] and `cond` [B, cond_dim] -> [B, out_channels, size, size]."""
        first, second = _modulations(self, cond)
        if not self.folded:
            x = self._upsample(x)
            plain: Tensor = self.shortcut(x) + self.conv2(fuse(self.conv1(fuse(x, first)), second))
            return plain
        # The 1x1 shortcut and the fusion work on each pixel alone, so they commute with nearest-neighbour upsampling:
        # done before it they give the same numbers for a quarter of the work.
        h = self._upsample_and_convolve(fuse(x, first))
        out: Tensor = self._upsample(self.shortcut(x)) + self.conv2(fuse(h, second))
        return out

    def _upsample(self, x: Tensor) -> Tensor:
        return F.interpolate(x, size=(self.size, self.size), mode="nearest")

    def _upsample_and_convolve(self, x: Tensor) -> Tensor:
        """`conv1` of the upsampled `x`; where the side doubles exactly, as one transposed convolution.

        Each pixel of a doubled image stands there four times, so the 3x3 kernel meets only 2x2 different ones: a 4x4
        kernel of its sums, stride 2, gives the same numbers (at the borders too) with 16 products instead of 36.
        """
        if self.size != 2 * x.shape[-1]:
            out: Tensor = self.conv1(self._upsample(x))
            return out
        weight = _taps_of_doubled(_taps_of_doubled(self.conv1.weight, 2), 3).transpose(0, 1)
        return F.conv_transpose2d(x, weight, self.conv1.bias, stride=2, padding=1)


def _modulations(block: BridgeBlock | UpBlock, cond: Tensor) -> list[Modulation]:
    """Of a block's two fusion blocks."""
    fusions = [block.fuse1, block.fuse2]
    return _stacked_modulations(fusions, cond) if block.stacked else [fusion.modulation(cond) for fusion in fusions]


def _stacked_modulations(fusions: list[FusionBlock], cond: Tensor) -> list[Modulation]:
    """What `modulation(cond)` is for each of `fusions`, in few and large products.

    The first layers of all predictors are one matrix product, the second layers of a fusion block one batch of them.
    The stacked weights are made of the predictors' own at each call: engines do that once, when they load the graph.
    """
    heads: list[list[Any]] = [fusion.heads for fusion in fusions]
    firsts = [head[0] for group in heads for head in group]
    weight, bias = torch.cat([first.weight for first in firsts]), torch.cat([first.bias for first in firsts])
    widths = [sum(head[0].out_features for head in group) for group in heads]
    parts = F.relu(F.linear(cond, weight, bias)).split(widths, dim=1)
    return [_second_layers(fusion, part) for fusion, part in zip(fusions, parts, strict=True)]


def _second_layers(fusion: FusionBlock, hidden: Tensor) -> Modulation:
    """The modulation of `hidden` [B, 4*C], what the predictors' first layers gave one after the other."""
    seconds: list[Any] = [head[2] for head in fusion.heads]
    x = hidden.unflatten(1, (len(seconds), -1)).transpose(0, 1)  # [B, 4*C] -> [4, B, C]
    weight = torch.stack([second.weight.T for second in seconds])
    bias = torch.stack([second.bias for second in seconds])[:, None]
    maps = (torch.matmul(x, weight) + bias).unflatten(2, (-1, 1, 1))  # [4, B, C, 1, 1]
    return [maps[i] for i in range(len(seconds))]


def _taps_of_doubled(weight: Tensor, dim: int) -> Tensor:
    """3 taps -> the 4 of a transposed convolution: each sums those that fall on the same pixel of a doubled row."""
    first, middle, last = weight.unbind(dim)
    return torch.stack([last, middle + last, first + middle, first], dim)
