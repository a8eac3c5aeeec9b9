"""The networks of a run, built and checked against each other before anything expensive starts."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPTextModelWithProjection

from galip.errors import GalipError, InputError
from galip.model_repo.export_folder import is_export
from galip.model_repo.format import INDEX
from galip.model_repo.index import check_model_folder
from galip.model_repo.resolve import fetch
from galip.models.clip import FrozenCLIPVision
from galip.models.discriminator import MateDiscriminator
from galip.models.feature_heads import FeatureHeads
from galip.models.feature_networks import FeatureNetwork
from galip.models.generator import MateGenerator
from galip.models.plain_discriminator import PlainDiscriminator
from galip.models.text import CLIPSentenceEncoder, SentenceEncoder, T5SentenceEncoder
from galip.torch_backend.encoders import load_clip, load_t5
from galip.training.config import DiscriminatorConfig, ModelConfig, Section, TrainConfig
from galip.training.feature_networks import open_feature_network

Discriminator = MateDiscriminator | PlainDiscriminator


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
        feature_networks: further frozen networks that discriminators look through.
        heads: those discriminators, which learn; None: there are none.
        t5_scale_known: whether the T5's scale is configured, or recorded in the model folder it comes from; if not, it
            is 1 until the run has measured it.
    """

    tokenizer: Any
    text_encoder: CLIPTextModelWithProjection
    vision: FrozenCLIPVision
    generator: MateGenerator
    discriminator: Discriminator
    t5: T5SentenceEncoder | None = None
    second: SecondCLIP | None = None
    t5_scale_known: bool = False
    feature_networks: list[FeatureNetwork] = field(default_factory=list)
    heads: FeatureHeads | None = None

    def to_device(self, device: torch.device) -> None:
        """Move everything to a device."""
        for network in (self.text_encoder, self.vision, self.generator, self.discriminator, *self.feature_networks):
            network.to(device)
        if self.heads is not None:
            self.heads.to(device)
        if self.second is not None:
            self.second.vision.to(device)
            self.second.encoder.model.to(device)
        if self.t5 is not None:
            self.t5.model.to(device)

    @property
    def clip_encoder(self) -> CLIPSentenceEncoder:
        """CLIP's sentence encoder, whose vectors the similarity loss uses."""
        return CLIPSentenceEncoder(self.tokenizer, self.text_encoder)

    @property
    def sentence_encoder(self) -> SentenceEncoder:
        """The sentence encoder that conditions G and D."""
        return self.t5 or self.clip_encoder


def build_networks(config: TrainConfig) -> Networks:
    """Load the CLIP, build (or load) generator and discriminator, and check that they fit.

    Args:
        config: the run, with its preset filled in (`galip.training.config_file`).

    Raises:
        InputError: wrong argument, or sizes that contradict the CLIP's; named with the remedy.
        GalipError: a folder or hub id that cannot be loaded.
    """
    model = config.model
    start = _start(model.start_from) if model.start_from else ""
    clip = model.clip or start
    if not clip:
        raise InputError(
            f"model.clip is empty and the preset {model.preset} has no usual CLIP; name a folder or hub id"
        )
    tokenizer, text_encoder, vision_model = load_clip(clip)
    scale = model.text_scale or _recorded_scale(model.text)
    t5 = T5SentenceEncoder(*load_t5(model.text), scale or 1.0) if model.text else None
    torch.manual_seed(config.seed)
    if model.start_from:
        generator = _load(MateGenerator, start, "generator", config.generator)
        discriminator = _load_discriminator(start, config.discriminator)
    else:
        # A T5's length of e is known only now.
        usual = {} if t5 is None else {"cond_dim": t5.dim}
        generator = _build(MateGenerator, "generator", usual | config.generator.given())
        discriminator = _build_discriminator(usual | config.discriminator.given(), generator.image_size)
    vision = FrozenCLIPVision(vision_model, generator.config.clip_input)
    networks = Networks(tokenizer, text_encoder.requires_grad_(False).eval(), vision, generator, discriminator, t5)
    networks.t5_scale_known = scale is not None
    _check_fit(networks, model, clip)
    _freeze_dead_weights(discriminator)
    if model.second_clip:
        second_tokenizer, second_text, second_vision = load_clip(model.second_clip)
        networks.second = SecondCLIP(
            CLIPSentenceEncoder(second_tokenizer, second_text), FrozenCLIPVision(second_vision, "standard")
        )
    if model.feature_networks:
        networks.feature_networks = [open_feature_network(options) for options in model.feature_networks]
        channels = [count for network in networks.feature_networks for count in network.channels()]
        networks.heads = FeatureHeads(channels, networks.sentence_encoder.dim, model.head_channels)
    return networks


def build_parts(before: Networks, config: TrainConfig) -> Networks:
    """Fresh G and D beside the frozen networks of `before`; sizes that the configuration leaves open are those there.

    Raises:
        InputError: sizes contradict each other or the CLIP's.
    """
    sizes = {
        name: {key: value for key, value in getattr(before, name).config.items() if not key.startswith("_")}
        for name in ("generator", "discriminator")
    }
    generator = _build(MateGenerator, "generator", sizes["generator"] | config.generator.given())
    if isinstance(before.discriminator, PlainDiscriminator):
        plain = sizes["discriminator"] | {"image_size": generator.image_size}
        discriminator: Discriminator = _build(PlainDiscriminator, "discriminator", plain)
    else:
        asked = {name: value for name, value in config.discriminator.given().items() if name != "looks_at"}
        discriminator = _build(MateDiscriminator, "discriminator", sizes["discriminator"] | asked)
    after = replace(before, generator=generator, discriminator=discriminator)
    _check_fit(after, config.model, config.model.clip or config.model.start_from)
    _freeze_dead_weights(discriminator)
    return after


