"""Every random stream of a run, in one list: what is random about a sample is a function of (run seed, its number).

Streams are counter-based and need no history: whoever asks, in whatever order, gets the same numbers.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

_PER_KEY = 8


class Stream(IntEnum):
    """The independent purposes of randomness. A number is part of every run ever made: never change or reuse one."""

    VIEW = 0
    """Which caption, crop and flip a sample has."""
    NOISE = 1
    """The generator's z."""
    SHIFT = 2
    """Augmentation: translation."""
    COLOUR = 3
    """Augmentation: brightness, saturation, contrast."""
    CUTOUT = 4
    """Augmentation: place of the grey square."""
    OTHER_NOISE = 5
    """A second z of the same sample."""
    BACKGROUND = 6
    """The plain colour behind transparent images."""
    EPOCH = 7
    """Order of an epoch's records; here the number is the epoch's, not a sample's."""
    FEATURE_SHIFT = 8
    """Translation of what feature networks see."""
    FEATURE_COLOUR = 9
    """Brightness, saturation and contrast of what feature networks see."""
    FEATURE_CUTOUT = 10
    """Place of the grey square in what feature networks see."""


def sample_rng(run_seed: int, number: int, stream: Stream) -> np.random.Generator:
    """The random numbers of one sample (or epoch) for one purpose.

    Args:
        run_seed: seed of the run, 0 to 2**64 - 1.
        number: of the sample in the whole run.
        stream: the purpose.
    """
    beyond, within = divmod(int(stream), _PER_KEY)
    return np.random.Generator(np.random.Philox(key=[run_seed, number * _PER_KEY + within], counter=[0, 0, 0, beyond]))
