"""The frozen networks that GALIP is trained with, from folders and hub ids: a CLIP's two sides, a T5's encoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import (
    AutoTokenizer,
    CLIPTextModelWithProjection,
    CLIPVisionModelWithProjection,
    PretrainedConfig,
    T5EncoderModel,
)
from transformers.utils import logging

from galip.errors import GalipError
from galip.model_repo.configs import check_no_code
from galip.model_repo.format import INDEX
from galip.model_repo.resolve import bundled_models

_LIBRARY_ERRORS = (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, RuntimeError)
"""What transformers raises at files that are missing, damaged or do not belong together."""


def load_clip(name: str) -> tuple[Any, CLIPTextModelWithProjection, CLIPVisionModelWithProjection]:
    """The parts of a CLIP that GALIP is trained with: tokenizer, text model and vision model, in fp32.

    Args:
        name: a folder with a CLIP in transformers' format, a galip model folder, or a hub id.

    Raises:
        GalipError: it cannot be loaded, or weights are missing in it.
    """
    places = _places(name, "tokenizer", "text_encoder", "vision_encoder")
    try:
        tokenizer = load_tokenizer(places["tokenizer"])
        text = load_network(CLIPTextModelWithProjection, places["text_encoder"])
        vision = load_network(CLIPVisionModelWithProjection, places["vision_encoder"])
    except _LIBRARY_ERRORS as error:
        raise _not_loaded(name, "CLIP", error) from error
    return tokenizer, text, vision


def load_t5(name: str) -> tuple[Any, T5EncoderModel]:
    """A T5's tokenizer and encoder, in fp32.

    Args:
        name: a folder in transformers' format, a galip model folder that is conditioned by a T5, or a hub id.

    Raises:
        GalipError: it cannot be loaded, or weights are missing in it.
    """
    places = _places(name, "tokenizer", "text_encoder")
    try:
        return load_tokenizer(places["tokenizer"]), load_network(T5EncoderModel, places["text_encoder"])
    except _LIBRARY_ERRORS as error:
        raise _not_loaded(name, "T5", error) from error


def load_tokenizer(place: str) -> Any:
    """The tokenizer in a folder or of a hub id; one that brings code of its own is refused."""
    return AutoTokenizer.from_pretrained(place, trust_remote_code=False)


def load_network(kind: Any, place: str, *, may_lack: tuple[str, ...] = (), **options: Any) -> Any:
    """A network of transformers, in fp32, from safetensors only.

    Args:
        kind: its class.
        place: a folder or a hub id.
        may_lack: beginnings of the names of weights that may be missing, as nobody uses them.
        options: `from_pretrained`'s own.

    Raises:
        ValueError: weights are missing, or the configuration asks for code.
    """
    config, _ = PretrainedConfig.get_config_dict(place, **options)
    check_no_code(place, config)
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # or each half of a CLIP complains of the other half's weights
    try:
        network, facts = kind.from_pretrained(
            place, use_safetensors=True, trust_remote_code=False, output_loading_info=True, **options
        )
    finally:
        logging.set_verbosity(verbosity)
    missing = sorted(name for name in facts["missing_keys"] if not name.startswith(may_lack))
    if missing:
        raise ValueError(f"no weights for {', '.join(missing[:3])} ...")
    return network.float()


def _places(name: str, *parts: str) -> Mapping[str, str]:
    """Where each part lies: a galip model keeps each in a folder of its own."""
    folder = bundled_models().get(name, Path(name))
    inside = (folder / INDEX).is_file()
    return {part: str(folder / part) if inside else name for part in parts}


def _not_loaded(name: str, what: str, error: Exception) -> GalipError:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return GalipError(
        f"{name}: no {what} could be loaded from it; give a folder with config.json, model.safetensors and the "
        f"tokenizer's files, or a hub id that can be reached ({lines[0]})"
    )