def _freeze_dead_weights(discriminator: Discriminator) -> None:
    """The released network's dead weights: kept for its files, never used, and gradient averaging waits for none."""
    for name, parameter in discriminator.named_parameters():
        if ".dead_shortcut." in name:
            parameter.requires_grad_(False)


def _start(model: str) -> str:
    """The folder of the model that is trained on: a bundled name, a folder, or a hub id."""
    folder = fetch(model, discriminator=True)
    if is_export(folder):
        raise InputError(f"model.start_from {model}: it is an exported model; name the one that it was made from")
    check_model_folder(folder)
    return str(folder)


def _recorded_scale(text: str) -> float | None:
    """The `text_scale` of a galip model folder that is conditioned by a T5."""
    try:
        recorded = json.loads((Path(text) / INDEX).read_text(encoding="utf-8")).get("text_scale")
    except (OSError, ValueError):
        return None
    return float(recorded) if recorded else None


def _build_discriminator(arguments: dict[str, Any], image_size: int) -> Discriminator:
    """Mate-D, or a plain discriminator with as many parameters as Mate-D of these arguments has."""
    looks_at = arguments.pop("looks_at", "clip")
    if looks_at == "clip":
        network: MateDiscriminator = _build(MateDiscriminator, "discriminator", arguments)
        return network
    with torch.device("meta"):
        like = _build(MateDiscriminator, "discriminator", arguments | {"dead_shortcuts": False})
    shared = {name: like.config[name] for name in ("out_channels", "assessor_channels", "cond_dim")}
    size = sum(parameter.numel() for parameter in like.parameters())
    try:
        return PlainDiscriminator.of_size(size, image_size, **shared)
    except ValueError as error:
        raise InputError(f"discriminator: {error}") from error


def _load_discriminator(folder: str, asked: DiscriminatorConfig) -> Discriminator:
    """The discriminator of a model folder, of the kind that it is."""
    try:
        kind = json.loads((Path(folder) / "discriminator" / "config.json").read_text(encoding="utf-8"))["_class_name"]
    except (OSError, ValueError, KeyError):
        kind = ""  # whatever is wrong shows when it is loaded
    plain = kind == PlainDiscriminator.__name__
    if asked.looks_at is not None and (asked.looks_at == "pixels") != plain:
        raise InputError(
            f"discriminator.looks_at is {asked.looks_at}, but that of {folder} is a {kind}, and training on from a "
            "model keeps it; leave it out"
        )
    sizes = asked.model_copy(update={"looks_at": None})
    network: Discriminator = _load(PlainDiscriminator if plain else MateDiscriminator, folder, "discriminator", sizes)
    return network


def _build(kind: Any, section: str, arguments: dict[str, Any]) -> Any:
    try:
        return kind(**arguments)
    except (TypeError, ValueError) as error:
        raise InputError(f"{section}: {error}") from error


def _load(kind: Any, folder: str, section: str, asked: Section) -> Any:
    """A network of a model folder; sizes that the configuration asks for must be its own."""
    try:
        network = kind.from_pretrained(folder, subfolder=section, use_safetensors=True).float()
    except (OSError, ValueError) as error:
        raise GalipError(
            f"{folder}: no {section} could be loaded from it; `model.start_from` must name a model folder with "
            f"generator/ and discriminator/ ({str(error).splitlines()[0]})"
        ) from error
    for name, wanted in asked.given().items():
        there = network.config.get(name)
        if _plain(there) != _plain(wanted):
            raise InputError(
                f"{section}.{name} is {_plain(wanted)}, but the model {folder} has {_plain(there)}, and training on "
                "from a model keeps its sizes; leave it out"
            )
    return network


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _check_fit(networks: Networks, model: ModelConfig, clip: str) -> None:
    vision, conditions = networks.vision, networks.sentence_encoder.dim
    sizes = {"vision_width": (vision.width, clip), "grid": (vision.grid, clip)}
    sizes["cond_dim"] = (conditions, model.text or clip)
    for section in ("generator", "discriminator"):
        network = getattr(networks, section)
        for name, (wanted, origin) in sizes.items():
            if network.config.get(name, wanted) != wanted:  # one that looks at pixels knows no CLIP
                raise InputError(
                    f"{section}.{name} is {network.config[name]}, but {origin} has {wanted}; "
                    f"choose the preset made for it, or set {section}.{name}={wanted}"
                )
    deepest = max((*networks.generator.prompt_blocks, *networks.discriminator.tap_blocks), default=0)
    if deepest >= vision.depth:
        raise InputError(
            f"block {deepest} is prompted or tapped, but the CLIP {clip} has {vision.depth} blocks (0 to "
            f"{vision.depth - 1}); set generator.prompt_blocks and discriminator.tap_blocks"
        )
