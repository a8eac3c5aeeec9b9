"""From features to the numbers of a protocol: metrics, the same of real pictures, and categories."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from galip.errors import GalipError
from galip.evaluation.intervals import Estimate, bootstrap_mean, bootstrap_ratio
from galip.evaluation.metrics.clip_score import clip_cosines
from galip.evaluation.metrics.diversity import diversity
from galip.evaluation.metrics.fid import frechet_distance, frechet_interval
from galip.evaluation.metrics.kid import kernel_inception_distance
from galip.evaluation.metrics.mmd import gaussian_mmd
from galip.evaluation.metrics.prdc import prdc
from galip.evaluation.metrics.r_precision import right_caption_chances
from galip.evaluation.plan import Asked, Plan
from galip.evaluation.protocols import MANIFOLD, METRICS, Protocol
from galip.evaluation.result import Number
from galip.evaluation.statistics import Moments, Statistics
from galip.evaluation.vectors import Vectors

_GROUPS = 10
"""Of the jackknife of a Frechet distance: each costs another distance, seconds where D is 2048."""


@dataclass
class Seen:
    """What one network makes of everything.

    Attributes:
        drawn: features [N, D] of all drawn pictures, in the plan's order.
        texts: vectors [N, D] of their captions; None where the network cannot read.
        reference: features [M, D] of the reference set, or None.
        statistics: its mean and covariance, where its features are not there.
        real: features [R, D] in which the real pictures of captions are looked up; None where there are none.
        real_row: for each drawn picture the row of its real one in `real`, -1 where there is none.
        apart: whether the real pictures of the captions are others than the reference's.
    """

    drawn: Vectors
    texts: Vectors | None = None
    reference: Vectors | None = None
    statistics: Statistics | None = None
    real: Vectors | None = None
    real_row: Sequence[int] = ()
    apart: bool = False


@dataclass
class Measured:
    """The numbers.

    Attributes:
        metrics: by name.
        floors: the same of real pictures: distances between two sets of them, scores of the captions' own pictures.
        groups: by category and name.
        group_floors: the same of real pictures.
        without: metrics that could not be computed, and why.
        scores: of metrics that are means over pictures, every drawn picture's part, [N]; NaN where it has none. A
            picture that only a category counts is scored within that category.
    """

    metrics: dict[str, Number]
    floors: dict[str, Number]
    groups: dict[str, dict[str, Number]]
    group_floors: dict[str, dict[str, Number]]
    without: dict[str, str]
    scores: dict[str, NDArray[np.float64]] = field(default_factory=dict)


def measure(protocol: Protocol, plan: Plan, seen: dict[str, Seen], say: Callable[[str], None]) -> Measured:
    """Compute every metric of a protocol.

    Args:
        protocol: which, and with which settings.
        plan: what was drawn.
        seen: by space.
        say: told the name of each metric before it is computed.
    """
    found = Measured({}, {}, {}, {}, {})
    for name in protocol.metrics:
        say(name)
        metric = METRICS[name]
        try:
            _COMPUTE[metric.kind](_Task(name, protocol, plan, seen[metric.space], found))
        except GalipError as error:  # one number that cannot be had must not cost the others
            found.without[name] = str(error)
    return found


@dataclass
class _Task:
    name: str
    protocol: Protocol
    plan: Plan
    seen: Seen
    found: Measured

    @property
    def drawn(self) -> Vectors:
        """Features of the drawn pictures that are compared."""
        return _rows(self.seen.drawn, [row.number for row in self.plan.compared])

    def dealt(self, groups: int) -> NDArray[np.int64]:
        """The jackknife's group of each compared picture; pictures of one record are in one group."""
        place: dict[int, int] = {}
        units = [
            row.number if row.record is None else place.setdefault(row.record, len(place)) for row in self.plan.compared
        ]
        return np.array(units, dtype=np.int64) % groups

    def reference(self) -> Vectors:
        """Features of the reference.

        Raises:
            GalipError: only statistics are known of it.
        """
        if self.seen.reference is None:
            raise GalipError("needs the reference's pictures, and not only statistics of them")
        return self.seen.reference

    def real_sets(self, size: int | None = None) -> tuple[Vectors, Vectors] | None:
        """Two disjoint sets of real pictures; None where the pictures are not known."""
        reference = self.seen.reference
        if reference is None:
            return None
        if self.seen.apart and self.seen.real is not None:
            numbers = [self.seen.real_row[row.number] for row in self.plan.compared]
            one, two = _rows(self.seen.real, [number for number in numbers if number >= 0]), reference
        else:
            one, two = reference[::2], reference[1::2]
        return (one[:size], two[:size]) if min(len(one), len(two)) > 1 else None

    def keep(self, estimate: Estimate, count: int, name: str = "") -> None:
        self.found.metrics[name or self.name] = _number(estimate, count)

    def keep_floor(self, estimate: Estimate, count: int, name: str = "") -> None:
        self.found.floors[name or self.name] = _number(estimate, count)


def _frechet(task: _Task) -> None:
    drawn, statistics = task.drawn, task.seen.statistics
    if statistics is None:
        statistics = Moments.of(task.reference(), "reference pictures").statistics()
    if len(drawn) < 2 * _GROUPS:
        moments = Moments.of(drawn, "drawn pictures")
        found = Estimate(frechet_distance(moments.mean, moments.covariance, statistics.mu, statistics.sigma))
    else:
        dealt = task.dealt(_GROUPS)
        groups = [Moments.of(drawn[dealt == group], "drawn pictures") for group in range(_GROUPS)]
        found = frechet_interval(groups, statistics)
    task.keep(found, len(drawn))
    if (sets := task.real_sets()) is not None:
        one, two = (Moments.of(half, "real pictures") for half in sets)
        distance = frechet_distance(one.mean, one.covariance, two.mean, two.covariance)
        task.keep_floor(Estimate(distance), min(one.count, two.count))


