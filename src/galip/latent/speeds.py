"""How fast pictures change on the way: what looks at them, and steps of equal size in what it sees.

Even steps in the space are not even to the eye: a face keeps still for half of the way and then turns. So the way is
drawn coarsely first, the distances of neighbouring pictures are added up, and frames are put at equal parts of that sum
(arc-length parametrisation).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from galip.errors import InputError

Pictures = NDArray[np.floating[Any]]
Doubles = NDArray[np.float64]

Look = Callable[[Pictures], NDArray[Any]]
"""Pictures, floats [B, S, S, 3] in [0, 1], to features [B, F] whose Euclidean distance says how different they look."""

Speed = Literal["even", "pixels", "clip"]
"""What is constant on a walk: steps in the space; what changes in the pixels; what changes to a CLIP's eye."""

SAMPLES = 32
"""Pictures drawn of each leg to measure it."""

_SEEN_SIDE = 32


def look_for(speed: str | Look, pipe: Any) -> Look | None:
    """What looks at the pictures for a speed; None where none needs to be drawn.

    Args:
        speed: one of `Speed`, or a function that looks.
        pipe: its own CLIP is the one meant by "clip".

    Raises:
        InputError: there is no such speed, or the pipeline has no CLIP that sees.
    """
    if callable(speed):
        return speed
    if check_speed(speed) == "even":
        return None
    if speed == "pixels":
        return pixels
    from galip.latent.clip import clip_of

    return look_by(clip_of(pipe))


def check_speed(speed: Any) -> Speed:
    """`speed`, which must be one of `Speed`.

    Raises:
        InputError: it is not.
    """
    if speed not in get_args(Speed):
        raise InputError(f"speed {speed!r}: use one of {', '.join(get_args(Speed))}")
    return speed  # type: ignore[no-any-return]


def look_by(clip: Any) -> Look:
    """The eye of a `galip.latent.clip.CLIP`: unit vectors, whose distances are those of CLIP's cosine."""

    def look(pictures: Pictures) -> NDArray[Any]:
        seen: NDArray[Any] = clip.look_at(pictures).cpu().numpy()
        return seen

    return look


def pixels(pictures: Pictures) -> Doubles:
    """Mean colours of at most 32 x 32 fields: large changes count, an edge that moves by a pixel hardly does."""
    side = pictures.shape[1]
    fields = min(side, _SEEN_SIDE)
    edges = np.arange(fields + 1) * (side / fields)
    starts = np.arange(side)
    # Share of each pixel [side] in each field [fields].
    shares = np.clip(np.minimum(edges[1:, None], starts + 1) - np.maximum(edges[:-1, None], starts), 0, None)
    shares /= shares.sum(1, keepdims=True)
    small = np.einsum("ih,nhwc,jw->nijc", shares, pictures, shares, optimize=True)
    return np.asarray(small, np.float64).reshape(len(pictures), -1) / fields


def way_lengths(batches: Iterator[Pictures], look: Look, legs: int, samples: int = SAMPLES) -> Doubles:
    """How far it is from the start of each leg to each of its samples.

    Args:
        batches: the pictures of legs * samples + 1 places, evenly spaced in the space, in batches of any size.
        look: gives their features.
        legs: number of legs.
        samples: steps of each.

    Returns:
        [legs, samples + 1], each row beginning with 0. Only features of one batch are held at a time.
    """
    distances: list[float] = []
    last: Doubles | None = None
    for pictures in batches:
        seen = np.asarray(look(pictures), np.float64)
        if last is not None:
            seen = np.concatenate([last[None], seen])
        distances += [float(np.linalg.norm(after - before)) for before, after in pairwise(seen)]
        last = seen[-1]
    steps = np.array(distances).reshape(legs, samples)
    return np.concatenate([np.zeros((legs, 1)), np.cumsum(steps, axis=1)], axis=1)


def place_at(way: Doubles, share: float) -> float:
    """Where on a leg, 0 to 1 in the space, a share of its way is covered.

    Args:
        way: one row of `way_lengths`.
        share: 0 to 1.
    """
    if way[-1] <= 0:
        return share
    places = np.linspace(0.0, 1.0, len(way))
    # A little of the even way: where nothing at all changes, it alone leads on.
    rising = way / way[-1] + 1e-6 * places
    return float(np.interp(share * rising[-1], rising, places))


def share_out(frames: int, lengths: Doubles) -> list[int]:
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
