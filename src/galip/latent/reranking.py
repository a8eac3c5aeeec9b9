"""Reranking: generate k images of a prompt and keep those that a CLIP finds nearest to it.

What the generator gets for nothing, other seeds, is turned into images that follow the prompt more often. The price
is k images instead of one, and some variety: what CLIP likes best is chosen again and again.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from galip.errors import InputError
from galip.generation import inputs
from galip.generation.inputs import BATCH_SIZE, RANDOM_SEED_BITS, PromptVectors
from galip.generation.noise import check_seed
from galip.generation.output import GALIPPipelineOutput, to_pil
from galip.generation.pipeline import TextToImage
from galip.latent.clip import Scorer, scorer_for, unit_image_vectors, unit_prompt_vectors

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Chosen:
    """What was kept of a prompt's images, the nearest first.

    Attributes:
        prompt: the prompt, cleaned.
        images: the images; each is what the pipeline generates of the prompt with the seed in the same place.
        seeds: their seeds.
        scores: cosines of image and prompt in the CLIP that chose, in [-1, 1].
        all_scores: the cosines of all candidates, in the order of their seeds.
    """

    prompt: str
    images: list[Image]
    seeds: list[int]
    scores: list[float]
    all_scores: list[float]


def best_of(
    pipe: TextToImage,
    prompt: str | Sequence[str],
    k: int,
    *,
    keep: int = 1,
    seed: int | None = None,
    clip: Scorer | str | Path | None = None,
    truncation: float = 1.0,
    batch_size: int = BATCH_SIZE,
) -> list[Chosen]:
    """Generate k images of each prompt and keep the best.

    Args:
        pipe: a pipeline of any engine.
        prompt: a prompt or several.
        k: how many are generated of each, with the seeds s, s + 1, ..., s + k - 1.
        keep: how many of them are kept.
        seed: s; None: a random one, which the result tells.
        clip: the CLIP that chooses: an open one, or a model's name, a folder, a hub id, which torch opens. None: the
            model's own.
        truncation: multiplies the noise.
        batch_size: how many images are generated and scored together. It changes speed and memory, no choice.

    Returns:
        One for each prompt, in their order.

    Raises:
        InputError: an argument is of the wrong kind or out of range, or the model has no CLIP to choose with.
        GalipError: the CLIP cannot be loaded.
    """
    count = inputs.positive_int("k", k)
    first = secrets.randbits(RANDOM_SEED_BITS) if seed is None else check_seed(seed)
    check_seed(first + count - 1)
    seeds = range(first, first + count)
    return list(stream_best(pipe, prompt, seeds, keep=keep, clip=clip, truncation=truncation, batch_size=batch_size))


def stream_best(
    pipe: TextToImage,
    prompt: str | Sequence[str],
    seeds: Sequence[int],
    *,
    keep: int = 1,
    clip: Scorer | str | Path | None = None,
    truncation: float = 1.0,
    batch_size: int = BATCH_SIZE,
) -> Iterator[Chosen]:
    """`best_of` for any seeds, prompt by prompt: no more than a batch and what is kept is ever in memory.

    Arguments are checked and the CLIP is loaded at once; images are generated as the iteration goes on. Of equal scores
    the earlier seed wins.

    Args:
        seeds: the candidates of every prompt.

    Args, exceptions: the others as for `best_of`.
    """
    prompts = inputs.clean_prompts(prompt)
    candidates = [check_seed(seed) for seed in seeds]
    if inputs.positive_int("keep", keep) > len(candidates):
        raise InputError(f"keep is {keep}, but only {len(candidates)} images of each prompt are generated")
    batches = pipe.stream(
        prompts,
        len(candidates),
        seed=candidates * len(prompts),
        truncation=truncation,
        batch_size=batch_size,
        output_type="np",
    )
    return _choose(batches, prompts, candidates, keep, scorer_for(pipe, clip))


def _choose(
    batches: Iterator[GALIPPipelineOutput], prompts: list[str], seeds: list[int], keep: int, scorer: Scorer
) -> Iterator[Chosen]:
    texts = PromptVectors(lambda some: unit_prompt_vectors(scorer, some), prompts)
    k, number = len(seeds), 0
    scores: list[float] = []
    best: list[tuple[float, int, Image]] = []  # the `keep` best so far: (minus score, place, image), the best first
    for batch in batches:
        wanted = texts([i // k for i in range(number, number + len(batch.images))])
        cosines = (unit_image_vectors(scorer, batch.images) * wanted).sum(axis=1).tolist()
        for image, score in zip(batch.images, cosines, strict=True):
            place = number % k
            scores.append(score)
            if len(best) < keep or -score < best[-1][0]:
                entry = (-score, place, to_pil(image)[0])
                best = sorted([*best[: keep - 1], entry], key=lambda entry: entry[:2])
            if place == k - 1:
                yield Chosen(
                    prompts[number // k],
                    [entry[2] for entry in best],
                    [seeds[entry[1]] for entry in best],
                    [-entry[0] for entry in best],
                    scores,
                )
                scores, best = [], []
            number += 1
