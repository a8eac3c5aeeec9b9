"""Reranking: draw k pictures of a caption and keep those that a CLIP finds nearest to it.

What the generator gets for nothing, other seeds, is turned into pictures that follow the caption more often. The price
is k pictures instead of one, and some variety: what CLIP likes best is chosen again and again.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from galip.errors import InputError
from galip.generation import inputs
from galip.generation.inputs import BATCH_SIZE, RANDOM_SEED_BITS, PromptVectors
from galip.generation.noise import check_seed
from galip.generation.output import GALIPPipelineOutput, to_pil
from galip.latent.clip import CLIP, clip_of
from galip.latent.pipelines import Drawing

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Chosen:
    """What was kept of a caption's pictures, the nearest first.

    Attributes:
        caption: the caption, cleaned.
        images: the pictures; each is what the pipeline draws of the caption with the seed in the same place.
        seeds: their seeds.
        scores: cosines of picture and caption in the CLIP that chose, in [-1, 1].
        drawn: the cosines of all that were drawn, in the order of their seeds.
    """

    caption: str
    images: list[Image]
    seeds: list[int]
    scores: list[float]
    drawn: list[float]


def best_of(
    pipe: Drawing,
    prompt: str | Sequence[str],
    k: int,
    *,
    keep: int = 1,
    seed: int | None = None,
    clip: CLIP | str | Path | None = None,
    truncation: float = 1.0,
    batch_size: int = BATCH_SIZE,
) -> list[Chosen]:
    """Draw k pictures of each caption and keep the best.

    Args:
        pipe: a pipeline of any engine.
        prompt: a caption or several.
        k: how many are drawn of each, with the seeds s, s + 1, ..., s + k - 1.
        keep: how many of them are kept.
        seed: s; None: a random one, which the result tells.
        clip: the CLIP that chooses: an open one, a model's name, a folder, a hub id. None: the pipeline's own, whose
            picture side an exported model lacks.
        truncation: multiplies the noise.
        batch_size: how many pictures are drawn and looked at together. It changes speed and memory, no choice.

    Returns:
        One for each caption, in their order.

    Raises:
        InputError: an argument is of the wrong kind or out of range, or the pipeline has no CLIP to choose with.
        GalipError: the CLIP cannot be loaded.
    """
    count = inputs.positive_int("k", k)
    first = secrets.randbits(RANDOM_SEED_BITS) if seed is None else check_seed(seed)
    check_seed(first + count - 1)
    seeds = range(first, first + count)
    return list(stream_best(pipe, prompt, seeds, keep=keep, clip=clip, truncation=truncation, batch_size=batch_size))


def stream_best(
    pipe: Drawing,
    prompt: str | Sequence[str],
    seeds: Sequence[int],
    *,
    keep: int = 1,
    clip: CLIP | str | Path | None = None,
    truncation: float = 1.0,
    batch_size: int = BATCH_SIZE,
) -> Iterator[Chosen]:
    """`best_of` for any seeds, caption by caption: no more than a batch and what is kept is ever in memory.

    Arguments are checked and the CLIP is loaded at once; pictures are drawn as the iteration goes on. Of equal scores
    the earlier seed wins.

    Args:
        seeds: the candidates of every caption.

    Args, exceptions: the others as for `best_of`.
    """
    captions = inputs.clean_prompts(prompt)
    candidates = [check_seed(seed) for seed in seeds]
    if inputs.positive_int("keep", keep) > len(candidates):
        raise InputError(f"keep is {keep}, but only {len(candidates)} pictures of each caption are drawn")
    batches = pipe.stream(
        captions,
        len(candidates),
        seed=candidates * len(captions),
        truncation=truncation,
        batch_size=batch_size,
        output_type="np",
    )
    return _choose(batches, captions, candidates, keep, clip_of(pipe, clip))


def _choose(
    batches: Iterator[GALIPPipelineOutput], captions: list[str], seeds: list[int], keep: int, clip: CLIP
) -> Iterator[Chosen]:
    import torch

    texts = PromptVectors(lambda some: clip.read(some).cpu().numpy(), captions)
    k, number = len(seeds), 0
    scores: list[float] = []
    best: list[tuple[float, int, Image]] = []  # the `keep` best so far: (minus score, place, picture), the best first
    for batch in batches:
        count = len(batch.images)
        wanted = torch.from_numpy(texts([i // k for i in range(number, number + count)])).to(clip.device)
        cosines = (clip.look_at(batch.images) * wanted).sum(1).tolist()
        for image, score in zip(batch.images, cosines, strict=True):
            place = number % k
            scores.append(score)
            if len(best) < keep or -score < best[-1][0]:
                best = sorted([*best[: keep - 1], _entry(score, place, image)], key=lambda entry: entry[:2])
            if place == k - 1:
                yield Chosen(
                    captions[number // k],
                    [entry[2] for entry in best],
                    [seeds[entry[1]] for entry in best],
                    [-entry[0] for entry in best],
                    scores,
                )
                scores, best = [], []
            number += 1


def _entry(score: float, place: int, image: np.ndarray[Any, Any]) -> tuple[float, int, Image]:
    return -score, place, to_pil(image)[0]
