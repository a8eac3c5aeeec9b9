"""Intervals: they are as wide as repetitions with other images say, and the same every time."""

from __future__ import annotations

import math

import numpy as np
import pytest

from galip.errors import GalipError, InputError
from galip.evaluation import intervals
from galip.evaluation.intervals import Estimate, bootstrap_mean, bootstrap_ratio, jackknife, student_quantile


def test_bootstrap_of_a_share() -> None:
    hits = np.arange(400) % 4 == 0
    estimate, spread = bootstrap_mean(hits), 1.96 * math.sqrt(0.25 * 0.75 / 400)
    assert estimate.value == 0.25 and estimate.how == "bootstrap over images, 95 %"
    assert (estimate.low, estimate.high) == pytest.approx((0.25 - spread, 0.25 + spread), abs=0.008)
    assert bootstrap_mean(hits) == estimate


def test_memory_does_not_change_the_bootstrap(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=100)
    at_once = bootstrap_mean(values)
    monkeypatch.setattr(intervals, "_AT_ONCE", 700)
    assert bootstrap_mean(values) == at_once


def test_a_ratio_resamples_images_whole() -> None:
    values = np.random.default_rng(0).random(50) + 0.1
    ratio = bootstrap_ratio(values / 2, values)
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((0.5, 0.5, 0.5))


def test_what_has_no_interval() -> None:
    assert bootstrap_mean([0.5]) == Estimate(0.5)
    assert bootstrap_ratio([1, 1, 2], [0, 0, 4]) == Estimate(1.0)  # some samples hold nothing to divide by
    with pytest.raises(InputError, match="N > 0 images"):
        bootstrap_mean([])
    with pytest.raises(InputError, match=r"\[\[3\], \[2\]\]"):
        bootstrap_ratio([1, 2, 3], [1, 2])
    with pytest.raises(GalipError, match="not finite"):
        bootstrap_mean([1, math.nan])
    with pytest.raises(GalipError, match="a ratio to 0"):
        bootstrap_ratio([1, 2, 3], [0, 0, 0])


def test_jackknife_of_a_mean_is_the_textbooks_interval() -> None:
    values = np.random.default_rng(0).normal(size=12)
    estimate = jackknife(values.mean(), [np.delete(values, i).mean() for i in range(12)])
    reach = 2.20099 * values.std(ddof=1) / math.sqrt(12)  # t of 11 degrees of freedom
    assert (estimate.low, estimate.high) == pytest.approx((values.mean() - reach, values.mean() + reach), rel=1e-4)
    assert estimate.how == "jackknife over 12 groups of images, 95 %"
    with pytest.raises(InputError, match="5 or more"):
        jackknife(1.0, [1.0, 2.0])
    with pytest.raises(GalipError, match="not finite"):
        jackknife(1.0, [1.0, 2.0, 3.0, 4.0, math.inf])


@pytest.mark.parametrize(("freedom", "table"), [(4, 2.7764), (9, 2.2622), (19, 2.0930), (10**6, 1.9600)])
def test_student_quantile(freedom: int, table: float) -> None:
    assert student_quantile(freedom) == pytest.approx(table, rel=3e-3)
