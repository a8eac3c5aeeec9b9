"""CMMD: the authors' estimator, in tiles, and an interval that repetitions bear out."""

from __future__ import annotations

import numpy as np
import pytest

from galip.errors import GalipError, InputError
from galip.evaluation.metrics import mmd as metric_mmd
from galip.evaluation.metrics.mmd import gaussian_mmd


def features(count: int, seed: int = 0, shift: float = 0.0, dim: int = 16) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(count, dim)) + shift).astype(np.float32)


def plainly(x: np.ndarray, y: np.ndarray) -> float:
    x, y = ((v / np.linalg.norm(v, axis=1, keepdims=True)).astype(np.float64) for v in (x, y))

    def mean(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.exp(-np.square(a[:, None] - b[None]).sum(2) / 200).mean())

    return 1000 * (mean(x, x) + mean(y, y) - 2 * mean(x, y))


def test_the_formula() -> None:
    generated, reference = features(90, shift=0.3), features(70, seed=1)
    assert gaussian_mmd(generated, reference).value == pytest.approx(plainly(generated, reference), rel=1e-4)
    assert gaussian_mmd(3 * generated, reference).value == pytest.approx(gaussian_mmd(generated, reference).value)


def test_tiles_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    generated, reference = features(1100, shift=0.1, dim=4), features(500, seed=1, dim=4)  # several tiles
    expected = gaussian_mmd(generated, reference)
    monkeypatch.setattr(metric_mmd, "COLUMNS", 300)
    again = gaussian_mmd(generated, reference)
    assert (again.value, again.low) == pytest.approx((expected.value, expected.low), rel=1e-8)
    assert expected.value == pytest.approx(plainly(generated, reference), rel=1e-3)


def test_the_jackknife_leaves_groups_out() -> None:
    generated, reference = features(43, shift=0.3), features(30, seed=1)
    estimate = gaussian_mmd(generated, reference, groups=5)
    without = [plainly(np.delete(generated, slice(start, None, 5), axis=0), reference) for start in range(5)]
    error = np.sqrt(4 / 5 * np.square(without - np.mean(without)).sum())
    assert estimate.high - estimate.low == pytest.approx(2 * 2.7764 * error, rel=5e-3)


def test_the_interval_is_as_wide_as_repetitions_say() -> None:
    reference = features(300, seed=99)
    estimates = [gaussian_mmd(features(200, seed=seed, shift=0.3), reference) for seed in range(60)]
    widths = np.mean([estimate.high - estimate.low for estimate in estimates])  # type: ignore[operator]
    spread = np.std([estimate.value for estimate in estimates], ddof=1)
    assert widths / (2 * 2.093) == pytest.approx(spread, rel=0.35)


def test_degenerate_sets() -> None:
    generated = features(50)
    for same in (generated, generated[::-1]):
        estimate = gaussian_mmd(generated, same)
        assert estimate.value == pytest.approx(0, abs=1e-9) and estimate.low == 0
    constant = np.full((50, 16), 2.0)
    assert gaussian_mmd(constant, constant).value == pytest.approx(0, abs=1e-9)
    assert gaussian_mmd(generated[:30], generated[30:]).low is None  # too few for 20 groups
    with pytest.raises(GalipError, match="reference images: a vector of length 0"):
        gaussian_mmd(generated, np.zeros((5, 16)))
    many = features(1500)
    many[1300] = np.nan
    with pytest.raises(GalipError, match="image 1300 are not finite"):
        gaussian_mmd(many, constant)
    with pytest.raises(InputError, match="vectors of 3 numbers, where the others have 16"):
        gaussian_mmd(constant, constant[:, :3])
