"""The structure of every preset at a width that costs nothing: real sizes, grids, depths and ratios, few channels."""

from __future__ import annotations

import torch
from models.tiny import scatter
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from galip.models import FrozenCLIPVision, MateGenerator
from galip.models.presets import PRESETS


def narrow(name: str, seed: int = 0, **changes: object) -> tuple[MateGenerator, FrozenCLIPVision]:
    """A preset's generator and CLIP-ViT with at most 16 channels and random weights."""
    preset = PRESETS[name]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        vision = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "projection_dim": 6}
        model = scatter(CLIPVisionModelWithProjection(CLIPVisionConfig(**(preset.vision | vision))))
        # As equal or unequal as the preset's own, since equal widths have no shortcut convolution.
        channels = [max(4, c // 32) for c in preset.generator["block_channels"]]
        generator = MateGenerator(
            **preset.generator
            | {
                "z_dim": 5,
                "cond_dim": 6,
                "vision_width": 16,
                "bridge_channels": 6,
                "bridge_hidden": 4,
                "stem_channels": max(4, preset.generator["stem_channels"] // 32),
                "block_channels": channels,
            }
            | changes
        )
    return scatter(generator), FrozenCLIPVision(model, clip_input=generator.config.clip_input)
