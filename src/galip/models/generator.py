"""Mate-G, the CLIP-empowered generator (paper, section 3.3).

noise and sentence vector -> bridge feature and prompts -> frozen CLIP-ViT -> visual concepts -> image
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config

# diffusers finds an out-of-tree class only where its defining module holds the name ModelMixin.
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from galip.models.blocks import BridgeBlock, UpBlock
from galip.models.clip import ClipInput, FrozenCLIPVision
from galip.models.layers import LEAKY_SLOPE, Affine

# What the Bridge-FP's first layer makes its coarse map of.
BridgeInput = Literal["noise", "condition"]


class BridgeFeaturePredictor(nn.Module):
    """Bridge-FP: noise and condition -> the bridge feature, which enters CLIP-ViT in place of patch embeddings.

    Args:
        z_dim: length of the noise.
        cond_dim: length of the condition vector (noise and sentence vector together).
        grid: side g of the transformer's patch grid.
        channels: channels of the coarse map that the noise is turned into.
        hidden: channels in the middle of the residual blocks.
        num_blocks: number of residual blocks.
        width: the transformer's width.
        bridge_input: "noise", the paper's: the coarse map is made of the noise alone. "condition": of noise and
            sentence vector, so that the caption decides where in the map things are, not only which channels count.
    """

    def __init__(
        self,
        z_dim: int,
        cond_dim: int,
        grid: int,
        channels: int,
        hidden: int,
        num_blocks: int,
        width: int,
        bridge_input: BridgeInput = "noise",
    ) -> None:
        super().__init__()
        self.grid = grid
        self.channels = channels
        self.from_condition = bridge_input == "condition"
        self.linear = nn.Linear(cond_dim if self.from_condition else z_dim, channels * grid * grid)
        self.blocks = nn.ModuleList(BridgeBlock(channels, hidden, cond_dim) for _ in range(num_blocks))
        self.conv = nn.Conv2d(channels, width, 5, padding=2)

    def forward(self, z: Tensor, cond: Tensor) -> Tensor:
        """Bridge feature [B, width, g, g] of noise `z` [B, z_dim] and `cond` [B, cond_dim]."""
        x = self.linear(cond if self.from_condition else z)
        x = x.unflatten(1, (self.channels, self.grid, self.grid))  # [B, C*g*g] -> [B, C, g, g]
        for block in self.blocks:
            x = block(x, cond)
        out: Tensor = self.conv(x)
        return out


class PromptPredictor(nn.Module):
    """One linear layer: condition -> the prompt tokens of all prompted transformer blocks.

    Args:
        cond_dim: length of the condition vector.
        num_prompts: how many tokens there are (P), in the paper one for each prompted block.
        width: the transformer's width.
    """

    def __init__(self, cond_dim: int, num_prompts: int, width: int) -> None:
        super().__init__()
        self.num_prompts = num_prompts
        self.width = width
        self.linear = nn.Linear(cond_dim, num_prompts * width)

    def forward(self, cond: Tensor) -> Tensor:
        """Prompt tokens [B, P, width] of `cond` [B, cond_dim]."""
        out: Tensor = self.linear(cond).unflatten(1, (self.num_prompts, self.width))
        return out


class ImageGenerator(nn.Module):
    """Bridge feature and visual concepts -> picture, coarse to fine.

    Args:
        width: the transformer's width.
        stem_channels: channels after the first convolution.
        cond_dim: length of the condition vector.
        block_sizes: side of each up-block's output, in pixels.
        block_channels: channels of each up-block's output.
        concept_scale: weight of the visual concepts beside the bridge feature.
        image_channels: 3 for RGB, 4 for RGBA.
    """

    def __init__(
        self,
        width: int,
        stem_channels: int,
        cond_dim: int,
        block_sizes: Sequence[int],
        block_channels: Sequence[int],
        concept_scale: float,
        image_channels: int = 3,
    ) -> None:
        super().__init__()
        self.concept_scale = concept_scale
        self.stem = nn.Conv2d(width, stem_channels, 5, padding=2)
        inputs = [stem_channels, *block_channels[:-1]]
        self.blocks = nn.ModuleList(
            UpBlock(in_channels, out_channels, cond_dim, size)
            for in_channels, out_channels, size in zip(inputs, block_channels, block_sizes, strict=True)
        )
        self.to_rgb = nn.Conv2d(block_channels[-1], image_channels, 3, padding=1)

    def forward(self, bridge: Tensor, concepts: Tensor, conds: Sequence[Tensor]) -> Tensor:
        """Generate the image.

        Args:
            bridge: [B, width, g, g], the bridge feature.
            concepts: [B, width, g, g], the visual concepts.
            conds: a condition [B, cond_dim] for each up-block, coarse to fine.

        Returns:
            [B, image_channels, S, S], an image in about [-1, 1], not clamped.
        """
        x = self.stem(bridge + self.concept_scale * concepts)
        for block, cond in zip(self.blocks, conds, strict=True):
            x = block(x, cond)
        out: Tensor = self.to_rgb(F.leaky_relu(x, LEAKY_SLOPE))
        return out


class MateGenerator(ModelMixin, ConfigMixin):
    """Mate-G: noise and sentence vector to picture, through a frozen CLIP-ViT that it is given at each call.

    The transformer's weights are not part of this model. Arguments are the saved configuration; the defaults are the
    released network (ViT-B/32, 224 px, 51,830,211 parameters). `galip.models.presets` names other sizes.

    Args:
        z_dim: length of the noise z ~ N(0, I).
        cond_dim: length of the sentence vector e.
        vision_width: width of the CLIP-ViT.
        grid: side of the CLIP-ViT's patch grid.
        bridge_channels: channels of the Bridge-FP's coarse map.
        bridge_hidden: channels in the middle of its residual blocks.
        bridge_blocks: number of its residual blocks.
        prompt_blocks: 0-based transformer blocks that get prompt tokens, increasing; none at all is possible.
        concept_scale: weight of the visual concepts beside the bridge feature.
        stem_channels: channels after the Image Generator's first convolution.
        block_sizes: side of each up-block's output in pixels, increasing; the last is the picture's.
        block_channels: channels of each up-block's output.
        clip_input: input mapping of the CLIP-ViT that this model was trained with ("standard" or "released"); recorded
            here so that `FrozenCLIPVision` is built with the same one.
        bridge_input: what the Bridge-FP's coarse map is made of: "noise" (the paper) or "condition", noise and
            sentence vector.
        image_channels: 3 for RGB; 4 for RGBA, the alpha channel in [-1, 1] too and colours not multiplied by it.
        prompt_tokens: prompt tokens of each prompted block; the paper has one.

    Raises:
        ValueError: sizes contradict each other; the message names the argument.
    """

    @register_to_config
    def __init__(
        self,
        z_dim: int = 100,
        cond_dim: int = 512,
        vision_width: int = 768,
        grid: int = 7,
        bridge_channels: int = 64,
        bridge_hidden: int = 32,
        bridge_blocks: int = 4,
        prompt_blocks: Sequence[int] = (1, 2, 3, 4, 5, 6, 7, 8),
        concept_scale: float = 0.1,
        stem_channels: int = 512,
        block_sizes: Sequence[int] = (8, 16, 32, 64, 128, 224),
        block_channels: Sequence[int] = (512, 512, 512, 256, 128, 64),
        clip_input: ClipInput = "standard",
        bridge_input: BridgeInput = "noise",
        image_channels: int = 3,
        prompt_tokens: int = 1,
    ) -> None:
        super().__init__()
        _check_config(grid, prompt_blocks, block_sizes, block_channels, clip_input, bridge_input)
        if image_channels not in (3, 4):
            raise ValueError(f"image_channels is {image_channels}; use 3 for RGB or 4 for RGBA")
        if prompt_tokens < 1:
            raise ValueError(f"prompt_tokens is {prompt_tokens}; for no prompts leave prompt_blocks empty")
        self.image_channels = image_channels
        # A saved configuration comes back with lists.
        self.prompt_blocks = tuple(prompt_blocks)
        self.z_dim = z_dim
        self.cond_dim = cond_dim
        self.image_size = block_sizes[-1]
        self.bridge_predictor = BridgeFeaturePredictor(
            z_dim,
            z_dim + cond_dim,
            grid,
            bridge_channels,
            bridge_hidden,
            bridge_blocks,
            vision_width,
            bridge_input,
        )
        num_prompts = len(self.prompt_blocks) * prompt_tokens
        self.prompt_predictor = PromptPredictor(z_dim + cond_dim, num_prompts, vision_width) if num_prompts else None
        self.vision_width = vision_width
        self.image_generator = ImageGenerator(
            vision_width,
            stem_channels,
            z_dim + cond_dim,
            block_sizes,
            block_channels,
            concept_scale,
            image_channels,
        )

    @property
    def num_stages(self) -> int:
        """How many stages take a condition of their own: bridge, prompts, then the up-blocks coarse to fine."""
        return 2 + len(self.image_generator.blocks)

    def fold(self, folded: bool = True) -> None:
        """Choose how up-blocks are computed: as the paper writes them, or rearranged into the same function for less.

        Folded, the work before an up-block's first convolution is done before upsampling, and that convolution, where
        the side doubles exactly, is one transposed convolution. Weights, and images up to rounding, stay the same.
        Pipelines and the trainer fold; by itself a generator is computed as written.
        """
        for block in self.image_generator.blocks:
            assert isinstance(block, UpBlock)
            block.folded = folded

    def for_inference(self) -> MateGenerator:
        """A copy that shares the weights and computes the same function in the fewest and largest products.

        It is folded, and the predictors of each block's modulations are stacked. This is the form that is exported and
        compiled: weights are rearranged in its forward pass, which an engine does once, when it loads the graph.
        """
        shared = {id(tensor): tensor for tensor in (*self.parameters(), *self.buffers())}
        out: MateGenerator = copy.deepcopy(self, shared)
        out.fold()
        for block in out.modules():
            if isinstance(block, BridgeBlock | UpBlock):
                block.stacked = True
        return out

    @torch.no_grad()
    def truncate(self, factor: float) -> None:
        """Change the weights so that noise `z` does what `factor * z` did: a pipeline's `truncation`, made the default.

        Less spread, cleaner and less varied images: the truncation trick (Brock et al., "Large Scale GAN Training for
        High Fidelity Natural Image Synthesis", 2019), here by scale. In the weights it holds for every engine.

        Args:
            factor: below 1 for less spread, 0 for none.

        Raises:
            ValueError: `factor` is negative or not finite.
        """
        if not 0 <= factor < math.inf:
            raise ValueError(f"factor is {factor}; use 0 or more, below 1 for less spread")
        layers: list[nn.Module] = [self.bridge_predictor.linear]
        if self.prompt_predictor is not None:
            layers.append(self.prompt_predictor.linear)
        for module in self.modules():
            if isinstance(module, Affine):
                layers += [module.gamma[0], module.beta[0]]
        for layer in layers:  # in whose input z stands first, or alone
            assert isinstance(layer, nn.Linear)
            layer.weight[:, : self.z_dim].mul_(factor)

    def bridge(self, z: Tensor, cond: Tensor) -> Tensor:
        """Bridge feature [B, width, g, g] of noise `z` [B, z_dim] and `cond` [B, z_dim + cond_dim]."""
        out: Tensor = self.bridge_predictor(z, cond)
        return out

    def prompts(self, cond: Tensor) -> Tensor:
        """Prompt tokens [B, P, width] of `cond` [B, z_dim + cond_dim], in the order of `prompt_blocks`."""
        if self.prompt_predictor is None:
            return cond.new_empty(cond.shape[0], 0, self.vision_width)
        out: Tensor = self.prompt_predictor(cond)
        return out

    def image(self, bridge: Tensor, concepts: Tensor, cond: Tensor | Sequence[Tensor]) -> Tensor:
        """Picture [B, 3, S, S] of bridge feature and visual concepts, both [B, width, g, g].

        `cond` is one [B, z_dim + cond_dim] for all up-blocks, or a sequence with one for each.
        """
        conds = [cond] * len(self.image_generator.blocks) if isinstance(cond, Tensor) else cond
        out: Tensor = self.image_generator(bridge, concepts, conds)
        return out

    def forward(self, z: Tensor, e: Tensor, vision: FrozenCLIPVision) -> Tensor:
        """Generate images (paper, figure 4).

        Args:
            z: [B, z_dim], noise ~ N(0, I).
            e: un-normalised sentence vectors, [B, cond_dim], or one for each stage, [B, num_stages, cond_dim]
                (order: bridge, prompts, up-blocks coarse to fine).
            vision: the frozen CLIP-ViT, of the configured width and grid.

        Returns:
            [B, image_channels, S, S] in about [-1, 1], not clamped.

        Raises:
            ValueError: `z` or `e` has a wrong shape, or `vision` is not the transformer this model was built for.
        """
        self._check_inputs(z, e)
        dtype = self.bridge_predictor.linear.weight.dtype
        z, e = z.to(dtype), e.to(dtype)
        if e.ndim == 2:
            conds = [torch.cat([z, e], dim=1)] * self.num_stages
        else:
            conds = [torch.cat([z, e[:, stage]], dim=1) for stage in range(self.num_stages)]
        bridge = self.bridge(z, conds[0])
        concepts = vision.induce(bridge, self.prompts(conds[1]), self.prompt_blocks)
        return self.image(bridge, concepts, conds[2:])

    def _check_inputs(self, z: Tensor, e: Tensor) -> None:
        if z.ndim != 2 or z.shape[1] != self.z_dim:
            raise ValueError(f"z has shape {tuple(z.shape)}; give noise [B, {self.z_dim}]")
        per_stage = (self.num_stages, self.cond_dim)
        if e.ndim not in (2, 3) or tuple(e.shape[1:]) not in ((self.cond_dim,), per_stage) or e.shape[0] != z.shape[0]:
            raise ValueError(
                f"e has shape {tuple(e.shape)} and z {tuple(z.shape)}; give as many sentence vectors as noises, "
                f"[B, {self.cond_dim}], or one for each stage, [B, {self.num_stages}, {self.cond_dim}]"
            )


class WholeGenerator(nn.Module):
    """A generator with the transformer that it looks through as one module of tensors, for compilers and exporters.

    Args:
        generator: in any form.
        vision: the frozen CLIP-ViT.
    """

    def __init__(self, generator: MateGenerator, vision: FrozenCLIPVision) -> None:
        super().__init__()
        self.generator, self.vision = generator, vision

    def forward(self, z: Tensor, e: Tensor) -> Tensor:
        """Images [B, 3, S, S]; see `MateGenerator.forward`."""
        out: Tensor = self.generator(z, e, self.vision)
        return out


def _check_config(
    grid: int,
    prompt_blocks: Sequence[int],
    block_sizes: Sequence[int],
    block_channels: Sequence[int],
    clip_input: str,
    bridge_input: str,
) -> None:
    if not block_sizes or len(block_sizes) != len(block_channels):
        raise ValueError(
            f"block_sizes is {tuple(block_sizes)} and block_channels is {tuple(block_channels)}; "
            "give one size and one number of channels for each up-block"
        )
    if any(a >= b for a, b in pairwise([grid, *block_sizes])):
        raise ValueError(f"block_sizes is {tuple(block_sizes)}; sizes must increase from above the grid of {grid}")
    if any(a >= b for a, b in pairwise([-1, *prompt_blocks])):
        raise ValueError(f"prompt_blocks is {tuple(prompt_blocks)}; give increasing 0-based block numbers")
    if clip_input not in ("standard", "released"):
        raise ValueError(f"clip_input is {clip_input!r}; use 'standard' or 'released'")
    if bridge_input not in get_args(BridgeInput):
        raise ValueError(f"bridge_input is {bridge_input!r}; use 'noise' or 'condition'")
