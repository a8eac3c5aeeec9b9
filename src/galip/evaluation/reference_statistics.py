"""Reference statistics from images: an `.npz` with mean and covariance, as a protocol compares with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from galip.distributed import Distributed
from galip.errors import InputError
from galip.evaluation.extractors.for_protocol import open_for
from galip.evaluation.extractors.inception import SIDE
from galip.evaluation.image_sets import ImageSet, open_captioned, open_images
from galip.evaluation.metrics.registry import METRICS
from galip.evaluation.protocols.schema import Protocol, by_field_name
from galip.evaluation.real_features import RealFeatures
from galip.evaluation.references import References
from galip.evaluation.statistics import Moments, Statistics, write_statistics
from galip.model_repo.cache import cache_folder
from galip.utils.progress import Progress, no_progress

_BY_OPTION = frozenset({"resolution", "inception_resize"})
"""What statistics of real images depend on, beside the network."""


def save_reference(
    out: Path,
    protocol: Protocol,
    references: References,
    changes: Mapping[str, Any] | None = None,
    metrics: Sequence[str] = (),
    *,
    distributed: Distributed | None = None,
    progress: Progress = no_progress,
) -> Statistics | None:
    """Write the statistics of all images of `references.data`, for protocols that compare with statistics.

    Args:
        out: an `.npz` of `mu` and `sigma`, which pytorch-fid reads, too; `count` and `about` stand beside them.
        protocol: how images are brought to the network, and which network that is.
        references: the images, and weights of the network.
        changes: `resolution` and `inception_resize`, of the protocols `custom` and `images`.
        metrics: the network's, where the protocol has metrics of several.
        distributed: the processes that share the work; None: this one.
        progress: told what is done.

    Returns:
        The statistics, on the main process; None on the others.

    Raises:
        InputError: there are no images, the network is not decided, or there is nothing to choose.
        GalipError: images or weights cannot be read, or the file cannot be written.
    """
    if out.suffix != ".npz":
        raise InputError(f"{out}: a file of statistics must be named .npz")
    rules = _rules(protocol, changes or {}, metrics)
    (space,) = rules.compared_spaces
    native = rules.native
    if not references.data:
        raise InputError("statistics are of real images: give --data")
    if unknown := sorted(set(references.weights or ()) - {space}):
        raise InputError(f"--weights {unknown[0]}=...: the statistics are made by {space} alone")
    distributed = distributed or Distributed()
    source: ImageSet = (open_captioned if native is None else open_images)(references.data, "--data")
    resolution = SIDE if native is not None else rules.resolution
    if not resolution:
        raise InputError(f"protocol {rules.name} has no size of its own: give --set resolution=SIDE, the model's")
    extractor = open_for(rules, space, (references.weights or {}).get(space)).to(distributed.device)
    features = RealFeatures(source, range(len(source)), resolution, references.cache or cache_folder(), native).compute(
        {space: extractor}, distributed, progress, "real images"
    )
    statistics = None
    if distributed.is_main:
        made = Moments.of(features[space].whole(), "real images").statistics()
        about = {
            "features": extractor.name,
            "weights": extractor.digest,
            "images": source.digest[:16],
            "protocol": rules.name,
            "resolution": "native" if native is not None else str(resolution),
        }
        statistics = Statistics(made.mu, made.sigma, made.count, about=about)
        write_statistics(out, statistics)
    distributed.wait()
    return statistics


def _rules(protocol: Protocol, changes: Mapping[str, Any], metrics: Sequence[str]) -> Protocol:
    """The protocol with one metric, whose network makes the statistics: Inception unless something else is said."""
    changes = by_field_name(changes)
    if protocol.name not in ("custom", "images") and changes:
        raise InputError(f"protocol {protocol.name} fixes {', '.join(changes)}; use --protocol custom")
    if other := sorted(changes.keys() - _BY_OPTION):
        raise InputError(f"{other[0]} does nothing here: statistics depend on {' and '.join(sorted(_BY_OPTION))}")
    asked = protocol.changed(**({"metrics": tuple(metrics)} if metrics else {}), **changes)
    serving = [name for name in asked.metrics if METRICS[name].family.statistics_suffice]
    if not metrics and len(serving) > 1:
        serving = [name for name in serving if METRICS[name].space.startswith("inception")]
    if len(serving) != 1 or METRICS[serving[0]].space == "judge":
        raise InputError(f"protocol {protocol.name}: name one metric of the network with --metrics, fid or fd_clip say")
    return asked.changed(metrics=tuple(serving))
