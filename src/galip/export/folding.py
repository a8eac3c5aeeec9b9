"""Mate-G rearranged for drawing: the same function of the same weights with less arithmetic and fewer, larger products.

What is rearranged, all of it exact but for rounding:

* Nearest-neighbour upsampling commutes with the fusion block and the 1x1 shortcut, which work on each pixel alone: both
  are done before it.
* Where the side doubles exactly, upsampling and the 3x3 convolution after it are one transposed 4x4 convolution of
  stride 2, whose weights are computed here once.
* The first layers of all affine MLPs that see the same condition are one matrix product, the second layers of equal
  width one batch of products.
* In the transformer query, key and value are one product, and a prompt token, which is dropped after its block, is
  nobody's query and does not pass the MLP.

`MateGenerator.fold` does the first two in place and keeps every weight trainable; here weights are a frozen copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, groupby
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from galip.export.folded_layers import Conv, Linear, copy_weight
from galip.export.folded_vision import FoldedVision
from galip.models.blocks import BridgeBlock, UpBlock
from galip.models.clip import FrozenCLIPVision
from galip.models.generator import MateGenerator
from galip.models.layers import LEAKY_SLOPE, FusionBlock


def fold(generator: MateGenerator) -> FoldedGenerator:
    """The same function as `generator`, rearranged for drawing. Its weights are copied: fold again when they change."""
    return FoldedGenerator(generator)


class FoldedGenerator(nn.Module):
    """Mate-G for drawing, with `MateGenerator`'s own call. Made by `fold`.

    It has no trainable weights, may be moved and cast like any module (also to bfloat16), and leaves the generator that
    it was made from alone.

    Args:
        generator: the generator to copy.
    """

    def __init__(self, generator: MateGenerator) -> None:
        super().__init__()
        self.z_dim, self.cond_dim = generator.z_dim, generator.cond_dim
        self.num_stages, self.image_size = generator.num_stages, generator.image_size
        self.prompt_blocks = generator.prompt_blocks
        self.concept_scale = generator.image_generator.concept_scale
        # Any: mypy sees the blocks of a ModuleList as mere modules.
        bridge: Any = generator.bridge_predictor
        image: Any = generator.image_generator

        self.bridge_shape = (bridge.channels, bridge.grid, bridge.grid)
        self.bridge_from_condition = bridge.from_condition
        self.bridge_linear = Linear(bridge.linear.weight, bridge.linear.bias)
        self.bridge_blocks = nn.ModuleList(FoldedBridgeBlock(block) for block in bridge.blocks)
        self.bridge_conv = Conv(bridge.conv)
        linear = generator.prompt_predictor.linear
        self.prompt_linear = Linear(linear.weight, linear.bias)
        self.prompt_shape = (len(self.prompt_blocks), generator.prompt_predictor.width)
        self.stem = Conv(image.stem)
        sizes = [bridge.grid, *(block.size for block in image.blocks)]
        self.up_blocks = nn.ModuleList(
            FoldedUpBlock(block, size) for block, size in zip(image.blocks, sizes, strict=False)
        )
        self.to_rgb = Conv(image.to_rgb)
        # The stages that modulate: the bridge with all its blocks, then each up-block.
        self.modulations = Modulations(
            [_fusion_blocks(bridge.blocks), *map(_fusion_blocks, ([b] for b in image.blocks))]
        )
        self.requires_grad_(False).eval()

    def forward(self, z: Tensor, e: Tensor, vision: FrozenCLIPVision | FoldedVision) -> Tensor:
        """Draw pictures; see `MateGenerator.forward`. A vision from `fold_vision` is faster.

        Args:
            z: [B, z_dim], noise ~ N(0, I).
            e: un-normalised sentence vectors, [B, cond_dim], or one for each stage, [B, num_stages, cond_dim].
            vision: the frozen CLIP-ViT.

        Returns:
            [B, 3, S, S] in about [-1, 1], not clamped.
        """
        dtype = self.prompt_linear.weight.dtype
        z, e = z.to(dtype), e.to(dtype)
        if e.ndim == 2:
            shared = torch.cat([z, e], dim=1)
            bridge_cond, prompt_cond, modulations = shared, shared, self.modulations.of_one(shared)
        else:
            conds = [torch.cat([z, e[:, stage]], dim=1) for stage in range(self.num_stages)]
            bridge_cond, prompt_cond, modulations = conds[0], conds[1], self.modulations.of_each([conds[0], *conds[2:]])

        x = self.bridge_linear(bridge_cond if self.bridge_from_condition else z)
        x = x.unflatten(1, self.bridge_shape)  # [B, C*g*g] -> [B, C, g, g]
        at = 0
        for block in self.bridge_blocks:
            x = block(x, modulations[0][at : at + 2])
            at += 2
        bridge = self.bridge_conv(x)
        prompts = self.prompt_linear(prompt_cond).unflatten(1, self.prompt_shape)  # [B, P*C] -> [B, P, C]
        concepts = vision.induce(bridge, prompts, self.prompt_blocks)
        x = self.stem(bridge + self.concept_scale * concepts)
        for block, modulation in zip(self.up_blocks, modulations[1:], strict=True):
            x = block(x, modulation)
        out: Tensor = self.to_rgb(F.leaky_relu(x, LEAKY_SLOPE))
        return out


# ---- modulation


class Modulations(nn.Module):
    """The affine MLPs of all stages: first layers stacked, second layers batched.

    Args:
        stages: the fusion blocks of each stage, in the order of their use.
    """

    def __init__(self, stages: list[list[FusionBlock]]) -> None:
        super().__init__()
        heads: list[list[Any]] = [[head for fusion in stage for head in _heads(fusion)] for stage in stages]
        firsts: list[nn.Linear] = [head[0] for stage in heads for head in stage]
        self.first = Linear(torch.cat([f.weight for f in firsts]), torch.cat([f.bias for f in firsts]))
        self.rows = [sum(head[0].out_features for head in stage) for stage in heads]
        self.seconds = nn.ModuleList(Seconds([head[2] for head in stage]) for stage in heads)

    def of_one(self, cond: Tensor) -> list[list[list[Tensor]]]:
        """For each stage, for each of its fusion blocks, (gamma0, beta0, gamma1, beta1), each [B, C, 1, 1].

        Args:
            cond: [B, cond_dim], the condition of all stages.
        """
        hidden = F.relu(self.first(cond)).split(self.rows, dim=1)
        return [second(h) for second, h in zip(self.seconds, hidden, strict=True)]

    def of_each(self, conds: Sequence[Tensor]) -> list[list[list[Tensor]]]:
        """The same with a condition [B, cond_dim] for each stage."""
        starts = [0, *accumulate(self.rows)]
        out = []
        for second, cond, start, rows in zip(self.seconds, conds, starts, self.rows, strict=False):
            weight, bias = self.first.weight[start : start + rows], self.first.bias[start : start + rows]
            out.append(second(F.relu(F.linear(cond, weight, bias))))
        return out


class Seconds(nn.Module):
    """The second layers of a stage's affine MLPs; neighbours of equal width are one batch of matrix products."""

    def __init__(self, layers: list[nn.Linear]) -> None:
        super().__init__()
        batches = [Batch(list(group)) for _, group in groupby(layers, lambda one: one.in_features)]
        self.sizes = [batch.count * batch.width for batch in batches]
        self.groups = nn.ModuleList(batches)

    def forward(self, hidden: Tensor) -> list[list[Tensor]]:
        """`hidden` [B, sum of widths] -> the fusion blocks' four maps each."""
        parts = hidden.split(self.sizes, dim=1)
        maps = [one for batch, part in zip(self.groups, parts, strict=True) for one in batch(part)]
        return [maps[i : i + 4] for i in range(0, len(maps), 4)]