def _kernel(task: _Task) -> None:
    drawn, reference, protocol = task.drawn, task.reference(), task.protocol
    size = min(protocol.kid_subset_size, len(drawn), len(reference))
    task.keep(kernel_inception_distance(drawn, reference, protocol.kid_subsets, size), len(drawn))
    if (sets := task.real_sets()) is not None:
        size = min(size, *map(len, sets))
        task.keep_floor(kernel_inception_distance(*sets, protocol.kid_subsets, size), min(map(len, sets)))


def _mmd(task: _Task) -> None:
    drawn = task.drawn
    task.keep(gaussian_mmd(drawn, task.reference(), dealt=task.dealt(20)), len(drawn))
    if (sets := task.real_sets()) is not None:
        task.keep_floor(gaussian_mmd(*sets), min(map(len, sets)))


def _manifold(task: _Task) -> None:
    ending = task.name.removeprefix("prdc")
    most = task.protocol.manifold_pictures

    def compare(one: Vectors, two: Vectors, keep: Callable[[Estimate, int, str], None]) -> None:
        size = min(len(one), len(two), most)
        found = prdc(one[:size], two[:size], task.protocol.neighbours, task.protocol.coverage_neighbours)
        for name in MANIFOLD:
            keep(getattr(found, name), size, name + ending)

    compare(task.drawn, task.reference(), task.keep)
    if (sets := task.real_sets(most)) is not None:
        compare(*sets, task.keep_floor)


def _alignment(task: _Task) -> None:
    _about_captions(task, lambda images, texts, _: clip_cosines(images, texts))


def _r_precision(task: _Task) -> None:
    among = task.protocol.among
    _about_captions(task, lambda images, texts, captions: right_caption_chances(images, texts, captions, among))


def _about_captions(task: _Task, score: Callable[[Vectors, Vectors, list[str]], NDArray[np.float64]]) -> None:
    """The mean score of the whole, of each category, and of real pictures in the drawn ones' place."""
    seen, found = task.seen, task.found
    if seen.texts is None:
        raise GalipError("its network cannot read captions")
    texts = seen.texts
    parts: dict[str, list[Asked]] = {"": task.plan.compared}
    for row in task.plan.asked:
        for group in row.groups:
            parts.setdefault(group, []).append(row)
    for group, rows in parts.items():
        captions = [row.caption for row in rows]
        if len(set(captions)) < 2:
            continue  # there is nothing to choose from
        numbers = [row.number for row in rows]
        values = score(_rows(seen.drawn, numbers), _rows(texts, numbers), captions)
        kept = found.scores.setdefault(task.name, np.full(len(task.plan.asked), np.nan))
        kept[numbers] = np.where(np.isnan(kept[numbers]), values, kept[numbers])
        estimate = _mean(values, rows)
        here = found.groups.setdefault(group, {}) if group else found.metrics
        here[task.name] = _number(estimate, len(rows))
        places = [seen.real_row[number] for number in numbers] if seen.real is not None else [-1]
        if seen.real is None or min(places) < 0:
            continue
        estimate = _mean(score(seen.real[places], _rows(texts, numbers), captions), rows)
        here = found.group_floors.setdefault(group, {}) if group else found.floors
        here[task.name] = _number(estimate, len(rows))


def _mean(values: NDArray[np.float64], rows: Sequence[Asked]) -> Estimate:
    """The mean; pictures that were drawn for the same record hang together, and are resampled together."""
    records = [row.record for row in rows]
    if None in records or len(set(records)) == len(records):
        return bootstrap_mean(values)
    _, place = np.unique(np.array(records), return_inverse=True)
    return bootstrap_ratio(np.bincount(place, values), np.bincount(place))


def _diversity(task: _Task) -> None:
    families: dict[int, list[int]] = {}
    for row in task.plan.asked:
        if row.family >= 0:
            families.setdefault(row.family, []).append(row.number)
    if not families:
        raise GalipError("no caption was drawn with several seeds")
    vectors = np.stack([_unit(_rows(task.seen.drawn, numbers)) for numbers in families.values()])
    task.keep(diversity(vectors), vectors.shape[0] * vectors.shape[1])


_COMPUTE: dict[str, Callable[[_Task], None]] = {
    "frechet": _frechet,
    "kernel": _kernel,
    "mmd": _mmd,
    "manifold": _manifold,
    "alignment": _alignment,
    "r_precision": _r_precision,
    "diversity": _diversity,
}


def _number(estimate: Estimate, count: int) -> Number:
    return Number(value=estimate.value, low=estimate.low, high=estimate.high, interval=estimate.how, count=count)


def _rows(features: Vectors, numbers: Sequence[int]) -> Vectors:
    """Rows by number; without a copy where they are consecutive, as a large set's are."""
    if (
        numbers
        and numbers[-1] - numbers[0] + 1 == len(numbers)
        and list(numbers) == list(range(numbers[0], numbers[-1] + 1))
    ):
        return features[numbers[0] : numbers[-1] + 1]
    return features[list(numbers)]


def _unit(vectors: Vectors) -> NDArray[np.float64]:
    doubles = np.array(vectors, dtype=np.float64)
    lengths = np.linalg.norm(doubles, axis=1, keepdims=True)
    return doubles / np.where(lengths > 0, lengths, 1)
