"""Named sizes: every number of the architecture as configuration, for each CLIP-ViT that GALIP is built on."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from galip.models.clip import FrozenCLIPVision
from galip.models.discriminator import MateDiscriminator
from galip.models.generator import MateGenerator


@dataclass(frozen=True)
class Preset:
    """A model's size: which CLIP it looks through, and the arguments of its three networks.

    Attributes:
        name: the key in `PRESETS`; the last number is the side of the image.
        clip: hub id of the CLIP that the size is made for, empty where there is no published one.
        generator: arguments of `MateGenerator`.
        discriminator: arguments of `MateDiscriminator`.
        vision: arguments of transformers' `CLIPVisionConfig`.
        image_size: side of the image in pixels.
    """

    name: str
    clip: str
    generator: dict[str, Any]
    discriminator: dict[str, Any]
    vision: dict[str, Any]
    image_size: int


def _preset(
    name: str, clip: str, vision: dict[str, Any], generator: dict[str, Any], discriminator: dict[str, Any]
) -> Preset:
    """Fill in what the generator and the discriminator take over from the transformer."""
    shared = {
        "vision_width": vision["hidden_size"],
        "grid": vision["image_size"] // vision["patch_size"],
        "cond_dim": vision["projection_dim"],
    }
    return Preset(
        name=name,
        clip=clip,
        generator=shared | generator,
        discriminator=shared | discriminator,
        vision=vision,
        image_size=generator["block_sizes"][-1],
    )


_VIT_B32 = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 32,
    "projection_dim": 512,
}
_VIT_B16 = _VIT_B32 | {"patch_size": 16}
_VIT_L14 = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 14,
    "projection_dim": 768,
}
_VIT_MINI = {
    "hidden_size": 192,
    "intermediate_size": 768,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "image_size": 64,
    "patch_size": 8,
    "projection_dim": 256,
    "hidden_act": "gelu",  # one fused kernel where CLIP's quick_gelu is three passes over memory
}

# The paper's choices for 12 transformer blocks: features after blocks 1, 4 and 8, prompts at blocks 1 to 8.
_GENERATOR_12 = {
    "z_dim": 100,
    "bridge_channels": 64,
    "bridge_hidden": 32,
    "bridge_blocks": 4,
    "prompt_blocks": (1, 2, 3, 4, 5, 6, 7, 8),
    "concept_scale": 0.1,
    "stem_channels": 512,
    "clip_input": "standard",
}
_DISCRIMINATOR_12 = {"tap_blocks": (1, 4, 8), "out_channels": 512, "assessor_channels": 128, "dead_shortcuts": False}

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        _preset(
            "released-b32-224",
            clip="openai/clip-vit-base-patch32",
            vision=_VIT_B32,
            generator=_GENERATOR_12
            | {
                "block_sizes": (8, 16, 32, 64, 128, 224),
                "block_channels": (512, 512, 512, 256, 128, 64),
                "clip_input": "released",
            },
            discriminator=_DISCRIMINATOR_12 | {"dead_shortcuts": True},
        ),
        _preset(
            "b32-224",
            clip="openai/clip-vit-base-patch32",
            vision=_VIT_B32,
            generator=_GENERATOR_12
            | {"block_sizes": (14, 28, 56, 112, 224), "block_channels": (512, 512, 256, 128, 64)},
            discriminator=_DISCRIMINATOR_12,
        ),
        _preset(
            "b16-224",
            clip="openai/clip-vit-base-patch16",
            vision=_VIT_B16,
            generator=_GENERATOR_12 | {"block_sizes": (28, 56, 112, 224), "block_channels": (512, 256, 128, 64)},
            discriminator=_DISCRIMINATOR_12,
        ),
        # Twice as deep, so every block number stands for the same share of the depth: the features after block 1 of 12
        # are those after 2/12, hence block 3 of 24; prompts reach blocks 2 to 17.
        _preset(
            "l14-256",
            clip="openai/clip-vit-large-patch14",
            vision=_VIT_L14,
            generator=_GENERATOR_12
            | {
                "prompt_blocks": tuple(range(2, 18)),
                "block_sizes": (32, 64, 128, 256),
                "block_channels": (512, 256, 128, 64),
            },
            discriminator=_DISCRIMINATOR_12 | {"tap_blocks": (3, 9, 17)},
        ),
        _preset(
            "mini-64",
            clip="",
            vision=_VIT_MINI,
            generator={
                "z_dim": 64,
                "bridge_channels": 32,
                "bridge_hidden": 32,
                "bridge_blocks": 2,
                "prompt_blocks": (1, 2, 3),
                "concept_scale": 0.1,
                "stem_channels": 96,
                "block_sizes": (16, 32, 64),
                "block_channels": (96, 48, 24),
                "clip_input": "standard",
            },
            discriminator={
                "tap_blocks": (0, 2),
                "out_channels": 128,
                "assessor_channels": 64,
                "dead_shortcuts": False,
            },
        ),
    )
}
"""Every named size, by name."""


def build_generator(name: str, device: torch.device | str | None = None) -> MateGenerator:
    """A generator of a named size with fresh weights.

    Args:
        name: a key of `PRESETS`.
        device: where to create it; `"meta"` gives shapes without memory.

    Raises:
        ValueError: there is no such preset.
    """
    preset = _find(name)
    with torch.device(device or torch.get_default_device()):
        return MateGenerator(**preset.generator)


def build_discriminator(name: str, device: torch.device | str | None = None) -> MateDiscriminator:
    """A discriminator of a named size with fresh weights; arguments and exceptions as for `build_generator`."""
    preset = _find(name)
    with torch.device(device or torch.get_default_device()):
        return MateDiscriminator(**preset.discriminator)


def build_vision(name: str, device: torch.device | str | None = None) -> FrozenCLIPVision:
    """A frozen CLIP-ViT of a named size with RANDOM weights, for tests and measurements.

    Its input mapping is the preset's. Arguments and exceptions as for `build_generator`.
    """
    preset = _find(name)
    with torch.device(device or torch.get_default_device()):
        model = CLIPVisionModelWithProjection(CLIPVisionConfig(**preset.vision))
    return FrozenCLIPVision(model, clip_input=preset.generator["clip_input"])


def _find(name: str) -> Preset:
    if name not in PRESETS:
        raise ValueError(f"name is {name!r}; there is no such preset, use one of {', '.join(PRESETS)}")
    return PRESETS[name]
