"""The authors' layout key by key, written from the design notes, independently of `galip.conversion.released`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from galip.models.presets import PRESETS, Preset

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Layout:
    """Every number of a released network; the defaults are the published ones."""

    z: int = 100
    sentence: int = 512
    width: int = 768
    mlp: int = 3072
    depth: int = 12
    grid: int = 7
    patch: int = 32
    bridge: int = 64
    hidden: int = 32
    bridge_blocks: int = 4
    prompts: int = 8
    stem: int = 512
    ups: tuple[int, ...] = (512, 512, 512, 256, 128, 64)
    taps: int = 3
    features: int = 512
    assessor: int = 128


def net_g(n: Layout) -> Shapes:
    shapes: Shapes = {"fc_code.weight": (n.grid**2 * n.bridge, n.z), "fc_code.bias": (n.grid**2 * n.bridge,)}
    for i in range(n.bridge_blocks):
        block = f"mapping.FBlocks.{i}"
        shapes |= _conv(f"{block}.conv1", n.bridge, n.hidden, 3) | _conv(f"{block}.conv2", n.hidden, n.bridge, 3)
        shapes |= _fusion(f"{block}.fuse1", n.hidden, n) | _fusion(f"{block}.fuse2", n.bridge, n)
    shapes |= _conv("mapping.conv_fuse", n.bridge, n.width, 5) | _conv("mapping.conv", n.width, n.stem, 5)
    shapes |= _linear("mapping.fc_prompt", n.z + n.sentence, n.prompts * n.width)
    shapes |= {f"mapping.CLIP_ViT.{key}": shape for key, shape in vit(n).items()}
    for i, (before, after) in enumerate(zip((n.stem, *n.ups), n.ups, strict=False)):
        block = f"GBlocks.{i}"
        shapes |= _conv(f"{block}.c1", before, after, 3) | _conv(f"{block}.c2", after, after, 3)
        shapes |= _fusion(f"{block}.fuse1", before, n) | _fusion(f"{block}.fuse2", after, n)
        if before != after:
            shapes |= _conv(f"{block}.c_sc", before, after, 1)
    return shapes | _conv("to_rgb.1", n.ups[-1], 3, 3)


def net_d(n: Layout) -> Shapes:
    shapes: Shapes = {}
    for i in range(n.taps - 1):
        block = f"DBlocks.{i}"
        shapes |= {f"{block}.gamma": (1,), f"{block}.beta": (1,)}
        shapes |= {f"{block}.conv_r.{k}.weight": (n.width, n.width, 3, 3) for k in (0, 2)}
        shapes |= _conv(f"{block}.conv_s", n.width, n.width, 1)
    shapes |= {"main.gamma": (1,)} | _conv("main.conv_s", n.width, n.features, 1)
    shapes |= {"main.conv_r.0.weight": (n.features, n.width, 3, 3)}
    return shapes | {"main.conv_r.2.weight": (n.features, n.features, 3, 3)}


def net_c(n: Layout) -> Shapes:
    return {
        "joint_conv.0.weight": (n.assessor, n.features + n.sentence, 4, 4),
        "joint_conv.2.weight": (1, n.assessor, n.grid - 3, n.grid - 3),
    }


def vit(n: Layout) -> Shapes:
    shapes: Shapes = {
        "class_embedding": (n.width,),
        "positional_embedding": (n.grid**2 + 1, n.width),
        "conv1.weight": (n.width, 3, n.patch, n.patch),
        "ln_pre.weight": (n.width,),
        "ln_pre.bias": (n.width,),
    }
    return shapes | transformer(n.width, n.mlp, n.depth)


def transformer(width: int, mlp: int, depth: int) -> Shapes:
    """OpenAI's transformer, in the vision and in the text tower."""
    shapes: Shapes = {}
    for i in range(depth):
        block = f"transformer.resblocks.{i}"
        shapes |= {f"{block}.attn.in_proj_weight": (3 * width, width), f"{block}.attn.in_proj_bias": (3 * width,)}
        shapes |= _linear(f"{block}.attn.out_proj", width, width)
        shapes |= {f"{block}.{norm}.{leaf}": (width,) for norm in ("ln_1", "ln_2") for leaf in ("weight", "bias")}
        shapes |= _linear(f"{block}.mlp.c_fc", width, mlp) | _linear(f"{block}.mlp.c_proj", mlp, width)
    return shapes


