"""The formulas, each used in several networks' spaces: what one needs, and the function that computes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

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
from galip.evaluation.metrics.task import MetricTask, number_of, rows_of
from galip.evaluation.plan import PlannedSample
from galip.evaluation.statistics import Moments
from galip.evaluation.vectors import Vectors

MANIFOLD = ("precision", "recall", "density", "coverage")
"""The four numbers of one manifold metric."""

_GROUPS = 10
"""Of the jackknife of a Frechet distance: each costs another distance, seconds where D is 2048."""


@dataclass(frozen=True)
class Family:
    """A formula.

    Attributes:
        name: of the formula.
        compute: the function; it keeps its numbers in the task.
        compares: whether it compares with real images.
        statistics_suffice: whether mean and covariance of the real images are enough for it.
        reads: whether it needs the captions' vectors.
        several_seeds: whether it needs several images of one caption.
    """

    name: Literal["frechet", "kernel", "mmd", "manifold", "alignment", "r_precision", "diversity"]
    compute: Callable[[MetricTask], None]
    compares: bool = False
    statistics_suffice: bool = False
    reads: bool = False
    several_seeds: bool = False


def _frechet(task: MetricTask) -> None:
    generated, statistics = task.generated, task.features.statistics
    if statistics is None:
        statistics = Moments.of(task.reference(), "reference images").statistics()
    if len(generated) < 2 * _GROUPS:
        moments = Moments.of(generated, "generated images")
        found = Estimate(frechet_distance(moments.mean, moments.covariance, statistics.mu, statistics.sigma))
    else:
        dealt = task.jackknife_groups(_GROUPS)
        groups = [Moments.of(generated[dealt == group], "generated images") for group in range(_GROUPS)]
        found = frechet_interval(groups, statistics)
    task.keep(found, len(generated))
    if (sets := task.real_sets()) is not None:
        one, two = (Moments.of(half, "real images") for half in sets)
        distance = frechet_distance(one.mean, one.covariance, two.mean, two.covariance)
        task.keep_baseline(Estimate(distance), min(one.count, two.count))


def _kernel(task: MetricTask) -> None:
    generated, reference, settings = task.generated, task.reference(), task.settings
    size = min(settings.kid_subset_size, len(generated), len(reference))
    task.keep(kernel_inception_distance(generated, reference, settings.kid_subsets, size), len(generated))
    if (sets := task.real_sets()) is not None:
        size = min(size, *map(len, sets))
        task.keep_baseline(kernel_inception_distance(*sets, settings.kid_subsets, size), min(map(len, sets)))


def _mmd(task: MetricTask) -> None:
    generated = task.generated
    task.keep(gaussian_mmd(generated, task.reference(), dealt=task.jackknife_groups(20)), len(generated))
    if (sets := task.real_sets()) is not None:
        task.keep_baseline(gaussian_mmd(*sets), min(map(len, sets)))


def _manifold(task: MetricTask) -> None:
    ending, settings = task.name.removeprefix("prdc"), task.settings

    def compare(one: Vectors, two: Vectors, keep: Callable[[Estimate, int, str], None]) -> None:
        size = min(len(one), len(two), settings.manifold_images)
        found = prdc(one[:size], two[:size], settings.neighbours, settings.coverage_neighbours)
        for name in MANIFOLD:
            keep(getattr(found, name), size, name + ending)

    compare(task.generated, task.reference(), task.keep)
    if (sets := task.real_sets(settings.manifold_images)) is not None:
        compare(*sets, task.keep_baseline)


def _alignment(task: MetricTask) -> None:
    _score_captions(task, lambda images, texts, _: clip_cosines(images, texts))


def _r_precision(task: MetricTask) -> None:
    among = task.settings.among
    _score_captions(task, lambda images, texts, captions: right_caption_chances(images, texts, captions, among))


def _score_captions(task: MetricTask, score: Callable[[Vectors, Vectors, list[str]], NDArray[np.float64]]) -> None:
    """The mean score of the whole, of each category, and of real images in place of the generated ones."""
    features, found = task.features, task.found
    if features.texts is None:
        raise GalipError("its network cannot read captions")
    texts = features.texts
    parts: dict[str, list[PlannedSample]] = {"": task.plan.compared}
    for sample in task.plan.samples:
        for group in sample.groups:
            parts.setdefault(group, []).append(sample)
    for group, samples in parts.items():
        captions = [sample.caption for sample in samples]
        if len(set(captions)) < 2:
            continue  # there is nothing to choose from
        numbers = [sample.number for sample in samples]
        values = score(rows_of(features.generated, numbers), rows_of(texts, numbers), captions)
        kept = found.scores.setdefault(task.name, np.full(len(task.plan.samples), np.nan))
        kept[numbers] = np.where(np.isnan(kept[numbers]), values, kept[numbers])
        here = found.groups.setdefault(group, {}) if group else found.metrics
        here[task.name] = number_of(_mean(values, samples), len(samples))
        places = [features.real_row[number] for number in numbers] if features.real is not None else [-1]
        if features.real is None or min(places) < 0:
            continue
        real = score(features.real[places], rows_of(texts, numbers), captions)
        here = found.group_real_baseline.setdefault(group, {}) if group else found.real_baseline
        here[task.name] = number_of(_mean(real, samples), len(samples))


def _mean(values: NDArray[np.float64], samples: Sequence[PlannedSample]) -> Estimate:
    """The mean; images of the same record hang together, and are resampled together."""
    records = [sample.record for sample in samples]
    if None in records or len(set(records)) == len(records):
        return bootstrap_mean(values)
    _, place = np.unique(np.array(records), return_inverse=True)
    return bootstrap_ratio(np.bincount(place, values), np.bincount(place))


def _diversity(task: MetricTask) -> None:
    families: dict[int, list[int]] = {}
    for sample in task.plan.samples:
        if sample.family >= 0:
            families.setdefault(sample.family, []).append(sample.number)
    if not families:
        raise GalipError("no caption has images of several seeds")
    vectors = np.stack([_unit(rows_of(task.features.generated, numbers)) for numbers in families.values()])
    task.keep(diversity(vectors), vectors.shape[0] * vectors.shape[1])


def _unit(vectors: Vectors) -> NDArray[np.float64]:
    doubles = np.array(vectors, dtype=np.float64)
    lengths = np.linalg.norm(doubles, axis=1, keepdims=True)
    return doubles / np.where(lengths > 0, lengths, 1)


FRECHET = Family("frechet", _frechet, compares=True, statistics_suffice=True)
KERNEL = Family("kernel", _kernel, compares=True)
MMD = Family("mmd", _mmd, compares=True)
PRDC = Family("manifold", _manifold, compares=True)
ALIGNMENT = Family("alignment", _alignment, reads=True)
R_PRECISION = Family("r_precision", _r_precision, reads=True)
DIVERSITY = Family("diversity", _diversity, several_seeds=True)
