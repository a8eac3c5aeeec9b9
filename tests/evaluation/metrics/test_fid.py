"""The Frechet distance: the formula, degenerate sets, and an interval that repetitions bear out."""

from __future__ import annotations

import numpy as np
import pytest
from pytorch_fid.fid_score import calculate_frechet_distance

from galip.errors import GalipError, InputError
from galip.evaluation.metrics.fid import frechet_distance, frechet_from, frechet_interval
from galip.evaluation.statistics import Moments, Statistics


def features(count: int, dim: int = 6, seed: int = 0, shape: int = 0) -> np.ndarray:
    mixing = np.random.default_rng(1000 + shape).normal(size=(dim, dim))
    return np.random.default_rng(seed).normal(size=(count, dim)) @ mixing + 2


def distance(first: np.ndarray, second: np.ndarray) -> float:
    return frechet_from(Moments.of(first), Moments.of(second))


def test_the_formula() -> None:
    first, second = features(500), features(400, seed=1, shape=1)
    a, b = np.cov(first.T), np.cov(second.T)
    cross = np.sqrt(np.linalg.eigvals(a @ b).real).sum()  # the trace of (a b)^1/2, which need not be symmetric
    expected = np.square(first.mean(0) - second.mean(0)).sum() + a.trace() + b.trace() - 2 * cross
    assert distance(first, second) == pytest.approx(expected, rel=1e-9)
    assert distance(second, first) == pytest.approx(expected, rel=1e-9)
    assert distance(first, first + np.array([3, 4, 0, 0, 0, 0])) == pytest.approx(25, rel=1e-9)
    assert distance(first, 3 * (first - first.mean(0)) + first.mean(0)) == pytest.approx(4 * a.trace(), rel=1e-9)


def test_pytorch_fid_gets_the_same() -> None:
    first, second = Moments.of(features(500, 64)).statistics(), Moments.of(features(300, 64, 1, 1)).statistics()
    theirs = calculate_frechet_distance(first.mu, first.sigma, second.mu, second.sigma)
    assert frechet_from(first, second) == pytest.approx(float(theirs), rel=1e-6)


def test_identical_sets_are_at_distance_0() -> None:
    for count, dim in ((500, 6), (500, 300), (40, 300), (2, 300)):
        seen = (1000 * features(count, dim)).astype(np.float32)
        whole, merged = Moments.of(seen), Moments.of(seen[count // 2 :]).merge(Moments.of(seen[: count // 2]))
        assert frechet_from(whole, merged) < 1e-12 * whole.covariance.trace() + 1e-9


def test_fewer_images_than_numbers() -> None:
    # In 300 numbers, 40 images span 39 directions: the same in coordinates of the space that all 80 of them span.
    first, second = features(40, 300), features(40, 300, seed=1)
    basis = np.linalg.svd(np.concatenate([first, second]), full_matrices=False)[2].T
    expected = distance(first @ basis, second @ basis)
    assert distance(first, second) == pytest.approx(expected, rel=1e-9)
    # The sum of the singular values of the centred sets' product is the cross term, too.
    x, y = first - first.mean(0), second - second.mean(0)
    cross = np.linalg.svd(x @ y.T, compute_uv=False).sum() / 39
    gap = np.square(first.mean(0) - second.mean(0)).sum()
    total = np.square(x).sum() / 39 + np.square(y).sum() / 39
    assert expected == pytest.approx(gap + total - 2 * cross, rel=1e-9)


def test_constants() -> None:
    one, other = np.full((50, 6), 7.0), np.full((60, 6), 9.0)
    dead = np.repeat(features(1, 300), 777, axis=0)  # numbers whose sums round
    assert distance(one, one) == pytest.approx(0, abs=1e-9)
    assert distance(dead, dead[:70]) == pytest.approx(0, abs=1e-9)
    assert distance(dead, features(500, 300)) == pytest.approx(distance(features(500, 300), dead[:2]), rel=1e-9)
    assert distance(one, other) == pytest.approx(24, rel=1e-9)
    varied = features(300)
    expected = np.square(varied.mean(0) - 7).sum() + np.cov(varied.T).trace()
    assert distance(one, varied) == pytest.approx(expected, rel=1e-6)


def test_what_is_no_gaussian_is_refused() -> None:
    made = Moments.of(features(50)).statistics()
    with pytest.raises(GalipError, match="not finite"):
        frechet_distance(made.mu * np.nan, made.sigma, made.mu, made.sigma)
    with pytest.raises(GalipError, match="negative eigenvalues"):
        frechet_distance(made.mu, -made.sigma, made.mu, made.sigma)
    with pytest.raises(InputError, match=r"mean \[6\] and covariance \[5, 5\]"):
        frechet_distance(made.mu, made.sigma[:5, :5], made.mu, made.sigma)
    with pytest.raises(InputError, match="of 5 and of 6 numbers: of two different networks"):
        frechet_from(made, Statistics(made.mu[:5], made.sigma[:5, :5]))


def test_the_interval_is_as_wide_as_repetitions_say() -> None:
    reference = Moments.of(features(2000, seed=99, shape=1))
    estimates = []
    for seed in range(60):
        generated = features(400, seed=seed)
        estimate = frechet_interval([Moments.of(generated[start::20]) for start in range(20)], reference)
        assert estimate.value == pytest.approx(frechet_from(Moments.of(generated), reference), rel=1e-9)
        estimates.append(estimate)
    values = np.array([estimate.value for estimate in estimates])
    widths = np.mean([estimate.high - estimate.low for estimate in estimates])  # type: ignore[operator]
    assert widths / (2 * 2.093) == pytest.approx(values.std(ddof=1), rel=0.3)
    held = np.mean([estimate.low < values.mean() < estimate.high for estimate in estimates])  # type: ignore[operator]
    assert held > 0.85
