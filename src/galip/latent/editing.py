"""What is done with an inverted image: change what it shows by a prompt, and generate others like it.

Noise and sentence vectors are numpy's, so that any engine generates the result (`TextToImage.generate`).
"""

from __future__ import annotations

import math

import numpy as np

from galip._deprecated import renamed_arguments
from galip.errors import InputError
from galip.generation import inputs
from galip.generation.noise import check_seed, noise
from galip.generation.pipeline import TextToImage
from galip.latent.interpolation import lerp_norm, slerp
from galip.utils.arrays import FloatArray

STRENGTH, AMOUNT = 1.0, 0.3


@renamed_arguments(caption="prompt")
def edit(
    pipe: TextToImage, e: FloatArray, prompt: str, source: str | None = None, strength: float = STRENGTH
) -> FloatArray:
    """Move a sentence vector by a prompt. The noise is left alone, which keeps pose, layout and much of the style.

    With a source, what the image shows now, the difference of the two prompts is added: "a heart" -> "a blue heart"
    adds blue. Without one the vector goes towards the prompt's, and at strength 1 it is the prompt's.

    Args:
        pipe: the pipeline that will generate it, of any engine.
        e: float32 [cond_dim], or one for each stage, [num_stages, cond_dim].
        prompt: what the image is to show.
        source: what it shows now.
        strength: how far to go: 0 changes nothing; above 1, only with a source, it exaggerates.

    Returns:
        A vector of the same shape. Its length is kept, without a source it becomes the prompt's by and by.

    Raises:
        InputError: a prompt is empty, or `strength` is out of range.
    """
    amount = inputs.finite("strength", strength)
    if amount < 0 or (source is None and amount > 1):
        raise InputError(
            f"strength is {strength}: give 0 to 1"
            + (", or the prompt that the image begins with, to go further" if amount > 1 else "")
        )
    if amount == 0:
        return e.copy()
    if source is None:
        wanted = pipe.embed([prompt])[0]
        stages = [lerp_norm(stage, wanted, amount) for stage in np.atleast_2d(e)]
        return np.stack(stages).reshape(e.shape).astype(np.float32)
    before, after = pipe.embed([source, prompt])
    moved = e + np.float32(amount) * (after - before)
    return (moved * _length(e) / np.maximum(_length(moved), 1e-12)).astype(np.float32)


def variations(z: FloatArray, count: int, amount: float = AMOUNT, seed: int = 0) -> FloatArray:
    """Noises near one noise: each is turned from it towards the noise of another seed.

    Args:
        z: float32 [z_dim].
        count: how many.
        amount: how far on the way, 0 (the same) to 1 (the other seed's noise, with nothing of `z`).
        seed: the other seeds are s, s + 1, ...

    Returns:
        float32 [count, z_dim], to be generated with the same sentence vector.

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


def _length(vectors: FloatArray) -> FloatArray:
    return np.asarray(np.linalg.norm(vectors, axis=-1, keepdims=True))
