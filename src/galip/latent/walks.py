"""Walks: frames from keyframe to keyframe, generated as they are asked for."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galip.errors import InputError
from galip.generation import inputs
from galip.generation.inputs import BATCH_SIZE
from galip.generation.output import OutputType
from galip.generation.pipeline import TextToImage
from galip.latent.interpolation import Easing, ease, lerp_norm, slerp
from galip.latent.keyframes import Keyframe, Places, Point, locate
from galip.latent.speeds import SAMPLES, Features, Speed, allocate_frames, arc_lengths, features_for, place_at
from galip.utils.arrays import DoubleArray, FloatArray
from galip.utils.checks import one_of
from galip.utils.progress import Progress, no_progress

FRAMES = 24
"""Frames from one keyframe to the next unless the caller says otherwise."""


class Walk:
    """The frames of a walk. Iterating generates them, never more than a batch at a time; `walk` makes one.

    The first frame of each leg is the keyframe itself, bit for bit what the pipeline generates of it alone. A walk that
    does not loop ends with a frame of the last keyframe; one that loops ends a step before the first, so that it can be
    shown again and again.

    Args:
        pipe: generates.
        places: where the keyframes lie.
        counts: frames of each leg, from its keyframe on and without the next one.
        easing: how each leg is passed.
        loop: whether the last leg leads back to the first keyframe.
        lengths: `arc_lengths` of each leg, where its steps are to look equal; None: even steps in the space.
        truncation: multiplies the noise.
        batch_size: images generated at once.
        output_type: "pil" or "np".
    """

    def __init__(
        self,
        pipe: TextToImage,
        places: Places,
        counts: Sequence[int],
        easing: Easing,
        loop: bool,
        lengths: DoubleArray | None,
        truncation: float,
        batch_size: int,
        output_type: OutputType,
    ) -> None:
        self.places = places
        self.counts = list(counts)
        self._pipe, self._easing, self._loop, self._lengths = pipe, easing, loop, lengths
        self._truncation, self._batch_size, self._output_type = truncation, batch_size, output_type
        self._ends = list(accumulate(self.counts))  # number of the first frame after each leg

    def __len__(self) -> int:
        return self._ends[-1] + (0 if self._loop else 1)

    def __iter__(self) -> Iterator[Any]:
        # What an image is rounded to depends on the batch that it is generated in, so keyframes are generated alone.
        start = 0
        for end in self._ends:
            yield from self._images(range(start, start + 1))
            yield from self._images(range(start + 1, end))
            start = end
        yield from self._images(range(start, len(self)))

    def _images(self, numbers: range) -> Iterator[Any]:
        points = map(self.point, numbers)
        return self._pipe.generate_each(points, self._truncation, self._batch_size, self._output_type)

    def point(self, number: int) -> tuple[FloatArray, FloatArray]:
        """z [z_dim] and e of a frame: `TextToImage.generate` makes its image of them.

        Raises:
            IndexError: there is no such frame.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"frame {number} of a walk with {len(self)}")
        leg = min(bisect_right(self._ends, number), len(self.counts) - 1)
        done = number - (self._ends[leg] - self.counts[leg])
        share = float(ease(self._easing, done / self.counts[leg]))
        return between(self.places, leg, share if self._lengths is None else place_at(self._lengths[leg], share))


def walk(
    pipe: TextToImage,
    keyframes: Sequence[Keyframe | Point],
    frames: int = FRAMES,
    *,
    loop: bool = False,
    easing: Easing = "linear",
    speed: Speed | Features = "even",
    truncation: float = 1.0,
    batch_size: int = BATCH_SIZE,
    output_type: OutputType = "pil",
    progress: Progress = no_progress,
) -> Walk:
    """Walk from keyframe to keyframe: noise by slerp, sentence vectors by `lerp_norm`.

    Keyframes with the same seed keep the style while the prompt changes, with the same prompt the other way round.

    Args:
        pipe: a pipeline of any engine.
        keyframes: two or more.
        frames: from each keyframe to the next. With a `speed` that is measured this is the mean: a leg on which more
            changes gets more of them.
        loop: go back to the first keyframe at the end.
        easing: "linear"; "smooth" rests at each keyframe; "ease-in", "ease-out" leave or arrive slowly.
        speed: "even" for equal steps in the space; "clip" for equal steps in the vectors of the model's own CLIP,
            "pixels" for equal change of the pixels, or a function that gives features
            (`galip.latent.speeds.Features`). For these each leg is generated coarsely before the walk begins, 32 images
            for each; with an easing other than "linear", it is the steps of the features that are eased.
        truncation: multiplies the noise.
        batch_size: images generated at once. It changes speed and memory, not images.
        output_type: "pil" or "np", a float array [S, S, 3] in [0, 1] for each frame.
        progress: told ("measuring", coarse images generated, of how many).

    Returns:
        The walk: its length is known, its frames are generated as it is iterated over.

    Raises:
        InputError: an argument cannot be used; the message says what is expected.
    """
    if len(keyframes) < 2:
        raise InputError(f"{len(keyframes)} keyframe is given: a walk leads from one to another, give two or more")
    count = inputs.positive_int("frames", frames)
    one_of("easing", easing, Easing)
    inputs.check_output_type(output_type, ("pil", "np"))
    inputs.positive_int("batch_size", batch_size)
    scale = inputs.truncation_factor(truncation)
    features = features_for(speed, pipe)
    places = locate(pipe, keyframes)
    legs = len(places) - (0 if loop else 1)
    counts, lengths = [count] * legs, None
    if features is not None:
        lengths = arc_lengths(_coarse_images(pipe, places, legs, scale, batch_size, progress), features, legs)
        counts = allocate_frames(count * legs, lengths[:, -1])
    return Walk(pipe, places, counts, easing, loop, lengths, scale, batch_size, output_type)


def between(places: Places, leg: int, t: float) -> tuple[FloatArray, FloatArray]:
    """z and e on the way from keyframe `leg` to the next, or from the last to the first: 0 is here, 1 is there."""
    there = (leg + 1) % len(places)
    return slerp(places.z[leg], places.z[there], t), lerp_norm(places.e[leg], places.e[there], t)


def _coarse_images(
    pipe: TextToImage,
    places: Places,
    legs: int,
    truncation: float,
    batch_size: int,
    progress: Progress,
) -> Iterator[NDArray[Any]]:
    """Images at even steps of the whole way, a batch at a time."""
    total = legs * SAMPLES + 1
    points = (
        between(places, leg, step / SAMPLES) for leg in range(legs) for step in range(SAMPLES + (leg == legs - 1))
    )
    done, batch = 0, []
    for image in pipe.generate_each(points, truncation, batch_size, "np"):
        batch.append(image)
        if len(batch) == min(batch_size, total - done):
            yield np.stack(batch)
            done, batch = done + len(batch), []
            progress("measuring", done, total)
