"""From features to the numbers of a protocol."""

from __future__ import annotations

from collections.abc import Mapping

from galip.errors import GalipError
from galip.evaluation.metrics.registry import METRICS
from galip.evaluation.metrics.task import FeatureSet, Measured, MetricTask
from galip.evaluation.plan import Plan
from galip.evaluation.protocols.schema import Protocol
from galip.utils.progress import Progress


def measure(protocol: Protocol, plan: Plan, features: Mapping[str, FeatureSet], progress: Progress) -> Measured:
    """Compute every metric of a protocol.

    Args:
        protocol: which, and with which settings.
        plan: which images there are.
        features: by space.
        progress: told before each metric, and at the end.
    """
    found = Measured()
    for done, name in enumerate(protocol.metrics):
        progress("metrics", done, len(protocol.metrics))
        metric = METRICS[name]
        try:
            metric.family.compute(MetricTask(name, protocol, plan, features[metric.space], found))
        except GalipError as error:  # one number that cannot be had must not cost the others
            found.failed[name] = str(error)
    progress("metrics", len(protocol.metrics), len(protocol.metrics))
    return found
