"""Smoothness of the space, measured: perceptual path length, seen by a CLIP.

Karras et al., "A Style-Based Generator Architecture for GANs" (CVPR 2019, section 4.1), cut the way between two random
points into steps of epsilon and ask how far apart the images on both sides of a step are:

    PPL = E[ d(G(w(t)), G(w(t + epsilon))) / epsilon^2 ],  t ~ U(0, 1)

Here d is the squared distance of two images' unit vectors in a CLIP, where theirs is LPIPS in VGG, which is a squared
distance too; so these numbers compare with each other, for one CLIP, and not with theirs. The way w leads

* from noise to noise, slerp, under one prompt;
* from prompt to prompt, direction and length of the sentence vector each in even steps, with one noise.

A generator that makes one image for all gets 0. So beside the path length stands what the shortest way between the
same two ends would have, d(G(w(0)), G(w(1))), and their ratio: 1 for a way that is straight and even, more for detours
and jumps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from galip._deprecated import renamed_arguments
from galip.errors import InputError
from galip.generation import inputs
from galip.generation.inputs import BATCH_SIZE
from galip.generation.noise import check_seed, noise
from galip.generation.pipeline import TextToImage
from galip.latent.clip import Scorer, scorer_for, unit_image_vectors
from galip.latent.interpolation import lerp_norm, slerp
from galip.utils.arrays import DoubleArray, FloatArray
from galip.utils.checks import one_of
from galip.utils.progress import Progress, no_progress

Walk = Literal["noise", "captions"]

PAIRS, EPSILON = 500, 1e-3
"""Smaller steps drown in the rounding of fp32, larger ones see the curve as straight; between 1e-3 and 1e-2 the number
of the bundled model stays the same."""

_RESAMPLES = 2000


@dataclass(frozen=True)
class PathLength:
    """How much images change on a walk.

    Attributes:
        walk: "noise" or "captions".
        value: perceptual path length, in squared cosine distance of unit vectors.
        low, high: its 95 % interval, bootstrap over the pairs.
        ratio: by the squared distance of the ends: 1 is straight and even. None where all ends are alike.
        ratio_low, ratio_high: its interval.
        pairs: how many ways were measured (N).
        seed: of the noises, the prompts and the places on the way.
        epsilon: the step.
        clip: which CLIP compared.
        values, ends: float64 [N], of each way: squared speed, and the squared distance of its ends.
    """

    walk: Walk
    value: float
    low: float
    high: float
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    pairs: int
    seed: int
    epsilon: float
    clip: str
    values: DoubleArray
    ends: DoubleArray


@renamed_arguments(captions="prompts")
def path_length(
    pipe: TextToImage,
    prompts: Sequence[str],
    walk: Walk = "noise",
    *,
    pairs: int = PAIRS,
    seed: int = 0,
    epsilon: float = EPSILON,
    clip: Scorer | str | Path | None = None,
    truncation: float = 1.0,
    batch_size: int = BATCH_SIZE,
    progress: Progress = no_progress,
) -> PathLength:
    """Measure the perceptual path length of a pipeline.

    Args:
        pipe: a pipeline of any engine. Half precision is too coarse for steps as small as the usual `epsilon`.
        prompts: what is generated: for walks in noise they take turns; for walks between prompts two different ones are
            picked for each way.
        walk: "noise" or "captions".
        pairs: how many ways. Each costs four images.
        seed: everything that is random follows from it.
        epsilon: the step, a share of the way.
        clip: the CLIP that compares, as for `best_of`.
        truncation: multiplies the noise.
        batch_size: images generated at once. It changes speed and memory alone.
        progress: told ("measuring", ways done, of how many).

    Raises:
        InputError: an argument is of the wrong kind or out of range.
        GalipError: the CLIP cannot be loaded.
    """
    one_of("walk", walk, Walk)
    words = inputs.clean_prompts(prompts)
    if walk == "captions" and len(set(words)) < 2:
        raise InputError("a walk between prompts needs two different ones")
    if inputs.positive_int("pairs", pairs) < 2:
        raise InputError(f"pairs is {pairs}: an interval needs 2 or more")
    inputs.positive_int("batch_size", batch_size)
    if not 0 < inputs.finite("epsilon", epsilon) < 1:
        raise InputError(f"epsilon is {epsilon}: give a share of the way, between 0 and 1")
    check_seed(check_seed(seed) + 2 * pairs)
    scorer = scorer_for(pipe, clip)
    values, ends = [], []
    for z, e in _steps(pipe, words, walk, pairs, seed, epsilon, max(1, batch_size // 4)):
        images = pipe.generate(z, e, truncation=truncation, batch_size=batch_size, output_type="np")
        vectors = unit_image_vectors(scorer, images).astype(np.float64)
        before, after, first, last = vectors.reshape(len(vectors) // 4, 4, -1).transpose(1, 0, 2)
        values.append(squared_speed(before, after, epsilon))
        ends.append(np.square(first - last).sum(1))
        progress("measuring", sum(map(len, values)), pairs)
    return _summary(walk, np.concatenate(values), np.concatenate(ends), seed, epsilon, scorer.name)


def squared_speed(before: NDArray[Any], after: NDArray[Any], epsilon: float) -> DoubleArray:
    """`|after - before|^2 / epsilon^2` of vectors [N, D], float64 [N]."""
    # From differences: the product of two unit vectors has lost the digits that matter here.
    return np.square(np.asarray(after, np.float64) - np.asarray(before, np.float64)).sum(1) / epsilon**2


def _steps(
    pipe: TextToImage, prompts: list[str], walk: Walk, pairs: int, seed: int, epsilon: float, at_once: int
) -> Iterator[tuple[FloatArray, FloatArray]]:
    """z and e of four images for each way: both sides of a step, and the two ends."""
    random = np.random.Generator(np.random.Philox(key=seed))
    places = random.random(pairs) * (1 - epsilon)
    distinct = list(dict.fromkeys(prompts))
    if walk == "captions":
        chosen = [random.choice(len(distinct), 2, replace=False).tolist() for _ in range(pairs)]
    else:
        chosen = [[distinct.index(prompts[number % len(prompts)])] * 2 for number in range(pairs)]
    for start in range(0, pairs, at_once):
        rows = range(start, min(start + at_once, pairs))
        texts = pipe.embed([distinct[place] for number in rows for place in chosen[number]])
        noises = noise([seed + 2 * number + end for number in rows for end in (0, 1)], pipe.sizes.z_dim)
        z, e = [], []
        for row, number in enumerate(rows):
            for t in (places[number], places[number] + epsilon, 0.0, 1.0):
                one, other = noises[2 * row], noises[2 * row + 1]
                z.append(slerp(one, other, t) if walk == "noise" else one)
                e.append(lerp_norm(texts[2 * row], texts[2 * row + 1], t) if walk == "captions" else texts[2 * row])
        yield np.stack(z), np.stack(e)


def _summary(walk: Walk, values: DoubleArray, ends: DoubleArray, seed: int, epsilon: float, clip: str) -> PathLength:
    count, random = len(values), np.random.Generator(np.random.Philox(key=0))
    samples = [random.integers(0, count, count) for _ in range(_RESAMPLES)]
    means = np.array([values[sample].mean() for sample in samples])
    straight = np.array([ends[sample].mean() for sample in samples])
    low, high = _middle(means)
    ratio = ratio_low = ratio_high = None
    if straight.all():
        ratio, (ratio_low, ratio_high) = float(values.mean() / ends.mean()), _middle(means / straight)
    return PathLength(
        walk=walk,
        value=float(values.mean()),
        low=low,
        high=high,
        ratio=ratio,
        ratio_low=ratio_low,
        ratio_high=ratio_high,
        pairs=count,
        seed=seed,
        epsilon=epsilon,
        clip=clip,
        values=values,
        ends=ends,
    )


def _middle(samples: DoubleArray) -> tuple[float, float]:
    low, high = np.quantile(samples, [0.025, 0.975]).tolist()
    return low, high
