"""What a metric is computed from, and where its numbers go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from galip.errors import GalipError
from galip.evaluation.intervals import Estimate
from galip.evaluation.metrics.settings import MetricSettings
from galip.evaluation.plan import Plan
from galip.evaluation.result import LARGEST, Number
from galip.evaluation.statistics import Statistics
from galip.evaluation.vectors import Vectors


@dataclass
class FeatureSet:
    """The features of everything in one network's space.

    Attributes:
        generated: [N, D], of all evaluated images, in the plan's order.
        texts: vectors [N, D] of their captions; None where the network cannot read.
        reference: [M, D], of the reference set, or None.
        statistics: its mean and covariance, where its features are not known.
        real: [R, D], in which the real images of captions are looked up; None where there are none.
        real_row: for each evaluated image the row of its real one in `real`, -1 where there is none.
        real_apart: whether the real images of the captions are others than the reference's.
    """

    generated: Vectors
    texts: Vectors | None = None
    reference: Vectors | None = None
    statistics: Statistics | None = None
    real: Vectors | None = None
    real_row: Sequence[int] = ()
    real_apart: bool = False


@dataclass
class Measured:
    """The numbers of an evaluation.

    Attributes:
        metrics: by name.
        real_baseline: the same of real images: distances between two sets of them, scores of the captions' own images.
        groups: by category and name.
        group_real_baseline: the same of real images.
        failed: metrics that could not be computed, and why.
        scores: of metrics that are means over images, every image's part, [N]; NaN where it has none. An image that
            only a category counts is scored within that category.
    """

    metrics: dict[str, Number] = field(default_factory=dict)
    real_baseline: dict[str, Number] = field(default_factory=dict)
    groups: dict[str, dict[str, Number]] = field(default_factory=dict)
    group_real_baseline: dict[str, dict[str, Number]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    scores: dict[str, NDArray[np.float64]] = field(default_factory=dict)


@dataclass
class MetricTask:
    """One metric's inputs. Its function keeps what it finds in `found`.

    Attributes:
        name: of the metric.
        settings: how metrics are computed.
        plan: which images there are.
        features: in the metric's space.
        found: where the numbers go.
    """

    name: str
    settings: MetricSettings
    plan: Plan
    features: FeatureSet
    found: Measured

    @property
    def generated(self) -> Vectors:
        """Features of the evaluated images that are compared."""
        return rows_of(self.features.generated, [sample.number for sample in self.plan.compared])

    def jackknife_groups(self, groups: int) -> NDArray[np.int64]:
        """The jackknife's group of each compared image; images of one record are in one group."""
        place: dict[int, int] = {}
        units = [
            sample.number if sample.record is None else place.setdefault(sample.record, len(place))
            for sample in self.plan.compared
        ]
        return np.array(units, dtype=np.int64) % groups

    def reference(self) -> Vectors:
        """Features of the reference.

        Raises:
            GalipError: only statistics are known of it.
        """
        if self.features.reference is None:
            raise GalipError("needs the reference's images, and not only statistics of them")
        return self.features.reference

    def real_sets(self, size: int | None = None) -> tuple[Vectors, Vectors] | None:
        """Two disjoint sets of real images; None where the images are not known."""
        features, reference = self.features, self.features.reference
        if reference is None:
            return None
        if features.real_apart and features.real is not None:
            numbers = [features.real_row[sample.number] for sample in self.plan.compared]
            one, two = rows_of(features.real, [number for number in numbers if number >= 0]), reference
        else:
            one, two = reference[::2], reference[1::2]
        return (one[:size], two[:size]) if min(len(one), len(two)) > 1 else None

    def keep(self, estimate: Estimate, count: int, name: str = "") -> None:
        """Keep a number of the evaluated images, under the metric's name unless another is given."""
        self.found.metrics[name or self.name] = number_of(estimate, count)

    def keep_baseline(self, estimate: Estimate, count: int, name: str = "") -> None:
        """Keep the same number of real images."""
        self.found.real_baseline[name or self.name] = number_of(estimate, count)


def number_of(estimate: Estimate, count: int) -> Number:
    """A number of a result.

    Raises:
        GalipError: it is too large to be one.
    """
    for value in (estimate.value, estimate.low, estimate.high):
        if value is not None and not abs(value) <= LARGEST:
            raise GalipError(f"the number would be {value:.3g}: the network or its input is broken")
    return Number(value=estimate.value, low=estimate.low, high=estimate.high, interval=estimate.how, count=count)


def rows_of(features: Vectors, numbers: Sequence[int]) -> Vectors:
    """Rows by number; without a copy where they are consecutive, as a large set's are."""
    if (
        numbers
        and numbers[-1] - numbers[0] + 1 == len(numbers)
        and list(numbers) == list(range(numbers[0], numbers[-1] + 1))
    ):
        return features[numbers[0] : numbers[-1] + 1]
    return features[list(numbers)]
