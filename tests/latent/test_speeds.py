"""Steps of equal size in what is seen: lengths of ways, places on them, frames shared out."""

from __future__ import annotations

import numpy as np
import pytest

from galip.latent.speeds import allocate_frames, arc_lengths, pixels, place_at


def test_lengths_do_not_depend_on_the_batches() -> None:
    pictures = np.random.default_rng(0).random((2 * 5 + 1, 8, 8, 3)).astype(np.float32)
    flat = pictures.reshape(11, -1)
    expected = np.linalg.norm(np.diff(flat, axis=0), axis=1).reshape(2, 5).cumsum(axis=1)
    for batch in (1, 2, 4, 11):
        batches = (pictures[start : start + batch] for start in range(0, 11, batch))
        ways = arc_lengths(batches, lambda seen: seen.reshape(len(seen), -1), legs=2, samples=5)
        assert (ways[:, 0] == 0).all()
        assert np.allclose(ways[:, 1:], expected, rtol=1e-5)


def test_places_invert_the_way() -> None:
    way = np.array([0.0, 1.0, 1.5, 4.0])  # at 0, 1/3, 2/3, 1
    assert place_at(way, 0) == 0
    assert place_at(way, 1) == 1
    assert place_at(way, 0.25) == pytest.approx(1 / 3, abs=1e-5)
    assert place_at(way, 0.375) == pytest.approx(2 / 3, abs=1e-5)
    assert place_at(way, 2.75 / 4) == pytest.approx(2 / 3 + 1 / 6, abs=1e-5)


def test_plateaus_are_passed_at_once() -> None:
    way = np.array([0.0, 0.0, 1.0, 1.0, 2.0, 2.0])
    places = [place_at(way, share) for share in np.linspace(0, 1, 101)]
    assert (places[0], places[-1]) == (0, 1)
    assert (np.diff(places) > 0).all()
    assert places[25] == pytest.approx(0.3, abs=1e-3)
    assert place_at(np.zeros(5), 0.3) == 0.3


def test_frames_are_shared_out_by_length() -> None:
    assert allocate_frames(20, np.array([1.0, 3.0])) == [5, 15]
    assert allocate_frames(10, np.array([0.0, 5.0, 0.0])) == [1, 8, 1]
    assert allocate_frames(3, np.array([1.0, 100.0, 1.0])) == [1, 1, 1]
    assert allocate_frames(9, np.zeros(3)) == [3, 3, 3]
    for seed in range(20):
        lengths = np.random.default_rng(seed).random(7) ** 3
        counts = allocate_frames(50, lengths)
        assert sum(counts) == 50 and min(counts) >= 1


def test_pixels_see_areas_rather_than_edges() -> None:
    edge = np.zeros((4, 64, 64, 3), np.float32)
    edge[1, :, 32:] = 1
    edge[2, :, 33:] = 1  # the same, moved by a pixel
    edge[3] = 1
    seen = pixels(edge)
    assert seen.shape == (4, 32 * 32 * 3)
    black, half, moved, white = seen
    assert np.linalg.norm(white - black) == pytest.approx(np.sqrt(3))
    assert np.linalg.norm(half - moved) < np.linalg.norm((edge[1] - edge[2]) / 64)
    # 48 is no multiple of 32, and 8 is less
    assert np.allclose(pixels(np.full((1, 48, 48, 3), 0.5)), 0.5 / 32)
    assert pixels(np.full((1, 8, 8, 3), 0.5)).shape == (1, 8 * 8 * 3)