def networks(n: Layout) -> dict[str, Shapes]:
    return {"netG": net_g(n), "netD": net_d(n), "netC": net_c(n)}


def _linear(name: str, before: int, after: int) -> Shapes:
    return {f"{name}.weight": (after, before), f"{name}.bias": (after,)}


def _conv(name: str, before: int, after: int, size: int) -> Shapes:
    return {f"{name}.weight": (after, before, size, size), f"{name}.bias": (after,)}


def _fusion(name: str, channels: int, n: Layout) -> Shapes:
    shapes: Shapes = {}
    for affine in ("affine0", "affine1"):
        for head in ("fc_gamma", "fc_beta"):
            shapes |= _linear(f"{name}.{affine}.{head}.linear1", n.z + n.sentence, channels)
            shapes |= _linear(f"{name}.{affine}.{head}.linear2", channels, channels)
    return shapes


# ---- a tiny checkpoint

TINY = Layout(
    z=8,
    sentence=24,
    width=32,
    mlp=64,
    depth=4,
    grid=4,
    patch=8,
    bridge=6,
    hidden=4,
    bridge_blocks=2,
    prompts=3,
    stem=16,
    ups=(16, 12, 8),
    features=20,
    assessor=8,
)
"""Fits the CLIP of `models.tiny`."""

TINY_PRESET = Preset(
    name="tiny",
    clip="",
    vision={},
    image_size=64,
    # What no tensor tells is right; sizes, which they do tell, are the published ones and wrong here.
    generator=PRESETS["released-b32-224"].generator
    | {"bridge_blocks": 2, "prompt_blocks": (1, 2, 3), "block_sizes": (16, 32, 64), "block_channels": (1, 1, 1)},
    discriminator=PRESETS["released-b32-224"].discriminator | {"tap_blocks": (0, 1, 3)},
)

REST: dict[str, Any] = {
    "optimizers": {"optimizer_G": {"state": {0: {"step": 3}}, "param_groups": [{"lr": 1e-4, "betas": (0.0, 0.9)}]}},
    "epoch": 7,
    "scalers": {"scaler_G": {"scale": 65536.0}},
}


def content(prefixes: Mapping[str, str] | None = None, half_vit: bool = False, seed: int = 0) -> dict[str, Any]:
    """What a tiny `.pth` holds: random weights, the ViT in fp32 or in the authors' mixed precision."""
    generator = torch.Generator().manual_seed(seed)
    model = {}
    for network, shapes in networks(TINY).items():
        prefix = (prefixes or {}).get(network, "")
        model[network] = {
            prefix + key: torch.randn(shape, generator=generator).to(_dtype(key, half_vit))
            for key, shape in shapes.items()
        }
    optimizers = REST["optimizers"] | {"optimizer_D": {"state": {0: {"exp_avg": torch.ones(3)}}}}
    return {"model": model, **REST, "optimizers": optimizers}


def _dtype(key: str, half_vit: bool) -> torch.dtype:
    kept = ("class_embedding", "positional_embedding", ".ln_")
    half = half_vit and ".CLIP_ViT." in key and not any(word in key for word in kept)
    return torch.float16 if half else torch.float32


def assert_same_bits(a: Any, b: Any) -> None:
    """Same keys, same kinds, same bits, all the way down; the order of keys is free."""
    if isinstance(a, Tensor):
        assert isinstance(b, Tensor) and a.dtype == b.dtype and a.shape == b.shape
        assert a.contiguous().view(torch.uint8).equal(b.contiguous().view(torch.uint8))
    elif isinstance(a, Mapping):
        assert isinstance(b, Mapping) and set(a) == set(b)
        for key in a:
            assert_same_bits(a[key], b[key])
    else:
        assert type(a) is type(b) and a == b
