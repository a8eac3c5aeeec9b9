"""How fast images change on the way: features that tell them apart, and steps of equal size in these.

Even steps in the space are not even to the eye: a face keeps still for half of the way and then turns. So the way is
first generated coarsely, the distances of neighbouring images are added up, and frames are put at equal parts of that
sum (arc-length parametrisation).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from galip._deprecated import renamed
from galip.generation.pipeline import TextToImage
from galip.latent.clip import Scorer, scorer_for, unit_image_vectors
from galip.utils.arrays import DoubleArray
from galip.utils.checks import one_of

Images = NDArray[np.floating[Any]]

Features = Callable[[Images], NDArray[Any]]
"""Images, floats [B, S, S, 3] in [0, 1], to vectors [B, F] whose Euclidean distance says how different they look."""

Speed = Literal["even", "pixels", "clip"]
"""What is constant on a walk: steps in the space; what changes in the pixels; what changes in a CLIP's vectors."""

SAMPLES = 32
"""Images generated of each leg to measure it."""

_PIXEL_FIELDS = 32


def features_for(speed: str | Features, pipe: TextToImage) -> Features | None:
    """The features whose steps are equal at a speed; None where no image has to be generated to measure it.

    Args:
        speed: one of `Speed`, or a function that gives features.
        pipe: its own CLIP is the one meant by "clip".

    Raises:
        InputError: there is no such speed, or the model has no CLIP of its own.
    """
    if callable(speed):
        return speed
    if one_of("speed", speed, Speed) == "even":
        return None
    return pixels if speed == "pixels" else clip_features(scorer_for(pipe))


def clip_features(clip: Scorer) -> Features:
    """Unit vectors in a CLIP, whose distances are those of its cosine."""
    return lambda images: unit_image_vectors(clip, images)


def pixels(images: Images) -> DoubleArray:
    """Mean colours of at most 32 x 32 fields: large changes count, an edge that moves by a pixel hardly does."""
    side = images.shape[1]
    fields = min(side, _PIXEL_FIELDS)
    edges = np.arange(fields + 1) * (side / fields)
    starts = np.arange(side)
    # Share of each pixel [side] in each field [fields].
    shares = np.clip(np.minimum(edges[1:, None], starts + 1) - np.maximum(edges[:-1, None], starts), 0, None)
    shares /= shares.sum(1, keepdims=True)
    small = np.einsum("ih,nhwc,jw->nijc", shares, images, shares, optimize=True)
    return np.asarray(small, np.float64).reshape(len(images), -1) / fields


def arc_lengths(batches: Iterator[Images], features: Features, legs: int, samples: int = SAMPLES) -> DoubleArray:
    """How far it is from the start of each leg to each of its samples.

    Args:
        batches: the images of legs * samples + 1 places, evenly spaced in the space, in batches of any size.
        features: of a batch of images.
        legs: number of legs.
        samples: steps of each.

    Returns:
        [legs, samples + 1], each row beginning with 0. Only features of one batch are held at a time.
    """
    distances: list[float] = []
    last: DoubleArray | None = None
    for images in batches:
        vectors = np.asarray(features(images), np.float64)
        if last is not None:
            vectors = np.concatenate([last[None], vectors])
        distances += [float(np.linalg.norm(after - before)) for before, after in pairwise(vectors)]
        last = vectors[-1]
    steps = np.array(distances).reshape(legs, samples)
    return np.concatenate([np.zeros((legs, 1)), np.cumsum(steps, axis=1)], axis=1)


def place_at(lengths: DoubleArray, share: float) -> float:
    """Where on a leg, 0 to 1 in the space, a share of its way is covered.

    Args:
        lengths: one row of `arc_lengths`.
        share: 0 to 1.
    """
    if lengths[-1] <= 0:
        return share
    places = np.linspace(0.0, 1.0, len(lengths))
    # A little of the even way: where nothing at all changes, it alone leads on.
    rising = lengths / lengths[-1] + 1e-6 * places
    return float(np.interp(share * rising[-1], rising, places))


def allocate_frames(frames: int, lengths: DoubleArray) -> list[int]:
    """Divide frames among legs in proportion to their lengths, at least one each.

    Args:
        frames: how many there are, at least as many as legs.
        lengths: of the legs, 0 or more.
    """
    total = lengths.sum()
    wanted = frames * (lengths / total if total > 0 else np.full(len(lengths), 1 / len(lengths)))
    counts = np.maximum(np.floor(wanted), 1)
    while counts.sum() < frames:
        counts[np.argmax(wanted - counts)] += 1
    while counts.sum() > frames:
        counts[np.argmax(np.where(counts > 1, counts - wanted, -np.inf))] -= 1
    return [int(count) for count in counts]


def __getattr__(name: str) -> Any:
    return renamed(__name__, name)
