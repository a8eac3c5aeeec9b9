"""The features of an evaluation, brought together for its metrics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from galip.evaluation.bundle import Bundle
from galip.evaluation.metrics.task import FeatureSet
from galip.evaluation.plan import Plan
from galip.evaluation.statistics import Statistics
from galip.evaluation.stores import FeatureStore


@dataclass
class Extracted:
    """Features of everything, by space.

    Attributes:
        generated: of the evaluated images, in the plan's order.
        texts: of their captions, where a metric reads.
        real: of the reference set; empty where its features or statistics are given.
        training: of the images that the model was trained on, in one space; empty where there is no such check.
    """

    generated: dict[str, FeatureStore]
    texts: dict[str, FeatureStore]
    real: dict[str, FeatureStore]
    training: dict[str, FeatureStore]


def feature_set(
    space: str, plan: Plan, extracted: Extracted, statistics: Statistics | None, bundle: Bundle | None
) -> FeatureSet:
    """What metrics of a space are computed from.

    Args:
        space: a network's.
        plan: which images there are.
        extracted: what was computed.
        statistics: of the reference in this space, where a file of them is given.
        bundle: a protocol's own features, which are the judge's.
    """
    texts = extracted.texts.get(space)
    features = FeatureSet(extracted.generated[space].whole(), None if texts is None else texts.whole())
    if space in extracted.real:
        features.reference = features.real = extracted.real[space].whole()
        place = {record: row for row, record in enumerate(plan.reference)}
        features.real_row = [-1 if row.record is None else place.get(row.record, -1) for row in plan.samples]
    elif bundle is not None and space == "judge":
        features.reference, features.statistics = bundle.reference.features, bundle.reference
        features.real, features.real_apart = bundle.real, True
        known = [bool(np.isfinite(row).all()) for row in bundle.real]
        features.real_row = [n if n < len(known) and known[n] else -1 for n in range(len(plan.samples))]
    elif statistics is not None:
        features.statistics, features.reference = statistics, statistics.features
    return features
