"""The networks of the GALIP authors' checkpoints, both ways, bit for bit. The only file that knows their keys.

Tensors tell most sizes. What they do not tell (which blocks are prompted and tapped, how large images are) comes from
a preset, by default the released one.
"""

import copy
import re
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from galip.conversion.checkpoint_file import NETWORKS, SOURCE, CheckpointError, ReleasedCheckpoint, some
from galip.conversion.openai_vit import from_openai, to_openai
from galip.conversion.renaming import KeyTable
from galip.models.discriminator import MateDiscriminator
from galip.models.generator import MateGenerator
from galip.models.presets import PRESETS, Preset

RELEASED = "released-b32-224"
"""Preset of the published checkpoints."""

VIT = "netG.mapping.CLIP_ViT."

_BRIDGE, _UP = "generator.bridge_predictor", "generator.image_generator"
_EXTRACTOR, _ASSESSOR = "discriminator.feature_extractor", "discriminator.quality_assessor"
_AFFINE, _OUR_AFFINE = "{fuse}.{affine}.fc_{head}", "{fuse}.{affine}.{head}"

# Theirs on the left, ours on the right.
KEYS = KeyTable(
    [
        # Bridge Feature Predictor
        ("netG.fc_code", f"{_BRIDGE}.linear"),
        ("netG.mapping.FBlocks.{i}.conv1", _BRIDGE + ".blocks.{i}.conv1"),
        ("netG.mapping.FBlocks.{i}.conv2", _BRIDGE + ".blocks.{i}.conv2"),
        ("netG.mapping.FBlocks.{i}." + _AFFINE + ".linear1", _BRIDGE + ".blocks.{i}." + _OUR_AFFINE + ".0"),
        ("netG.mapping.FBlocks.{i}." + _AFFINE + ".linear2", _BRIDGE + ".blocks.{i}." + _OUR_AFFINE + ".2"),
        ("netG.mapping.conv_fuse", f"{_BRIDGE}.conv"),
        # Prompt Predictor
        ("netG.mapping.fc_prompt", "generator.prompt_predictor.linear"),
        # Image Generator
        ("netG.mapping.conv", f"{_UP}.stem"),
        ("netG.GBlocks.{i}.c1", _UP + ".blocks.{i}.conv1"),
        ("netG.GBlocks.{i}.c2", _UP + ".blocks.{i}.conv2"),
        ("netG.GBlocks.{i}.c_sc", _UP + ".blocks.{i}.shortcut"),
        ("netG.GBlocks.{i}." + _AFFINE + ".linear1", _UP + ".blocks.{i}." + _OUR_AFFINE + ".0"),
        ("netG.GBlocks.{i}." + _AFFINE + ".linear2", _UP + ".blocks.{i}." + _OUR_AFFINE + ".2"),
        ("netG.to_rgb.1", f"{_UP}.to_rgb"),
        # Mate-D's extraction blocks; the first ones hold a 1x1 convolution that nothing uses
        ("netD.DBlocks.{i}.conv_r.0", _EXTRACTOR + ".blocks.{i}.conv1"),
        ("netD.DBlocks.{i}.conv_r.2", _EXTRACTOR + ".blocks.{i}.conv2"),
        ("netD.DBlocks.{i}.conv_s", _EXTRACTOR + ".blocks.{i}.dead_shortcut"),
        ("netD.DBlocks.{i}.gamma", _EXTRACTOR + ".blocks.{i}.gamma"),
        ("netD.DBlocks.{i}.beta", _EXTRACTOR + ".blocks.{i}.beta"),
        ("netD.main.conv_r.0", f"{_EXTRACTOR}.final.conv1"),
        ("netD.main.conv_r.2", f"{_EXTRACTOR}.final.conv2"),
        ("netD.main.conv_s", f"{_EXTRACTOR}.final.shortcut"),
        ("netD.main.gamma", f"{_EXTRACTOR}.final.gamma"),
        # quality assessor
        ("netC.joint_conv.0", f"{_ASSESSOR}.conv1"),
        ("netC.joint_conv.2", f"{_ASSESSOR}.conv2"),
    ]
)

