"""Prompt arithmetic: what makes "a red bird" of "a bird", as a direction for any sentence vector to be moved along."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from galip.errors import InputError
from galip.generation import inputs
from galip.generation.pipeline import TextToImage
from galip.utils.arrays import FloatArray


@dataclass(frozen=True)
class Direction:
    """The way from one kind of prompt to another.

    Attributes:
        vector: float32 [cond_dim], the difference of the sentence vectors.
        growth: by how much the second kind's vectors are longer.
    """

    vector: FloatArray
    growth: float


def direction(pipe: TextToImage, source: str | Sequence[str], target: str | Sequence[str]) -> Direction:
    """The direction from "a bird" to "a red bird".

    Several pairs give the mean of their directions, in which what is special to one of them drops out.

    Args:
        pipe: a pipeline of any engine.
        source: a prompt, or several.
        target: the same with what is to be added; as many.

    Raises:
        InputError: there are not as many of both, one is empty, or nothing is different.
    """
    before, after = inputs.clean_prompts(source), inputs.clean_prompts(target)
    if len(before) != len(after):
        raise InputError(f"{len(before)} prompts lead to {len(after)}: a direction needs pairs, as many of both")
    if before == after:
        raise InputError(f"the prompts {before[0]!r} and {after[0]!r} are the same: there is no direction between them")
    vectors = pipe.embed([*before, *after]).astype(np.float64)
    a, b = vectors[: len(before)], vectors[len(before) :]
    growth = np.linalg.norm(b, axis=1).mean() - np.linalg.norm(a, axis=1).mean()
    return Direction((b - a).mean(0).astype(np.float32), float(growth))


def shift(e: ArrayLike, along: Direction, strength: float = 1.0) -> FloatArray:
    """Move a sentence vector along a direction.

    Its own length is kept, but for the growth that belongs to the direction: what leads from "a bird" to "a red bird"
    takes the vector of the first, at strength 1, to that of the second.

    Args:
        e: a sentence vector [..., cond_dim]; all stages of a mixed one are moved.
        along: the direction.
        strength: 0 leaves `e` as it is, 1 is the whole way; above 1 goes further, below 0 away from it.

    Returns:
        float32, the shape of `e`.

    Raises:
        InputError: the sizes do not go together, or `strength` is not finite or so large that nothing is left.
    """
    amount = inputs.finite("strength", strength)
    start = np.asarray(e, np.float64)
    if start.ndim == 0 or start.shape[-1] != len(along.vector):
        raise InputError(
            f"a sentence vector of shape {list(start.shape)} cannot go along a direction of length {len(along.vector)}"
            ": they belong to different models"
        )
    if amount == 0:
        return start.astype(np.float32)
    moved = start + amount * along.vector.astype(np.float64)
    size = np.linalg.norm(moved, axis=-1, keepdims=True)
    length = np.linalg.norm(start, axis=-1, keepdims=True) + amount * along.growth
    if (length <= 0).any() or (size == 0).any():
        raise InputError(f"strength is {strength}: nothing of the sentence is left; give a number nearer to 0")
    return (moved * (length / size)).astype(np.float32)