class Batch(nn.Module):
    """Linear layers of equal width, each for its own part of the input, as one batch of matrix products."""

    def __init__(self, layers: list[nn.Linear]) -> None:
        super().__init__()
        self.count, self.width = len(layers), layers[0].in_features
        self.register_buffer("weight", torch.stack([one.weight.detach().T for one in layers]))  # [n, C, C]
        self.register_buffer("bias", torch.stack([one.bias.detach() for one in layers])[:, None])  # [n, 1, C]

    weight: Tensor
    bias: Tensor

    def forward(self, hidden: Tensor) -> tuple[Tensor, ...]:
        """[B, n*C] -> n maps [B, C, 1, 1]."""
        x = hidden.unflatten(1, (self.count, self.width)).transpose(0, 1)  # [n, B, C]
        out = torch.matmul(x, self.weight) + self.bias
        return out[..., None, None].unbind(0)


def _fusion_blocks(blocks: Sequence[nn.Module]) -> list[FusionBlock]:
    out: list[FusionBlock] = []
    for block in blocks:
        assert isinstance(block, BridgeBlock | UpBlock)
        out += [block.fuse1, block.fuse2]
    return out


def _heads(fusion: FusionBlock) -> list[nn.Sequential]:
    return [fusion.affine0.gamma, fusion.affine0.beta, fusion.affine1.gamma, fusion.affine1.beta]