# Arguments that change what a network draws or judges, but that no tensor's shape tells.
_UNTOLD = {
    "generator": ("prompt_blocks", "bridge_blocks", "concept_scale", "block_sizes"),
    "discriminator": ("tap_blocks",),
}
_RIGHT_CLIP = f"Give the CLIP that it was trained with; the authors' files belong to {PRESETS[RELEASED].clip}"


@dataclass(frozen=True)
class VisionDifference:
    """How the CLIP-ViT inside a checkpoint differs from the CLIP that was given.

    Attributes:
        differing: how many tensors are not equal, the given one cast to the checkpoint's dtype.
        total: how many were compared.
        largest: largest absolute difference.
    """

    differing: int
    total: int
    largest: float


@dataclass
class ReleasedModel:
    """A checkpoint's networks, every tensor in the dtype that the file has it in: move them to one dtype to run them.

    Attributes:
        generator: Mate-G.
        discriminator: Mate-D with its assessor and the file's dead weights.
        vision: the checkpoint's CLIP-ViT, with the given CLIP's final norm and projection.
        difference: from the given CLIP's ViT; None where there is none.
    """

    generator: MateGenerator
    discriminator: MateDiscriminator
    vision: CLIPVisionModelWithProjection
    difference: VisionDifference | None


def from_released(
    checkpoint: ReleasedCheckpoint, clip: CLIPVisionModelWithProjection, preset: Preset = PRESETS[RELEASED]
) -> ReleasedModel:
    """Build the networks of a checkpoint. Every tensor is used exactly once, copied as it is.

    A warning says so where the checkpoint's CLIP-ViT is not the given one; the checkpoint's is kept.

    Args:
        checkpoint: from `read_checkpoint`.
        clip: the CLIP that it was trained with; it is left alone. Gives final norm, projection, number of heads.
        preset: gives what no tensor tells: prompted and tapped blocks, sizes of the up-blocks.

    Raises:
        CheckpointError: `clip` is of another size, or keys are missing, unknown or misshapen; the message names them.
    """
    tensors = checkpoint.tensors
    _check_clip(tensors, clip, checkpoint.name)
    generator_args, discriminator_args = _infer_sizes(tensors, clip, preset)
    with torch.device("meta"):
        generator = MateGenerator(**generator_args)
        discriminator = MateDiscriminator(**discriminator_args)
    expected = {key: tuple(t.shape) for key, t in _released_tensors(generator, discriminator, clip).items()}
    _check_keys(tensors, expected, checkpoint.name, preset)
    if generator.cond_dim != clip.config.projection_dim:
        raise CheckpointError(
            f"{checkpoint.name}: its sentence vectors have length {generator.cond_dim}, those of the CLIP given "
            f"{clip.config.projection_dim}. {_RIGHT_CLIP}"
        )

    state = {key: tensor.clone(memory_format=torch.contiguous_format) for key, tensor in tensors.items()}
    vit = {key.removeprefix(VIT): state.pop(key) for key in tensors if key.startswith(VIT)}
    for name, network in (("generator.", generator), ("discriminator.", discriminator)):
        ours = {str(KEYS.ours(key)): tensor for key, tensor in state.items()}
        network.load_state_dict(
            {key.removeprefix(name): t for key, t in ours.items() if key.startswith(name)}, assign=True
        )
    difference = _compare(vit, clip)
    if difference:
        warnings.warn(
            f"{checkpoint.name}: its CLIP-ViT is not that of the CLIP given: {difference.differing} of "
            f"{difference.total} tensors differ, by up to {difference.largest:.3g}. The checkpoint's is kept; final "
            "norm, projection and text encoder are the given CLIP's, so make sure that it is the right one",
            UserWarning,
            stacklevel=2,
        )
    vision = copy.deepcopy(clip)
    vision.load_state_dict({**clip.state_dict(), **from_openai(vit)}, assign=True)
    return ReleasedModel(generator.eval(), discriminator.eval(), vision.requires_grad_(False).eval(), difference)


