"""Walks: frames from keyframe to keyframe, drawn as they are asked for."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galip.errors import InputError
from galip.generation import inputs
from galip.generation.inputs import BATCH_SIZE
from galip.latent.interpolation import Easing, check_easing, ease, lerp_norm, slerp
from galip.latent.keyframes import Keyframe, Places, Point, locate
from galip.latent.pipelines import Drawing, OutputType, draw_each
from galip.latent.speeds import SAMPLES, Doubles, Look, Speed, look_for, place_at, share_out, way_lengths

Array = NDArray[np.float32]

FRAMES = 24
"""Frames from one keyframe to the next unless the caller says otherwise."""


class Walk:
    """The frames of a walk. Iterating draws them, never more than a batch at a time; `walk` makes one.

    The first frame of each leg is the keyframe itself, bit for bit what the pipeline draws of it alone. A walk that
    does not loop ends with a frame of the last keyframe; one that loops ends a step before the first, so that it can be
    shown again and again.

    Args:
        pipe: draws.
        places: where the keyframes lie.
        counts: frames of each leg, from its keyframe on and without the next one.
        easing: how each leg is passed.
        loop: whether the last leg leads back to the first keyframe.
        ways: `way_lengths` of each leg, where its steps are to look equal; None: even steps in the space.
        truncation: multiplies the noise.
        batch_size: pictures drawn at once.
        output_type: "pil" or "np".
    """

    def __init__(
        self,
        pipe: Drawing,
        places: Places,
        counts: Sequence[int],
        easing: Easing,
        loop: bool,
        ways: Doubles | None,
        truncation: float,
        batch_size: int,
        output_type: OutputType,
    ) -> None:
        self.places = places
        self.counts = list(counts)
        self._pipe, self._easing, self._loop, self._ways = pipe, easing, loop, ways
        self._truncation, self._batch_size, self._output_type = truncation, batch_size, output_type
        self._ends = list(accumulate(self.counts))  # number of the first frame after each leg

    def __len__(self) -> int:
        return self._ends[-1] + (0 if self._loop else 1)

    def __iter__(self) -> Iterator[Any]:
        # What a picture is rounded to depends on the batch that it is drawn in, so keyframes are drawn alone.
        start = 0
        for end in self._ends:
            yield from self._drawn(range(start, start + 1))
            yield from self._drawn(range(start + 1, end))
            start = end
        yield from self._drawn(range(start, len(self)))

    def _drawn(self, numbers: range) -> Iterator[Any]:
        points = map(self.point, numbers)
        return draw_each(self._pipe, points, self._truncation, self._batch_size, self._output_type)

    def point(self, number: int) -> tuple[Array, Array]:
        """z [z_dim] and e of a frame: `draw` makes the frame's picture of them.

        Raises:
            IndexError: there is no such frame.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"frame {number} of a walk with {len(self)}")
        leg = min(bisect_right(self._ends, number), len(self.counts) - 1)
        done = number - (self._ends[leg] - self.counts[leg])
        share = float(ease(self._easing, done / self.counts[leg]))
        return between(self.places, leg, share if self._ways is None else place_at(self._ways[leg], share))


def walk(
    pipe: Drawing,
    keyframes: Sequence[Keyframe | Point],
    frames: int = FRAMES,
    *,
    loop: bool = False,
    easing: Easing = "linear",
    speed: Speed | Look = "even",
    truncation: float = 1.0,
    batch_size: int = BATCH_SIZE,
    output_type: OutputType = "pil",
    progress: Callable[[int, int], None] | None = None,
) -> Walk:
    """Walk from keyframe to keyframe: noise by slerp, sentence vectors by `lerp_norm`.

    Keyframes with the same seed keep the style while the caption changes, with the same caption the other way round.

    Args:
        pipe: a pipeline of any engine.
        keyframes: two or more.
        frames: from each keyframe to the next. With a `speed` that is measured this is the mean: a leg on which more
            changes gets more of them.
        loop: go back to the first keyframe at the end.
        easing: "linear"; "smooth" rests at each keyframe; "ease-in", "ease-out" leave or arrive slowly.
        speed: "even" for equal steps in the space; "clip" for equal steps to the eye of the pipeline's own CLIP,
            "pixels" for equal change of the pixels, or a function that looks (`galip.latent.speeds.Look`). For these
            each leg is drawn coarsely before the walk begins, 32 pictures for each; with an easing other than
            "linear", it is what is seen that is eased.
        truncation: multiplies the noise.
        batch_size: pictures drawn at once. It changes speed and memory, not pictures.
        output_type: "pil" or "np", a float array [S, S, 3] in [0, 1] for each frame.
        progress: told how many of the coarse pictures are drawn, and of how many.

    Returns:
        The walk: its length is known, its frames are drawn as it is iterated over.

    Raises:
        InputError: an argument cannot be used; the message says what is expected.
    """
    if len(keyframes) < 2:
        raise InputError(f"{len(keyframes)} keyframe is given: a walk leads from one to another, give two or more")
    count = inputs.positive_int("frames", frames)
    check_easing(easing)
    inputs.check_output_type(output_type, ("pil", "np"))
    inputs.positive_int("batch_size", batch_size)
    scale = inputs.finite("truncation", truncation)
    look = look_for(speed, pipe)
    places = locate(pipe, keyframes)
    legs = len(places) - (0 if loop else 1)
    counts, ways = [count] * legs, None
    if look is not None:
        pictures = _coarsely(pipe, places, legs, scale, batch_size, progress)
        ways = way_lengths(pictures, look, legs)
        counts = share_out(count * legs, ways[:, -1])
    return Walk(pipe, places, counts, easing, loop, ways, scale, batch_size, output_type)


def between(places: Places, leg: int, t: float) -> tuple[Array, Array]:
    """z and e on the way from keyframe `leg` to the next, or from the last to the first: 0 is here, 1 is there."""
    there = (leg + 1) % len(places)
    return slerp(places.z[leg], places.z[there], t), lerp_norm(places.e[leg], places.e[there], t)


def _coarsely(
    pipe: Drawing,
    places: Places,
    legs: int,
    truncation: float,
    batch_size: int,
    progress: Callable[[int, int], None] | None,
) -> Iterator[NDArray[Any]]:
    """Pictures at even steps of the whole way, a batch at a time."""
    total = legs * SAMPLES + 1
    points = (
        between(places, leg, step / SAMPLES) for leg in range(legs) for step in range(SAMPLES + (leg == legs - 1))
    )
    done, batch = 0, []
    for picture in draw_each(pipe, points, truncation, batch_size, "np"):
        batch.append(picture)
        if len(batch) == min(batch_size, total - done):
            yield np.stack(batch)
            done, batch = done + len(batch), []
            if progress is not None:
                progress(done, total)
