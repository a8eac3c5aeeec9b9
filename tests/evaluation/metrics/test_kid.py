"""KID: torch-fidelity's own number, no bias, and an interval that repetitions bear out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_fidelity.metric_kid import kid_features_to_metric

from galip.errors import GalipError, InputError
from galip.evaluation.intervals import Estimate
from galip.evaluation.metrics.kid import kernel_inception_distance, subset_distances


def features(count: int, dim: int = 32, seed: int = 0, shift: float = 0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(count, dim)) + shift).astype(np.float32)


def test_torch_fidelity_gets_the_same() -> None:
    generated, reference = features(300, shift=0.3), features(250, seed=1)
    theirs = kid_features_to_metric(
        torch.from_numpy(generated), torch.from_numpy(reference), kid_subsets=20, kid_subset_size=100, verbose=False
    )
    distances = subset_distances(generated, reference, 20, 100)
    assert distances.mean() == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-4)
    assert distances.std() == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-3)
    assert kernel_inception_distance(generated, reference, 20, 100).value == distances.mean()


def test_sets_of_one_distribution_are_at_distance_0_on_average() -> None:
    values = [
        kernel_inception_distance(features(100, 8, seed), features(100, 8, 1000 + seed), 1, 100).value
        for seed in range(100)
    ]
    assert abs(np.mean(values)) < 3 * np.std(values) / 10
    assert min(values) < 0


def test_the_interval_is_as_wide_as_repetitions_say() -> None:
    estimates = [
        kernel_inception_distance(features(150, 8, seed, 0.3), features(150, 8, 500 + seed), 30, 50)
        for seed in range(60)
    ]
    values = np.array([estimate.value for estimate in estimates])
    widths = np.mean([estimate.high - estimate.low for estimate in estimates])  # type: ignore[operator]
    assert widths / (2 * 1.96) == pytest.approx(values.std(ddof=1), rel=0.35)
    assert estimates[0].how == "30 subsets of 50 images, 95 %"


def test_seed_and_size() -> None:
    generated, reference = features(60), features(50, seed=1)
    assert kernel_inception_distance(generated, reference, 5, 20) == kernel_inception_distance(
        generated, reference, 5, 20
    )
    other = kernel_inception_distance(generated, reference, 5, 20, seed=1)
    assert other.value != kernel_inception_distance(generated, reference, 5, 20).value
    whole = kernel_inception_distance(generated, reference, 5, 50)  # all of the reference in every subset
    assert whole == Estimate(whole.value)
    with pytest.raises(InputError, match="reference images: 50 images; at least 51 are needed"):
        kernel_inception_distance(generated, reference, 5, 51)
    with pytest.raises(InputError, match="0 subsets of 10"):
        kernel_inception_distance(generated, reference, 0, 10)


def test_degenerate_sets() -> None:
    constant = np.full((30, 8), 2.0)
    assert kernel_inception_distance(constant, constant, 3, 30).value == pytest.approx(0, abs=1e-9)
    broken = constant.copy()
    broken[5, 5] = np.inf
    with pytest.raises(GalipError, match="generated images: the features of image 5 are not finite"):
        kernel_inception_distance(broken, constant, 3, 30)
