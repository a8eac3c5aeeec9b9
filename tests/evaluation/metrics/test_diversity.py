"""Diversity: distances within groups, and relative to real images."""

from __future__ import annotations

import math

import numpy as np
import pytest

from galip.errors import GalipError, InputError
from galip.evaluation.metrics.diversity import diversity, mean_pairwise

SQUARE = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.float32)


def test_mean_pairwise() -> None:
    expected = (4 + 2 * math.sqrt(2)) / 6
    assert mean_pairwise(np.stack([SQUARE, 2 * SQUARE])) == pytest.approx([expected, 2 * expected])
    same = np.random.default_rng(0).normal(size=(1, 1, 500)).astype(np.float32).repeat(4, axis=1)
    assert mean_pairwise(same).tolist() == [0]


def test_diversity() -> None:
    groups = np.random.default_rng(0).normal(size=(80, 4, 10)).astype(np.float32)
    plain = diversity(groups)
    assert plain.value == pytest.approx(mean_pairwise(groups).mean())
    assert plain.low < plain.value < plain.high
    relative = diversity(groups / 2, groups[:, :3])  # the real ones may be of another number
    assert relative.value == pytest.approx(0.5, rel=0.05)
    assert diversity(np.repeat(groups[:, :1], 4, axis=1), groups).value == 0


def test_what_is_refused() -> None:
    with pytest.raises(InputError, match=r"groups of shape \[4, 2\]"):
        mean_pairwise(SQUARE)
    with pytest.raises(InputError, match="2 members or more"):
        diversity(SQUARE[:, None])
    with pytest.raises(InputError, match="2 groups of generated and 1 of real images"):
        diversity(np.stack([SQUARE, SQUARE]), SQUARE[None])
    with pytest.raises(GalipError, match="a ratio to 0"):
        diversity(SQUARE[None], np.zeros((1, 3, 2)))
    with pytest.raises(GalipError, match="group 1"):
        mean_pairwise(np.stack([SQUARE, SQUARE * np.nan]))
