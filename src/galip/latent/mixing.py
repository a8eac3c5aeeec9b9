"""Mixing: one prompt for what an image is made of, another for its fine parts.

Each stage of the generator takes the sentence vector anew, so each may have one of its own (in the manner of style
mixing: Karras et al., CVPR 2019, section 3.1). In order:

    0        bridge     the Bridge-FP: noise to the coarse map that CLIP-ViT looks at
    1        prompts    the Prompt Predictor: what CLIP-ViT is told to see in it
    2, 3 ... up 1 ...   the Image Generator's up-blocks, coarse to fine
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from galip.errors import InputError
from galip.generation import inputs
from galip.generation.pipeline import TextToImage
from galip.utils.arrays import FloatArray

_BEFORE_UP = 2  # bridge and prompts


def stages(pipe: TextToImage) -> list[str]:
    """Names of the generator's stages, in the order of a mixed sentence vector's rows."""
    return ["bridge", "prompts", *(f"up {n + 1}" for n in range(pipe.sizes.num_stages - _BEFORE_UP))]


def default_fine_from(num_stages: int) -> int:
    """The first fine stage unless the caller says otherwise: the second half of the up-blocks, with a middle one."""
    return num_stages - (num_stages - _BEFORE_UP + 1) // 2


def mix(pipe: TextToImage, coarse: str | ArrayLike, fine: str | ArrayLike, fine_from: int | None = None) -> FloatArray:
    """A sentence vector for each stage: one prompt's for the coarse stages, another's for the fine ones.

    Args:
        pipe: a pipeline of any engine.
        coarse: prompt or sentence vector of the stages before `fine_from`.
        fine: prompt or sentence vector of the others.
        fine_from: number of the first fine stage, 0 to num_stages (`stages` names them); 0 leaves nothing to `coarse`,
            num_stages nothing to `fine`. None: the second half of the up-blocks is fine.

    Returns:
        float32 [num_stages, cond_dim], for `TextToImage.generate` or, as `[1, num_stages, cond_dim]`, for
        `prompt_embeds`.

    Raises:
        InputError: `fine_from` is out of range, or a prompt or vector cannot be used.
    """
    num_stages = pipe.sizes.num_stages
    first = check_fine_from(pipe, fine_from)
    return mix_stages(pipe, [coarse] * first + [fine] * (num_stages - first))


def mix_stages(pipe: TextToImage, sentences: Sequence[str | ArrayLike]) -> FloatArray:
    """A sentence vector for each stage, each given by itself.

    Args:
        pipe: a pipeline of any engine.
        sentences: a prompt or a sentence vector for each of the generator's stages.

    Returns:
        float32 [num_stages, cond_dim].

    Raises:
        InputError: there are more or fewer than stages, or a prompt or vector cannot be used.
    """
    size = pipe.sizes
    if len(sentences) != size.num_stages:
        raise InputError(
            f"{len(sentences)} sentences are given: this model has {size.num_stages} stages ({', '.join(stages(pipe))})"
        )
    prompts = list(dict.fromkeys(text for text in sentences if isinstance(text, str)))
    vectors: dict[str, Any] = dict(zip(prompts, pipe.embed(prompts), strict=True)) if prompts else {}
    rows = [
        vectors[text] if isinstance(text, str) else inputs.check_vector(f"sentence vector {n}", text, (size.cond_dim,))
        for n, text in enumerate(sentences)
    ]
    return np.stack(rows)


def per_stage(es: Sequence[FloatArray], num_stages: int) -> FloatArray:
    """Sentence vectors of K points as one array: [K, cond_dim], or [K, num_stages, cond_dim] where one is mixed."""
    if all(e.ndim == 1 for e in es):
        return np.stack(es)
    return np.stack([np.broadcast_to(e, (num_stages, e.shape[-1])) for e in es])


def check_fine_from(pipe: TextToImage, fine_from: int | None) -> int:
    """The first fine stage.

    Raises:
        InputError: it is not a whole number in 0 ... num_stages.
    """
    num_stages = pipe.sizes.num_stages
    if fine_from is None:
        return default_fine_from(num_stages)
    if fine_from == 0 and not isinstance(fine_from, bool):
        return 0
    if inputs.positive_int("fine_from", fine_from) > num_stages:
        named = ", ".join(f"{n} {name}" for n, name in enumerate(stages(pipe)))
        raise InputError(f"fine_from is {fine_from}: this model has the stages {named}; give 0 to {num_stages}")
    return int(fine_from)