def to_released(
    generator: MateGenerator,
    discriminator: MateDiscriminator,
    vision: CLIPVisionModelWithProjection,
    prefixes: Mapping[str, str] | None = None,
    rest: Mapping[str, Any] | None = None,
    preset: Preset = PRESETS[RELEASED],
) -> ReleasedCheckpoint:
    """The inverse of `from_released`. Dead weights that the discriminator does not carry are zeros.

    Args:
        generator, discriminator: the networks, in the dtypes to be written.
        vision: the frozen CLIP-ViT, to ride along in netG.
        prefixes: of the keys of each network; none by default.
        rest: what stands beside `model` in the file: `optimizers`, `epoch`, `scalers`.
        preset: what a reader of the file will take for granted.

    Raises:
        CheckpointError: the model has a number that the file cannot tell and that is not the preset's.
    """
    different = [
        f"{argument} is {_plain(network.config[argument])}, not {_plain(getattr(preset, part)[argument])}"
        for part, network in (("generator", generator), ("discriminator", discriminator))
        for argument in _UNTOLD[part]
        if _plain(network.config[argument]) != _plain(getattr(preset, part)[argument])
    ]
    if generator.config.bridge_input != "noise":  # the authors' first layer sees the noise alone
        different.append(f"bridge_input is {generator.config.bridge_input}, not noise")
    if generator.config.prompt_tokens != 1:
        different.append(f"prompt_tokens is {generator.config.prompt_tokens}, not 1")
    if different:
        raise CheckpointError(
            f"the released layout cannot hold this model: its file holds tensors only, and whoever reads one takes the "
            f"numbers of {preset.name} for granted, but here {'; '.join(different)}"
        )
    tensors = _released_tensors(generator, discriminator, vision)
    return ReleasedCheckpoint(
        {key: tensor.detach() for key, tensor in tensors.items()},
        {**dict.fromkeys(NETWORKS, ""), **(prefixes or {})},
        dict(rest or {}),
    )


def _released_tensors(
    generator: MateGenerator, discriminator: MateDiscriminator, vision: CLIPVisionModelWithProjection
) -> dict[str, Tensor]:
    """All tensors of the three networks by released keys; on the meta device, shapes only."""
    tensors = {}
    for name, network in (("generator", generator), ("discriminator", discriminator)):
        for key, tensor in network.state_dict().items():
            released = KEYS.theirs(f"{name}.{key}")
            assert released is not None, f"{name}.{key} has no released name"
            tensors[released] = tensor
    for i in range(len(discriminator.feature_extractor.blocks)):
        like = tensors[f"netD.DBlocks.{i}.conv_r.0.weight"]
        tensors.setdefault(f"netD.DBlocks.{i}.conv_s.weight", like.new_zeros(*like.shape[:2], 1, 1))
        tensors.setdefault(f"netD.DBlocks.{i}.conv_s.bias", like.new_zeros(like.shape[0]))
    tensors |= {VIT + key: tensor for key, tensor in to_openai(vision.state_dict()).items()}
    return tensors


# ---- sizes


