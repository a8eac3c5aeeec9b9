"""The list of random streams: each is independent, and its numbers are those of every run made so far."""

from __future__ import annotations

import pytest

from galip.data.rng import Stream, sample_rng

# The first 32-bit word of each stream for sample 2 of seed 7, written down once.
WORDS = {
    "VIEW": 2948387526,
    "NOISE": 1829264825,
    "SHIFT": 546315693,
    "COLOUR": 1205658729,
    "CUTOUT": 2905031909,
    "OTHER_NOISE": 1896334352,
    "BACKGROUND": 516030634,
    "EPOCH": 1786121320,
    "FEATURE_SHIFT": 2546860541,
    "FEATURE_COLOUR": 1700429620,
    "FEATURE_CUTOUT": 2654648747,
}


def first(stream: Stream, number: int = 2, seed: int = 7) -> int:
    return int(sample_rng(seed, number, stream).integers(2**32, dtype="uint64"))


@pytest.mark.parametrize("stream", Stream)
def test_a_streams_numbers_never_change(stream: Stream) -> None:
    assert first(stream) == WORDS[stream.name]


def test_streams_samples_and_seeds_are_independent() -> None:
    words = {first(stream, number, seed) for stream in Stream for number in range(5) for seed in (0, 1)}
    assert len(words) == len(Stream) * 5 * 2
