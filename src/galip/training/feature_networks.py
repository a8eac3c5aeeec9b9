"""Opens the frozen networks that further discriminators look through: `model.feature_networks`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoModel
from transformers.image_processing_base import ImageProcessingMixin

from galip.errors import GalipError, InputError
from galip.evaluation.extractors.timm import PREFIX, open_timm
from galip.models.feature_networks import FeatureNetwork, TimmFeatures, TransformersFeatures
from galip.torch_backend.encoders import load_network
from galip.training.feature_config import FeatureNetworkConfig

_DEPTHS = 4
_MIN_STRIDE = 4
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def open_feature_network(options: FeatureNetworkConfig) -> FeatureNetwork:
    """Load a frozen network; from safetensors, or a state dict of torch read with weights_only.

    Raises:
        InputError: there is no such network, or it has no map of a depth.
        GalipError: its weights cannot be had or do not fit, or no maps can be taken from it.
    """
    open_kind = _timm if options.name.startswith(PREFIX) else _transformers
    network = open_kind(options)
    try:
        channels = network.channels()
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError, AssertionError) as error:
        raise GalipError(
            f"model.feature_networks: {options.name} gives no maps at depths {list(network.depths)} "
            f"({(str(error).splitlines() or [type(error).__name__])[0]}); choose other depths, another side, or "
            "another network"
        ) from error
    if any(count < 1 for count in channels):
        raise GalipError(f"model.feature_networks: {options.name} gives empty maps; choose another network")
    return network


def _timm(options: FeatureNetworkConfig) -> FeatureNetwork:
    network: Any = open_timm(options.name.removeprefix(PREFIX), options.weights or None)
    strides = [int(info["reduction"]) for info in network.feature_info]
    depths = options.depths or _last_of_each_stride(strides)
    _check_depths(options, depths, len(strides))
    facts = network.pretrained_cfg
    side = options.side
    if side is None:
        side = int(facts["input_size"][-1]) if facts.get("fixed_input_size") else 0
    return TimmFeatures(network, facts["mean"], facts["std"], depths, side)


def _transformers(options: FeatureNetworkConfig) -> FeatureNetwork:
    if options.weights:
        raise InputError(
            f"model.feature_networks: {options.name} is transformers' and brings its weights; leave out weights, or "
            f"name a network of timm, {PREFIX}ARCHITECTURE"
        )
    place = str(Path(options.name).expanduser())
    try:
        model: nn.Module = load_network(AutoModel, place, may_lack=("pooler.", "vision_model.head."))
        model = getattr(model, "vision_model", model)  # of a CLIP, the side that sees
        config: Any = model.config
        count = int(getattr(config, "num_hidden_layers", 0) or len(config.depths))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, RuntimeError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise GalipError(
            f"model.feature_networks: {options.name}: no vision network could be loaded from it; give "
            f"{PREFIX}ARCHITECTURE, a folder with config.json and model.safetensors, or a hub id ({lines[0]})"
        ) from error
    depths = options.depths or _spread(range(1, count + 1))
    _check_depths(options, depths, count + 1)
    side = options.side
    if side is None:
        side = int(config.image_size) if isinstance(getattr(config, "image_size", None), int) else 0
    return TransformersFeatures(model, *_normalisation(place), depths, side)


def _normalisation(place: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of a network's input; ImageNet's where its folder does not say."""
    try:
        facts, _ = ImageProcessingMixin.get_image_processor_dict(place)
        return tuple(facts["image_mean"]), tuple(facts["image_std"])
    except (OSError, KeyError, ValueError, TypeError):
        return _IMAGENET_MEAN, _IMAGENET_STD


def _last_of_each_stride(strides: list[int]) -> tuple[int, ...]:
    """The deepest map of each stride from 4 on; where all have one stride, as in a transformer, evenly spaced ones."""
    found = {stride: number for number, stride in enumerate(strides) if stride >= _MIN_STRIDE}
    if len(found) > 1:
        return tuple(sorted(found.values()))
    return _spread(range(len(strides)))


def _spread(numbers: range) -> tuple[int, ...]:
    """At most four of `numbers`, evenly spaced, the last among them."""
    count = min(_DEPTHS, len(numbers))
    return tuple(numbers[(part + 1) * len(numbers) // count - 1] for part in range(count))


def _check_depths(options: FeatureNetworkConfig, depths: tuple[int, ...], count: int) -> None:
    wrong = [depth for depth in depths if not 0 <= depth < count]
    if wrong:
        raise InputError(
            f"model.feature_networks: {options.name} has no map {wrong[0]}; depths are from 0 to {count - 1}"
        )
