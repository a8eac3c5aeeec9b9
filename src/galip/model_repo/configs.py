"""The configurations of a model's parts, checked before a library builds a network of them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from galip.errors import GalipError
from galip.model_repo.weights import Tensor
from galip.utils.untrusted import read_json_object

Setting = tuple[Any, float, float]
"""Kind of a number, the least and the largest value that it may have."""

_AGAIN = "save or fetch the model again"
_MISSING = f"weights are missing, or they belong to another model: {_AGAIN}"
_MAX_WIDTH, _MAX_DEPTH, _MAX_SIDE = 2**16, 1000, 2**12

_COUNT: Setting = (int, 1, _MAX_WIDTH)
_LAYERS: Setting = (int, 1, _MAX_DEPTH)
_SIDE: Setting = (int, 1, _MAX_SIDE)
_VOCABULARY: Setting = (int, 1, 2**24)
_FACTOR: Setting = ((int, float), -1e6, 1e6)

_TRANSFORMER: dict[str, Setting] = {
    "hidden_size": _COUNT,
    "intermediate_size": _COUNT,
    "num_hidden_layers": _LAYERS,
    "num_attention_heads": _COUNT,
    "projection_dim": _COUNT,
    "layer_norm_eps": ((int, float), 0, 1),
    "attention_dropout": ((int, float), 0, 1),
}
_NUMBERS: dict[str, dict[str, Setting]] = {
    "generator": {
        "z_dim": _COUNT,
        "cond_dim": _COUNT,
        "vision_width": _COUNT,
        "grid": _SIDE,
        "bridge_channels": _COUNT,
        "bridge_hidden": _COUNT,
        "bridge_blocks": _LAYERS,
        "stem_channels": _COUNT,
        "concept_scale": _FACTOR,
        "image_channels": (int, 3, 4),
        "prompt_tokens": (int, 1, _MAX_DEPTH),
    },
    "discriminator": {
        "cond_dim": _COUNT,
        "vision_width": _COUNT,
        "grid": _SIDE,
        "out_channels": _COUNT,
        "assessor_channels": _COUNT,
        # of one that looks at pixels
        "image_size": _SIDE,
        "channels": _COUNT,
    },
    "vision_encoder": _TRANSFORMER | {"image_size": _SIDE, "patch_size": _SIDE, "num_channels": (int, 3, 3)},
    "text_encoder": _TRANSFORMER
    | {
        "vocab_size": _VOCABULARY,
        "max_position_embeddings": _COUNT,
        # T5's names
        "d_model": _COUNT,
        "d_kv": _COUNT,
        "d_ff": _COUNT,
        "num_layers": _LAYERS,
        "num_decoder_layers": _LAYERS,
        "num_heads": _COUNT,
        "relative_attention_num_buckets": _COUNT,
        "relative_attention_max_distance": _COUNT,
        "dropout_rate": ((int, float), 0, 1),
    },
}
_LISTS: dict[str, dict[str, Setting]] = {
    "generator": {
        "block_sizes": _SIDE,
        "block_channels": _COUNT,
        "prompt_blocks": (int, 0, _MAX_DEPTH),
    },
    "discriminator": {"tap_blocks": (int, 0, _MAX_DEPTH)},
}
_STORED_SIZES = (
    *("hidden_size", "intermediate_size", "projection_dim", "vocab_size", "max_position_embeddings", "patch_size"),
    *("d_model", "d_ff", "relative_attention_num_buckets"),
    *("vision_width", "bridge_channels", "bridge_hidden", "stem_channels", "block_channels"),
)
"""Settings that are the side of some weight."""

_LAYER = re.compile(r"\b(?:layers|block)\.(\d+)\.")

_ATTENTION = (None, "eager", "sdpa")
"""Another name can make a library fetch a kernel, which is code, from the hub."""

_REFUSED = {
    "quantization_config": "quantised weights are not read",
    "auto_map": "a model brings no code",
    "custom_pipelines": "a model brings no code",
}


def read_config(folder: Path, part: str) -> dict[str, Any]:
    """A part's `config.json`, once it is sure that a network can be built of it and that it asks for no code.

    Args:
        folder: the model.
        part: "generator", "discriminator", "vision_encoder" or "text_encoder".

    Raises:
        GalipError: it is missing or damaged, or a setting is out of range.
    """
    file = folder / part / "config.json"
    config = read_json_object(file, _AGAIN)
    for name, setting in _NUMBERS[part].items():
        if config.get(name) is not None:
            _check_number(file, name, config[name], setting)
    for name, setting in _LISTS.get(part, {}).items():
        if (values := config.get(name)) is not None:
            fewest = 0 if name == "prompt_blocks" else 1
            if not isinstance(values, list) or not fewest <= len(values) <= _MAX_DEPTH:
                raise GalipError(f"{file}: {name} is {_shown(values)}; a list of numbers is needed")
            for value in values:
                _check_number(file, name, value, setting)
    check_no_code(file, config)
    return config


def check_no_code(where: str | Path, config: Mapping[str, Any]) -> None:
    """Make sure that a network's configuration asks for nothing beyond the library's own networks.

    Raises:
        GalipError: it names an attention that may be code from the hub, quantised weights, or classes of its own.
    """
    for name in ("attn_implementation", "_attn_implementation", "_attn_implementation_internal"):
        if config.get(name) not in _ATTENTION:
            raise GalipError(f"{where}: {name} is {_shown(config[name])}; only eager and sdpa are run")
    for name, why in _REFUSED.items():
        if config.get(name):
            raise GalipError(f"{where}: it has {name}, but {why}; take it out, or use another model")


def check_fits_weights(folder: Path, part: str, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Make sure that a configuration belongs to the weights beside it, before memory is taken for what it says.

    Args:
        folder: the model.
        part: one of its networks.
        config: from `read_config`.
        tensors: from `read_tensors`.

    Raises:
        GalipError: a size is not found in any weight, or there are fewer layers.
    """
    file = folder / part / "config.json"
    sides = {side for tensor in tensors.values() for side in tensor.shape}
    for name in _STORED_SIZES:
        value = config.get(name)
        for size in value if isinstance(value, list) else [value]:
            if size is not None and size not in sides:
                raise GalipError(f"{file}: {name} is {size}, but no weight beside it is of that size; {_MISSING}")
    stored = len({found.group(1) for name in tensors if (found := _LAYER.search(name))})
    for name in ("num_hidden_layers", "num_layers"):
        if (config.get(name) or 0) > stored:
            raise GalipError(f"{file}: {name} is {config[name]}, but there are weights of {stored} layers; {_MISSING}")


def image_size(folder: Path) -> int:
    """Side of a model's images in pixels.

    Raises:
        GalipError: the generator's configuration does not say it.
    """
    sizes = read_config(folder, "generator").get("block_sizes")
    if not sizes:
        raise GalipError(f"{folder / 'generator/config.json'}: block_sizes does not say the size of images")
    return int(sizes[-1])


def _check_number(file: Path, name: str, value: Any, setting: Setting) -> None:
    kind, low, high = setting
    number = value if isinstance(value, kind) and not isinstance(value, bool) else math.nan
    if not low <= number <= high:
        wanted = "a whole number" if kind is int else "a number"
        raise GalipError(f"{file}: {name} is {_shown(value)}; {wanted} from {low:g} to {high:g} is needed")


def _shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**18 else "a number of many digits"
    return text if len(text) <= 60 else text[:57] + "..."
