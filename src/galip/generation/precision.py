"""What a generator computes in: fp32, bf16, fp16 or int8; what an engine and this processor have of it."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from galip.errors import InputError
from galip.generation.engines import openvino_precisions
from galip.generation.noise import noise
from galip.generation.pipeline import TextToImage
from galip.model_repo.export_folder import Manifest
from galip.utils.arrays import FloatArray

ComputePrecision = Literal["fp32", "bf16", "fp16", "int8"]
"""What the generator computes in. Prompts are always encoded in fp32."""

AUTO = "auto"
"""The fastest that stays within `MAX_LEVELS` of fp32 here; see `galip.generation.fastest`."""

MAX_LEVELS = 2.0
"""How far any number of an image may be from that in fp32, in levels of 255, for `AUTO` to take a precision."""

_THINGS = (
    "red heart", "sleepy cat", "bowl of soup", "blue car", "bird on a branch", "man on a horse", "plate of pizza",
    "yellow star", "city street at night", "dog in the snow", "wooden clock", "green tree", "woman with an umbrella",
    "boat on a lake", "smiling face", "pair of shoes",
)  # fmt: skip
_WORDINGS = ("a {}", "a photo of a {}", "a {}, close up", "a drawing of a {} on a white background")

PROMPTS = tuple(wording.format(thing) for wording in _WORDINGS for thing in _THINGS)
"""The fixed prompts that int8 is calibrated with and precisions are compared over; the i-th with seed i."""

_COMPARED = 16


def check_precision(precision: str | None) -> None:
    """Make sure that there is such a precision.

    Raises:
        InputError: there is not.
    """
    if precision not in (None, AUTO, *get_args(ComputePrecision)):
        known = ", ".join((*get_args(ComputePrecision), AUTO))
        raise InputError(f"precision {precision!r}: there is no such precision, use one of {known}")


def lacking(engine: str, precision: str) -> str | None:
    """Why an engine cannot compute in a precision on this machine, in one line; None where it can.

    torch says itself, when it loads a model, what a GPU lacks; on a CPU it computes in any floating point.

    Args:
        engine: one of `galip.generation.select.ENGINES`.
        precision: a `ComputePrecision`.

    Raises:
        GalipError: the engine is not installed.
    """
    if engine in ("torch", "compile"):
        there: tuple[str, ...] = ("fp32", "bf16", "fp16")
    else:
        there = openvino_precisions() if engine == "openvino" else ("fp32", "int8")
    if precision in there:
        return None
    on = " on this processor" if engine == "openvino" else ""
    return f"precision {precision}: {engine} computes in {' and '.join(there)}{on}; use one of these, or auto"


def precision_of_export(manifest: Manifest, asked: str | None) -> str:
    """What an exported model computes in: int8 if it was made for it, else any floating point.

    Args:
        manifest: of the exported model.
        asked: a precision, "auto", or None.

    Raises:
        InputError: they do not fit each other.
    """
    made_for_int8 = manifest.precision == "int8"
    if made_for_int8 and asked in (None, AUTO, "int8"):
        return "int8"
    if made_for_int8 or asked == "int8":
        made = "int8" if made_for_int8 else "floating point"
        raise InputError(f"precision {asked}: this model is exported for {made}; give the one that it was made from")
    return asked or "fp32"


def images_to_compare(pipe: TextToImage) -> FloatArray:
    """The images [16, S, S, C] in [0, 1] of the first prompts, which a precision is judged by."""
    images: FloatArray = pipe.generate(*noise_and_sentences(pipe, _COMPARED), batch_size=8, output_type="np")
    return images


def noise_and_sentences(pipe: TextToImage, count: int) -> tuple[FloatArray, FloatArray]:
    """Noise z [count, z_dim] and sentence vectors e [count, cond_dim] of the first prompts."""
    seeds, sizes = range(count), pipe.sizes
    has_encoder = pipe.backend.text_encoder is not None
    return noise(seeds, sizes.z_dim), pipe.embed(PROMPTS[:count]) if has_encoder else noise(seeds, sizes.cond_dim)


def levels_apart(images: FloatArray, others: FloatArray) -> float:
    """The largest difference of two sets of images in [0, 1], in levels of 255."""
    return float(np.abs(images - others).max() * 255)
