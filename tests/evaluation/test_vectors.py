"""Sets of feature vectors: what is refused, tiles, distances."""

from __future__ import annotations

import numpy as np
import pytest

from galip.errors import GalipError, InputError
from galip.evaluation.vectors import check_vectors, squared_distances, tiles, unit


def test_what_is_no_set_of_vectors_is_refused() -> None:
    for wrong in (np.zeros(3), np.zeros((3, 2), dtype=np.uint8), np.zeros((3, 2, 1))):
        with pytest.raises(InputError, match=r"generated: .*; floats \[images, numbers\] are needed"):
            check_vectors(wrong, "generated")
    with pytest.raises(InputError, match="vectors of 2 numbers, where the others have 3"):
        check_vectors(np.zeros((3, 2)), "generated", dim=3)
    with pytest.raises(InputError, match="generated: 3 images; at least 4 are needed"):
        check_vectors(np.zeros((3, 2)), "generated", at_least=4)


def test_tiles_cover_the_set_and_name_the_first_broken_image() -> None:
    vectors = np.arange(20, dtype=np.float32).reshape(10, 2)
    parts = list(tiles(vectors, "generated", rows=4))
    assert [part for part, _ in parts] == [slice(0, 4), slice(4, 8), slice(8, 10)]
    assert np.array_equal(np.concatenate([tile for _, tile in parts]), vectors)
    assert all(tile.dtype == np.float64 for _, tile in parts)
    for broken in (np.nan, np.inf):
        vectors[6, 1] = broken
        with pytest.raises(GalipError, match="generated: the features of image 6 are not finite"):
            list(tiles(vectors, "generated", rows=4))


def test_unit_vectors() -> None:
    assert unit(np.array([[3.0, 4.0]]), "generated").tolist() == [[0.6, 0.8]]
    with pytest.raises(GalipError, match="length 0"):
        unit(np.array([[3.0, 4.0], [0, 0]]), "generated")


def test_distances_are_exact_for_equal_vectors_far_from_the_origin() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(50, 300)) + 1000
    distances = squared_distances(a, np.concatenate([a, a + 1]))
    assert not np.diagonal(distances).any()
    expected = np.square(a[:, None] - np.concatenate([a, a + 1])[None]).sum(2)
    assert np.allclose(distances, expected, rtol=1e-6, atol=1e-6)
