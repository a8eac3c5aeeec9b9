"""The memorisation check: the flags that a reader expects of copies, of new images and of nonsense."""

from __future__ import annotations

import numpy as np
import pytest

from galip.errors import GalipError, InputError
from galip.evaluation import memorisation as module
from galip.evaluation.memorisation import memorisation, nearest


def features(count: int, seed: int = 0, dim: int = 6) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(count, dim)) + 2).astype(np.float32)


def test_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, gallery = features(1100), features(500, seed=1)  # two tiles of queries
    between = np.linalg.norm(queries[:, None].astype(np.float64) - gallery[None], axis=2)
    order = between.argsort(axis=1)[:, :3]
    for columns in (4096, 70):
        monkeypatch.setattr(module, "COLUMNS", columns)
        distances, numbers = nearest(queries, gallery, 3)
        assert np.array_equal(numbers, order)
        assert np.allclose(distances, np.take_along_axis(between, order, axis=1), rtol=1e-12)
    assert nearest(gallery, gallery)[0].max() == 0
    assert np.array_equal(nearest(gallery, gallery)[1][:, 0], np.arange(500))
    assert nearest(queries[:2], gallery[:3], 3)[1].shape == (2, 3)  # all of it


def test_what_is_refused() -> None:
    with pytest.raises(InputError, match="training images: 3 images; at least 4 are needed"):
        nearest(features(5), features(3), 4)
    with pytest.raises(InputError, match="0 nearest"):
        nearest(features(5), features(3), 0)
    with pytest.raises(InputError, match="vectors of 5 numbers, where the others have 6"):
        nearest(features(5), features(3, dim=5))
    broken = features(5)
    broken[1] = np.inf
    with pytest.raises(GalipError, match="training images: the features of image 1 are not finite"):
        nearest(features(5), broken)


def test_the_training_set_itself_is_copied() -> None:
    training, held_out = features(1000), features(400, seed=1)
    rng = np.random.default_rng(2)
    # Another machine's rounding does not hide a copy.
    generated = training[:300] * (1 + 1e-6 * rng.normal(size=(300, 6)).astype(np.float32))
    check = memorisation(generated, held_out, training, 2)
    assert check.copies.value == check.near_copies.value == check.nearer.value == 1
    assert check.held_out_copies.value == 0 and check.median_ratio < 1e-4
    assert np.array_equal(check.numbers[:, 0], np.arange(300)) and check.numbers.shape == (300, 2)


def test_images_as_new_as_held_out_ones_are_not() -> None:
    check = memorisation(features(900, seed=2), features(800, seed=1), features(1000))
    assert check.copies.value == 0
    assert check.nearer.low < 0.5 < check.nearer.high
    assert check.near_copies.value == pytest.approx(0.01, abs=0.015)
    assert check.median_ratio == pytest.approx(1, abs=0.1)
    assert check.held_out_distances.shape == (800,)


def test_a_few_copies_are_counted() -> None:
    training = features(1000)
    generated = np.concatenate([training[5:45], features(360, seed=2)])
    check = memorisation(generated, features(400, seed=1), training)
    assert check.copies.value == 0.1 and check.near_copies.value == pytest.approx(0.1, abs=0.02)
    assert 0.03 < check.copies.low < 0.1 < check.copies.high < 0.15


def test_images_unlike_all_real_ones_are_far_off() -> None:
    check = memorisation(features(100, seed=2) + 50, features(200, seed=1), features(300))
    assert check.copies.value == check.near_copies.value == check.nearer.value == 0
    assert check.median_ratio > 10


def test_data_that_repeats_itself_says_so() -> None:
    training = features(300)
    check = memorisation(training[:100], training[100:200], training)
    assert check.copies.value == check.held_out_copies.value == 1
    assert check.nearer.value == 0.5 and check.near_copies.value == 0 and check.median_ratio is None
