"""Precision, recall, density, coverage: by brute force, as torch-fidelity, and of sets with known answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_fidelity.metric_prc import calculate_precision_recall_full

from galip.errors import GalipError, InputError
from galip.evaluation.metrics import prdc as metric_prdc
from galip.evaluation.metrics.prdc import prdc


def features(count: int, dim: int = 5, seed: int = 0, shift: float = 0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(count, dim)) + shift).astype(np.float32)


def values(generated: np.ndarray, reference: np.ndarray, k: int, coverage_k: int) -> tuple[float, ...]:
    found = prdc(generated, reference, k, coverage_k)
    return found.precision.value, found.recall.value, found.density.value, found.coverage.value


def plainly(generated: np.ndarray, reference: np.ndarray, k: int, coverage_k: int) -> tuple[float, ...]:
    generated, reference = generated.astype(np.float64), reference.astype(np.float64)

    def radius(vectors: np.ndarray, nth: int) -> np.ndarray:
        return np.array([sorted(np.linalg.norm(vectors - v, axis=1))[nth] for v in vectors])

    between = np.linalg.norm(generated[:, None] - reference[None], axis=2)
    precision = (between <= radius(reference, k)).any(1).mean()
    recall = (between <= radius(generated, k)[:, None]).any(0).mean()
    wider = radius(reference, coverage_k)
    density = (between <= wider).sum() / (coverage_k * len(generated))
    coverage = (between.min(0) <= wider).mean()
    return precision, recall, density, coverage


@pytest.mark.parametrize(("k", "coverage_k"), [(3, 5), (5, 2), (1, 1)])
def test_the_formulas(k: int, coverage_k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    generated, reference = features(130, shift=0.8), features(110, seed=1)
    expected = plainly(generated, reference, k, coverage_k)
    assert all(0 < number < 1.5 for number in expected)
    assert values(generated, reference, k, coverage_k) == pytest.approx(expected)
    monkeypatch.setattr(metric_prdc, "COLUMNS", 32)
    assert values(generated, reference, k, coverage_k) == pytest.approx(expected)


def test_torch_fidelity_gets_the_same() -> None:
    generated, reference = features(1300, shift=0.5), features(1100, seed=1)  # several tiles
    theirs = calculate_precision_recall_full(torch.from_numpy(generated), torch.from_numpy(reference), 3)
    assert values(generated, reference, 3, 5)[:2] == pytest.approx(theirs, abs=2e-3)


def test_sets_with_known_answers() -> None:
    reference = features(200)
    assert values(reference, reference, 3, 5)[:2] == (1, 1)
    assert values(reference + 100, reference, 3, 5) == (0, 0, 0, 0)
    # One good image, again and again: all are like real ones, and next to nothing is covered.
    precision, recall, _, coverage = values(np.repeat(reference[:1], 200, 0), reference, 3, 5)
    assert precision == 1 and recall == 1 / 200 and 0 < coverage < 0.1
    constant = np.full((50, 5), 7.0)
    assert values(constant, constant, 3, 5)[:2] == (1, 1)
    estimate = prdc(reference, features(150, seed=1)).precision
    assert 0 < estimate.low < estimate.value < estimate.high <= 1


def test_what_is_refused() -> None:
    with pytest.raises(InputError, match="generated images: 3 images; at least 4 are needed"):
        prdc(features(3), features(50))
    with pytest.raises(InputError, match="reference images: 5 images; at least 6 are needed"):
        prdc(features(50), features(5))
    with pytest.raises(InputError, match="the 0-th nearest"):
        prdc(features(50), features(50), k=0)
    broken = features(50)
    broken[4] = np.nan
    with pytest.raises(GalipError, match="reference images: the features of image 4 are not finite"):
        prdc(features(50), broken)