def _infer_sizes(
    tensors: Mapping[str, Tensor], clip: CLIPVisionModelWithProjection, preset: Preset
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments of generator and discriminator.

    Every size is what most of the tensors that show it say, so that a misshapen one is found rather than believed.
    """

    def sizes(pattern: str, *dims: int) -> list[int]:
        found = (t for key, t in tensors.items() if fnmatchcase(key, pattern))
        return [t.shape[dim] for t in found for dim in dims if dim < t.ndim]

    def most(candidates: list[int], usual: int) -> int:
        counts = Counter(candidates)
        # Among equals the preset's own number wins.
        return max(counts, key=lambda size: (counts[size], size == usual), default=usual)

    g, d = dict(preset.generator), dict(preset.discriminator)
    config = clip.config
    shared = {"vision_width": config.hidden_size, "grid": config.image_size // config.patch_size}
    bridge = "netG.mapping.FBlocks.*.conv{}.weight".format
    g["bridge_channels"] = most(sizes(bridge(1), 1) + sizes(bridge(2), 0), g["bridge_channels"])
    g["bridge_hidden"] = most(sizes(bridge(1), 0) + sizes(bridge(2), 1), g["bridge_hidden"])
    g["stem_channels"] = most(
        sizes("netG.mapping.conv.*", 0) + sizes("netG.GBlocks.0.c1.weight", 1), g["stem_channels"]
    )
    g["block_channels"] = tuple(
        most(sizes(f"netG.GBlocks.{i}.c[12].*", 0) + sizes(f"netG.GBlocks.{i}.c2.weight", 1), usual)
        for i, usual in enumerate(g["block_channels"])
    )
    d["out_channels"] = most(
        sizes("netD.main.conv_r.*.weight", 0) + sizes("netD.main.conv_r.2.weight", 1), d["out_channels"]
    )
    d["assessor_channels"] = most(
        sizes("netC.joint_conv.0.weight", 0) + sizes("netC.joint_conv.2.weight", 1), d["assessor_channels"]
    )
    # Noise and sentence vector: seen together all over netG, apart in two tensors only.
    both = most(
        sizes("netG.*.linear1.weight", 1) + sizes("netG.mapping.fc_prompt.weight", 1), g["z_dim"] + g["cond_dim"]
    )
    sentence = [size - d["out_channels"] for size in sizes("netC.joint_conv.0.weight", 1)]
    g["z_dim"] = most(sizes("netG.fc_code.weight", 1) + [both - size for size in sentence], g["z_dim"])
    shared["cond_dim"] = max(1, both - g["z_dim"])
    return g | shared, d | shared | {"dead_shortcuts": True}


def _check_clip(tensors: Mapping[str, Tensor], clip: CLIPVisionModelWithProjection, name: str) -> None:
    """Say plainly that a CLIP is of the wrong size, rather than by hundreds of misshapen keys."""
    config = clip.config
    vit = {key.removeprefix(VIT): tensor for key, tensor in tensors.items() if key.startswith(VIT)}
    blocks = {match[1] for key in vit if (match := re.match(r"transformer\.resblocks\.(\d+)\.", key))}
    widths = Counter(tensor.shape[0] for key, tensor in vit.items() if ".ln_" in key and tensor.ndim == 1)
    if not blocks or not widths:
        return  # there is no ViT at all: its keys are missing
    width = widths.most_common(1)[0][0]
    grid = config.image_size // config.patch_size
    patches, positions = vit.get("conv1.weight"), vit.get("positional_embedding")
    other_patches = (
        patches is not None
        and positions is not None
        and patches.shape[-1] != config.patch_size
        and positions.shape[0] != grid**2 + 1
    )
    if (width, len(blocks)) != (config.hidden_size, config.num_hidden_layers) or other_patches:
        patch = "" if patches is None else f", patches of {patches.shape[-1]} px"
        raise CheckpointError(
            f"{name}: its CLIP-ViT has width {width}, {len(blocks)} blocks{patch}; the CLIP given has width "
            f"{config.hidden_size}, {config.num_hidden_layers} blocks, patches of {config.patch_size} px. "
            f"{_RIGHT_CLIP}"
        )


def _check_keys(
    tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], name: str, preset: Preset
) -> None:
    missing = [key for key in expected if key not in tensors]
    unknown = [key for key in tensors if key not in expected]
    misshapen = [key for key, shape in expected.items() if key in tensors and tuple(tensors[key].shape) != shape]
    if not (missing or unknown or misshapen):
        return
    shapes = [f"{key} is {list(tensors[key].shape)}, not {list(expected[key])}" for key in misshapen]
    groups = (("missing", missing), ("unknown", unknown), ("misshapen", shapes))
    faults = "; ".join(f"{len(keys)} {kind}: {some(keys)}" for kind, keys in groups if keys)
    raise CheckpointError(
        f"{name}: its keys are not those of a released GALIP of the size {preset.name} ({faults}). Fetch the file "
        f"again from where {SOURCE} links to; if it is of another size, name the preset that it was made with",
        missing,
        unknown,
        misshapen,
    )


def _compare(vit: Mapping[str, Tensor], clip: CLIPVisionModelWithProjection) -> VisionDifference | None:
    """The checkpoint's ViT against the given one's, which is cast first: files may hold half precision."""
    largest, differing = 0.0, 0
    given = to_openai(clip.state_dict())
    for key, tensor in vit.items():
        cast = given[key].to(tensor.device, tensor.dtype)
        if not torch.equal(cast, tensor):
            differing += 1
            largest = max(largest, float((cast.double() - tensor.double()).abs().max()))
    return VisionDifference(differing, len(vit), largest) if differing else None


def _plain(value: Any) -> Any:
    # A saved configuration comes back with lists.
    return tuple(value) if isinstance(value, list | tuple) else value