def _fuse(x: Tensor, modulation: Sequence[Tensor]) -> Tensor:
    """The fusion block with its affine parameters at hand: affine, LeakyReLU, affine, LeakyReLU."""
    gamma0, beta0, gamma1, beta1 = modulation
    x = F.leaky_relu(torch.addcmul(beta0, gamma0, x), LEAKY_SLOPE)
    return F.leaky_relu(torch.addcmul(beta1, gamma1, x), LEAKY_SLOPE)


# ---- convolutional blocks


class FoldedBridgeBlock(nn.Module):
    """A residual block of the Bridge-FP whose modulation is at hand."""

    def __init__(self, block: BridgeBlock) -> None:
        super().__init__()
        self.conv1, self.conv2 = Conv(block.conv1), Conv(block.conv2)

    def forward(self, x: Tensor, modulations: Sequence[Sequence[Tensor]]) -> Tensor:
        h = _fuse(self.conv1(x), modulations[0])
        return x + _fuse(self.conv2(h), modulations[1])


class FoldedUpBlock(nn.Module):
    """An up-block whose modulation is at hand; everything that can be done before upsampling is."""

    def __init__(self, block: UpBlock, in_size: int) -> None:
        super().__init__()
        self.in_size, self.size = in_size, block.size
        self.doubles = block.size == 2 * in_size
        self.conv1 = DoublingConv(block) if self.doubles else Conv(block.conv1)
        self.conv2 = Conv(block.conv2)
        self.shortcut = nn.Identity() if isinstance(block.shortcut, nn.Identity) else Conv(block.shortcut)

    def forward(self, x: Tensor, modulations: Sequence[Sequence[Tensor]]) -> Tensor:
        h = _fuse(x, modulations[0])
        h = self.conv1(h if self.doubles else self._upsample(h))
        return self._upsample(self.shortcut(x)) + self.conv2(_fuse(h, modulations[1]))

    def _upsample(self, x: Tensor) -> Tensor:
        return F.interpolate(x, size=(self.size, self.size), mode="nearest")


class DoublingConv(nn.Module):
    """Nearest-neighbour doubling and the block's 3x3 convolution as one transposed convolution."""

    def __init__(self, block: UpBlock) -> None:
        super().__init__()
        # A doubled pixel stands there twice in each direction, so neighbouring taps of the 3x3 kernel meet the same
        # one. Their sums are a pool over 2x2 of the padded kernel, mirrored as a transposed convolution reads it.
        sums = 4 * F.avg_pool2d(F.pad(block.conv1.weight.detach(), (1, 1, 1, 1)), 2, stride=1)  # [out, in, 4, 4]
        self.register_buffer("weight", sums.flip(2, 3).transpose(0, 1).contiguous())  # [in, out, 4, 4]
        self.register_buffer("bias", copy_weight(block.conv1.bias))

    weight: Tensor
    bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, self.weight, self.bias, stride=2, padding=1)
