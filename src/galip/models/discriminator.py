"""Mate-D, the CLIP-based discriminator (paper, section 3.2): extraction blocks over CLIP features, quality assessor.

The frozen CLIP-ViT stands outside: `FrozenCLIPVision.taps` makes the features that enter here.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config

# diffusers finds an out-of-tree class only where its defining module holds the name ModelMixin.
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from galip.models.layers import LEAKY_SLOPE


class ExtractionBlock(nn.Module):
    """Residual block over CLIP features; all but the last also take in the next tap.

    Tapped: `x + gamma * res(x) + beta * tap`. Last: `conv1x1(x) + gamma * res(x)`. gamma and beta are scalars that
    start at 0, so that training begins at CLIP's own features.

    Args:
        in_channels: channels in.
        out_channels: channels out; equal to `in_channels` for a tapped block.
        tapped: whether the block takes a tap.
        dead_shortcut: carry the 1x1 convolution that the released network holds in tapped blocks and never uses.

    Raises:
        ValueError: a tapped block would change the number of channels.
    """

    def __init__(self, in_channels: int, out_channels: int, tapped: bool, dead_shortcut: bool = False) -> None:
        super().__init__()
        if tapped and in_channels != out_channels:
            raise ValueError(
                f"in_channels is {in_channels} and out_channels is {out_channels}; a tapped block keeps its channels"
            )
        self.tapped = tapped
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(1))
        if tapped:
            self.beta = nn.Parameter(torch.zeros(1))
            if dead_shortcut:
                self.dead_shortcut = nn.Conv2d(in_channels, out_channels, 1)
        else:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, tap: Tensor | None = None) -> Tensor:
        """`x` [B, in_channels, g, g], and for a tapped block `tap` of the same shape -> [B, out_channels, g, g]."""
        res = F.leaky_relu(self.conv1(x), LEAKY_SLOPE)
        res = F.leaky_relu(self.conv2(res), LEAKY_SLOPE)
        if self.tapped:
            if tap is None:
                raise ValueError("tap is None; a tapped extraction block needs the next tap")
            return x + self.gamma * res + self.beta * tap
        out: Tensor = self.shortcut(x) + self.gamma * res
        return out


class CLIPFeatureExtractor(nn.Module):
    """Trainable part of the CLIP-FE: gathers the tapped CLIP features into one map.

    Starts from the first tap; every further tap enters through an extraction block of its own; a last block without a
    tap sets the number of channels.

    Args:
        width: channels of each tap.
        num_taps: how many taps come in.
        out_channels: channels of the gathered map.
        dead_shortcuts: the released layout, see `ExtractionBlock`.
    """

    def __init__(self, width: int, num_taps: int, out_channels: int, dead_shortcuts: bool = False) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            ExtractionBlock(width, width, tapped=True, dead_shortcut=dead_shortcuts) for _ in range(num_taps - 1)
        )
        self.final = ExtractionBlock(width, out_channels, tapped=False)

    def forward(self, taps: Sequence[Tensor]) -> Tensor:
        """Taps, each [B, width, g, g], shallow to deep -> [B, out_channels, g, g]."""
        x = taps[0]
        for block, tap in zip(self.blocks, taps[1:], strict=True):
            x = block(x, tap)
        out: Tensor = self.final(x)
        return out


class QualityAssessor(nn.Module):
    """Judges image features and sentence vector together: one logit for each image.

    Args:
        in_channels: channels of the image features.
        cond_dim: length of the sentence vector.
        channels: channels between the two convolutions.
        grid: side g of the feature map. Convolutions are not padded: 4x4, then (g - 3)x(g - 3), so that 1x1 is left.

    Raises:
        ValueError: the grid is smaller than 4.
    """

    def __init__(self, in_channels: int, cond_dim: int, channels: int, grid: int) -> None:
        super().__init__()
        if grid < 4:
            raise ValueError(f"grid is {grid}; the quality assessor's first 4x4 convolution needs at least 4")
        self.conv1 = nn.Conv2d(in_channels + cond_dim, channels, 4, bias=False)
        self.conv2 = nn.Conv2d(channels, 1, grid - 3, bias=False)

    def forward(self, features: Tensor, e: Tensor) -> Tensor:
        """Logits [B] of `features` [B, in_channels, g, g] with sentence vectors `e` [B, cond_dim]."""
        sentence = e[:, :, None, None].expand(-1, -1, *features.shape[2:])  # [B, E] -> [B, E, g, g]
        h = F.leaky_relu(self.conv1(torch.cat([features, sentence], dim=1)), LEAKY_SLOPE)
        out: Tensor = self.conv2(h).flatten()  # [B, 1, 1, 1] -> [B]
        return out


class Assessed(ModelMixin, ConfigMixin):
    """What discriminators do with the features that they have gathered, each in its own way."""

    quality_assessor: QualityAssessor
    cond_dim: int

    def features(self, taps: Sequence[Tensor]) -> Tensor:
        """What the image gives, [B, out_channels, g, g]."""
        raise NotImplementedError

    def assess(self, features: Tensor, e: Tensor) -> Tensor:
        """Judge gathered features against sentence vectors; the mismatch term calls it again with other captions.

        Args:
            features: [B, out_channels, grid, grid], from `features`.
            e: [B, cond_dim], un-normalised sentence vectors.

        Returns:
            Logits [B].

        Raises:
            ValueError: `e` does not fit.
        """
        if e.ndim != 2 or e.shape[1] != self.cond_dim or e.shape[0] != features.shape[0]:
            raise ValueError(
                f"e has shape {tuple(e.shape)} beside features {tuple(features.shape)}; "
                f"give one sentence vector of {self.cond_dim} for each image"
            )
        out: Tensor = self.quality_assessor(features, e.to(features.dtype))
        return out

    def forward(self, taps: Sequence[Tensor], e: Tensor) -> Tensor:
        """Logits [B] of what `features` takes, with sentence vectors `e` [B, cond_dim]."""
        return self.assess(self.features(taps), e)


class MateDiscriminator(Assessed):
    """Mate-D: tapped CLIP features and sentence vector -> logit.

    Arguments are the saved configuration; the defaults are the paper's ViT-B/32 size. Differentiable twice, as the
    matching-aware gradient penalty needs.

    Args:
        vision_width: width of the CLIP-ViT.
        grid: side of the CLIP-ViT's patch grid, at least 4.
        tap_blocks: 0-based transformer blocks after which features are tapped, increasing; give them to
            `FrozenCLIPVision.taps`.
        out_channels: channels of the gathered image features.
        assessor_channels: channels inside the quality assessor.
        cond_dim: length of the sentence vector.
        dead_shortcuts: carry the released network's unused 1x1 convolutions, which its checkpoint files hold.

    Raises:
        ValueError: `tap_blocks` is empty or does not increase, or the grid is too small.
    """

    @register_to_config
    def __init__(
        self,
        vision_width: int = 768,
        grid: int = 7,
        tap_blocks: Sequence[int] = (1, 4, 8),
        out_channels: int = 512,
        assessor_channels: int = 128,
        cond_dim: int = 512,
        dead_shortcuts: bool = False,
    ) -> None:
        super().__init__()
        if not tap_blocks or any(a >= b for a, b in pairwise([-1, *tap_blocks])):
            raise ValueError(f"tap_blocks is {tuple(tap_blocks)}; give increasing 0-based block numbers")
        # A saved configuration comes back with lists.
        self.tap_blocks = tuple(tap_blocks)
        self.tap_shape = (vision_width, grid, grid)
        self.cond_dim = cond_dim
        self.feature_extractor = CLIPFeatureExtractor(vision_width, len(tap_blocks), out_channels, dead_shortcuts)
        self.quality_assessor = QualityAssessor(out_channels, cond_dim, assessor_channels, grid)

    def features(self, taps: Sequence[Tensor]) -> Tensor:
        """Gather taps into image features.

        Args:
            taps: one [B, vision_width, grid, grid] for each of `tap_blocks`.

        Returns:
            [B, out_channels, grid, grid].

        Raises:
            ValueError: number or shape of the taps is wrong.
        """
        if len(taps) != len(self.tap_blocks) or any(tuple(tap.shape[1:]) != self.tap_shape for tap in taps):
            raise ValueError(
                f"taps has shapes {[tuple(tap.shape) for tap in taps]}; give {len(self.tap_blocks)} maps "
                f"[B, {', '.join(map(str, self.tap_shape))}], made by vision.taps(images, {self.tap_blocks})"
            )
        out: Tensor = self.feature_extractor(taps)
        return out
