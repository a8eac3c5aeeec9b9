"""Recognised: the nearest real image is the right one, each subject counting the same."""

from __future__ import annotations

import numpy as np
import pytest

from galip.errors import GalipError, InputError
from galip.evaluation.metrics.recognised import group_weights, ranks, recognised


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def test_ranks_count_what_is_nearer() -> None:
    gallery = noise(2000, 16).astype(np.float32)
    own = np.arange(1500) % 700
    images = 3 * gallery[own] + 2 * noise(1500, 16, seed=1).astype(np.float32)
    found = ranks(images, gallery, own)
    angles = images / np.linalg.norm(images, axis=1, keepdims=True)
    angles = angles @ (gallery / np.linalg.norm(gallery, axis=1, keepdims=True)).T
    order = (-angles).argsort(1)
    assert found.tolist() == [int(np.flatnonzero(row == one)[0]) for row, one in zip(order, own, strict=True)]
    assert 0.1 < (found == 0).mean() < 0.95
    assert (ranks(5 * gallery[own], gallery, own) == 0).all()


def test_one_image_under_two_names_is_no_mistake_and_a_tie_is_one() -> None:
    gallery = np.concatenate([np.eye(4), np.eye(4)[:1]])
    assert ranks(np.eye(4)[:1], gallery, [4]).tolist() == [0]
    assert ranks(np.array([[1.0, 1.0, 0, 0]]), np.eye(4), [0]).tolist() == [1]


def test_groups_share_a_weight() -> None:
    found = np.array([0, 0, 0, 7, 2])
    assert recognised(found).value == pytest.approx(3 / 5)
    assert recognised(found, top=5).value == pytest.approx(4 / 5)
    estimate = recognised(found, groups=["hand", "hand", "hand", "cat", "dog"])
    assert estimate.value == pytest.approx(1 / 3)
    assert estimate.low is not None and estimate.high is not None and estimate.low < 1 / 3 < estimate.high
    assert group_weights(["a", "b", "a"]).tolist() == [0.5, 1, 0.5]


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(InputError, match="3 images need as many rows of a gallery of 4"):
        ranks(noise(3, 5), noise(4, 5), [0, 1])
    with pytest.raises(InputError, match="need as many rows"):
        ranks(noise(1, 5), noise(4, 5), [4])
    with pytest.raises(GalipError, match="not finite"):
        ranks(np.full((1, 5), np.nan), noise(4, 5), [0])
    with pytest.raises(GalipError, match="length 0"):
        ranks(noise(1, 5), np.zeros((4, 5)), [0])
