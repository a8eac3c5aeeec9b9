"""What is done with an inverted picture: change what it shows by a caption, and draw others like it.

Noise and sentence vectors are numpy's, so that any engine draws the result (`galip.latent.pipelines.draw`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galip.errors import InputError
from galip.generation import inputs
from galip.generation.noise import check_seed, noise
from galip.latent.interpolation import lerp_norm, slerp
from galip.latent.pipelines import embed

Array = NDArray[np.float32]

STRENGTH, AMOUNT = 1.0, 0.3


def edit(pipe: Any, e: Array, caption: str, source: str | None = None, strength: float = STRENGTH) -> Array:
    """Move a sentence vector by a caption. The noise is left alone, which keeps pose, layout and much of the style.

    With a source, what the picture shows now, the difference of the two captions is added: "a heart" -> "a blue heart"
    adds blue. Without one the vector goes towards the caption's, and at strength 1 it is the caption's.

    Args:
        pipe: the pipeline that will draw it, of any engine.
        e: float32 [cond_dim], or one for each stage, [num_stages, cond_dim].
        caption: what the picture is to show.
        source: what it shows now.
        strength: how far to go: 0 changes nothing; above 1, only with a source, it exaggerates.

    Returns:
        A vector of the same shape. Its length is kept, without a source it becomes the caption's by and by.

    Raises:
        InputError: a caption is empty, or `strength` is out of range.
    """
    amount = inputs.finite("strength", strength)
    if amount < 0 or (source is None and amount > 1):
        raise InputError(
            f"strength is {strength}: give 0 to 1"
            + (", or the caption that the picture begins with, to go further" if amount > 1 else "")
        )
    if amount == 0:
        return e.copy()
    if source is None:
        wanted = embed(pipe, [caption])[0]
        stages = [lerp_norm(stage, wanted, amount) for stage in np.atleast_2d(e)]
        return np.stack(stages).reshape(e.shape).astype(np.float32)
    before, after = embed(pipe, [source, caption])
    moved = e + np.float32(amount) * (after - before)
    return (moved * _length(e) / np.maximum(_length(moved), 1e-12)).astype(np.float32)


def variations(z: Array, count: int, amount: float = AMOUNT, seed: int = 0) -> Array:
    """Noises near one noise: each is turned from it towards the noise of another seed.

    Args:
        z: float32 [z_dim].
        count: how many.
        amount: how far on the way, 0 (the same) to 1 (the other seed's noise, with nothing of `z`).
        seed: the other seeds are s, s + 1, ...

    Returns:
        float32 [count, z_dim], to be drawn with the same sentence vector.

    Raises:
        InputError: an argument is out of range.
    """
    number = inputs.positive_int("count", count)
    if not 0 <= inputs.finite("amount", amount) <= 1:
        raise InputError(f"amount is {amount}: give 0 to 1")
    first = check_seed(seed)
    check_seed(first + number - 1)
    others = noise(range(first, first + number), len(z))
    # Noise of an inversion may be a little long or short: the way there changes direction alone.
    length = float(np.linalg.norm(z)) or math.sqrt(len(z))
    rows = [slerp(z, other * (length / float(np.linalg.norm(other))), amount) for other in others]
    return np.stack(rows).astype(np.float32)


def _length(vectors: Array) -> NDArray[Any]:
    return np.linalg.norm(vectors, axis=-1, keepdims=True)
