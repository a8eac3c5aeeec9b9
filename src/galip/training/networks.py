"""The networks of a run, built and checked against each other before anything expensive starts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPTextModelWithProjection

from galip.errors import GalipError, InputError
from galip.model_repo.format import INDEX
from galip.models.clip import FrozenCLIPVision
from galip.models.discriminator import MateDiscriminator
from galip.models.generator import MateGenerator
from galip.models.presets import PRESETS
from galip.models.text import CLIPSentenceEncoder, SentenceEncoder, T5SentenceEncoder
from galip.torch_backend.encoders import load_clip, load_t5
from galip.training.config import ModelConfig


@dataclass
class SecondCLIP:
    """Another frozen CLIP: for a similarity loss of its own, or a score by one that does not train."""

    encoder: CLIPSentenceEncoder
    vision: FrozenCLIPVision


@dataclass
class Networks:
    """Everything that takes part in training. All but generator and discriminator are frozen.

    Attributes:
        tokenizer, text_encoder: CLIP's text side.
        vision: the frozen CLIP-ViT.
        generator, discriminator: what learns.
        t5: what conditions in place of CLIP's text side, or None.
        second: another CLIP, or None.
        t5_scale_known: whether the T5's scale is configured, or recorded in the model folder it comes from; if not, it
            is 1 until the run has measured it.
    """

    tokenizer: Any
    text_encoder: CLIPTextModelWithProjection
    vision: FrozenCLIPVision
    generator: MateGenerator
    discriminator: MateDiscriminator
    t5: T5SentenceEncoder | None = None
    second: SecondCLIP | None = None
    t5_scale_known: bool = False

    @property
    def clip_encoder(self) -> CLIPSentenceEncoder:
        """CLIP's sentence encoder, whose vectors the similarity loss uses."""
        return CLIPSentenceEncoder(self.tokenizer, self.text_encoder)

    @property
    def sentence_encoder(self) -> SentenceEncoder:
        """The sentence encoder that conditions G and D."""
        return self.t5 or self.clip_encoder


def build_networks(config: ModelConfig, seed: int) -> Networks:
    """Load the CLIP, build (or load) generator and discriminator, and check that they fit.

    Args:
        config: the run's `model` section.
        seed: of the initial weights.

    Raises:
        InputError: unknown preset, wrong argument, or sizes that contradict the CLIP's; named with the remedy.
        GalipError: a folder or hub id that cannot be loaded.
    """
    if config.preset not in PRESETS:
        raise InputError(f"model.preset is {config.preset!r}; known: {', '.join(PRESETS)}")
    preset = PRESETS[config.preset]
    clip = config.clip or (str(Path(config.start_from)) if config.start_from else preset.clip)
    if not clip:
        raise InputError(
            f"model.clip is empty and the preset {config.preset} has no usual CLIP; name a folder or hub id"
        )
    tokenizer, text_encoder, vision_model = load_clip(clip)
    torch.manual_seed(seed)
    if config.start_from:
        generator = _load(MateGenerator, config.start_from, "generator")
        discriminator = _load(MateDiscriminator, config.start_from, "discriminator")
        _check_sizes(generator, config.generator, "generator", config.start_from)
        _check_sizes(discriminator, config.discriminator, "discriminator", config.start_from)
    else:
        generator = _build(MateGenerator, preset.generator | config.generator, "model.generator")
        discriminator = _build(MateDiscriminator, preset.discriminator | config.discriminator, "model.discriminator")
    vision = FrozenCLIPVision(vision_model, generator.config.clip_input)
    scale = config.text_scale or _recorded_scale(config.text)
    t5 = T5SentenceEncoder(*load_t5(config.text), scale or 1.0) if config.text else None
    networks = Networks(tokenizer, text_encoder.requires_grad_(False).eval(), vision, generator, discriminator, t5)
    networks.t5_scale_known = scale is not None
    _check_fit(networks, config, clip)
    for name, parameter in discriminator.named_parameters():
        # The released network's dead weights: kept for its files, never used, and gradient averaging waits for none.
        if ".dead_shortcut." in name:
            parameter.requires_grad_(False)
    if config.second_clip:
        second_tokenizer, second_text, second_vision = load_clip(config.second_clip)
        networks.second = SecondCLIP(
            CLIPSentenceEncoder(second_tokenizer, second_text), FrozenCLIPVision(second_vision, "standard")
        )
    return networks


def _recorded_scale(text: str) -> float | None:
    """The `text_scale` of a galip model folder that is conditioned by a T5."""
    try:
        recorded = json.loads((Path(text) / INDEX).read_text(encoding="utf-8")).get("text_scale")
    except (OSError, ValueError):
        return None
    return float(recorded) if recorded else None


def _build(kind: Any, arguments: dict[str, Any], section: str) -> Any:
    try:
        return kind(**arguments)
    except (TypeError, ValueError) as error:
        raise InputError(f"{section}: {error}") from error


def _load(kind: Any, folder: str, part: str) -> Any:
    try:
        return kind.from_pretrained(folder, subfolder=part, use_safetensors=True).float()
    except (OSError, ValueError) as error:
        raise GalipError(
            f"{folder}: no {part} could be loaded from it; `model.start_from` must name a model folder with "
            f"generator/ and discriminator/ ({str(error).splitlines()[0]})"
        ) from error


def _check_sizes(network: Any, asked: dict[str, Any], section: str, origin: str) -> None:
    """Sizes that the configuration asks for must be those of the model that is trained on."""
    for name, wanted in asked.items():
        there = network.config.get(name)
        if _plain(there) != _plain(wanted):
            raise InputError(
                f"model.{section}.{name} is {wanted}, but the model {origin} has {there}, and training on from a model "
                "keeps its sizes; leave it out"
            )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _check_fit(networks: Networks, config: ModelConfig, clip: str) -> None:
    vision, conditions = networks.vision, networks.sentence_encoder.dim
    sizes = {"vision_width": (vision.width, clip), "grid": (vision.grid, clip)}
    sizes["cond_dim"] = (conditions, config.text or clip)
    for section in ("generator", "discriminator"):
        network = getattr(networks, section)
        for name, (wanted, origin) in sizes.items():
            if network.config[name] != wanted:
                raise InputError(
                    f"model.{section}.{name} is {network.config[name]}, but {origin} has {wanted}; "
                    f"choose the preset made for it, or set model.{section}.{name}={wanted}"
                )
    deepest = max(*networks.generator.prompt_blocks, *networks.discriminator.tap_blocks)
    if deepest >= vision.depth:
        raise InputError(
            f"block {deepest} is prompted or tapped, but the CLIP {clip} has {vision.depth} blocks (0 to "
            f"{vision.depth - 1}); set model.generator.prompt_blocks and model.discriminator.tap_blocks"
        )
