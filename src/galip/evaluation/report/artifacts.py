"""The folder beside a result: images from best to worst score, nearest training images, every image's scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from galip.errors import GalipError
from galip.evaluation.evaluated import Evaluated
from galip.evaluation.image_sets import ImageSet
from galip.evaluation.images import at_resolution, real_images
from galip.evaluation.memorisation import Memorisation
from galip.evaluation.metrics.registry import METRICS
from galip.evaluation.metrics.task import Measured
from galip.evaluation.plan import Plan, PlannedSample
from galip.evaluation.protocols.schema import Protocol
from galip.evaluation.result import (
    NEAREST,
    PER_IMAGE,
    SAMPLES,
    ImageScores,
    NearestRow,
    Neighbour,
    Sample,
    files_of,
    write_rows,
)
from galip.utils.atomic import atomic_folder

NEAREST_SHOWN = 3
"""Training images that are shown beside a generated one."""

_OF_EACH_RANK = 16
_SUSPECTS = 32
_RANKS: tuple[Literal["best", "middle", "worst"], ...] = ("best", "middle", "worst")


@dataclass(frozen=True)
class ArtifactImages:
    """Where the images that are shown come from; generated ones are made anew, from their captions and seeds."""

    plan: Plan
    evaluated: Evaluated
    source: ImageSet | None
    training: ImageSet | None
    resolution: int


def write_artifacts(
    out: Path, protocol: Protocol, images: ArtifactImages, measured: Measured, memorised: Memorisation | None
) -> None:
    """Fill the folder beside the result `out`; one that is there is replaced.

    Raises:
        GalipError: it cannot be written.
    """
    scores = measured.scores
    try:
        with atomic_folder(files_of(out)) as folder:
            write_rows(folder / PER_IMAGE, (_image_scores(sample, scores) for sample in images.plan.samples))
            if order := _ordering(protocol, scores):
                write_rows(folder / SAMPLES, _samples(folder, images, scores[order]))
            if memorised is not None and images.training is not None:
                write_rows(folder / NEAREST, _nearest(folder, images, memorised))
    except OSError as error:
        raise GalipError(f"{files_of(out)}: cannot be written ({error.strerror or error})") from error


def _ordering(protocol: Protocol, scores: Mapping[str, NDArray[np.float64]]) -> str | None:
    """The score that samples are ordered by."""
    return next(
        (name for name in protocol.metrics if name in scores and METRICS[name].family.name == "alignment"), None
    )


def _image_scores(row: PlannedSample, scores: Mapping[str, NDArray[np.float64]]) -> ImageScores:
    values = {name: round(float(of[row.number]), 6) for name, of in scores.items() if np.isfinite(of[row.number])}
    return ImageScores(number=row.number, caption=row.caption, seed=row.seed, scores=values)


def _samples(folder: Path, images: ArtifactImages, score: NDArray[np.float64]) -> list[Sample]:
    candidates = [row for row in images.plan.samples if np.isfinite(score[row.number])]
    candidates.sort(key=lambda row: -score[row.number])
    count = min(_OF_EACH_RANK, len(candidates) // 3 or 1)
    middle = (len(candidates) - count) // 2
    parts = (candidates[:count], candidates[middle : middle + count], candidates[-count:])
    rows = []
    for rank, part in zip(_RANKS, parts, strict=True):
        for row, image in zip(part, _images(images, part), strict=True):
            name = _save(folder, "samples", f"{row.number:06d}", image)
            real = None
            if row.record is not None and images.source is not None:
                beside = real_images(images.source, [row.record], images.resolution)[0]
                real = _save(folder, "samples", f"{row.number:06d}-real", beside)
            group = row.groups[0] if row.groups else ""
            rows.append(
                Sample(
                    number=row.number,
                    caption=row.caption,
                    seed=row.seed,
                    group=group,
                    score=float(score[row.number]),
                    rank=rank,
                    image=name,
                    real=real,
                )
            )
    return rows


def _nearest(folder: Path, images: ArtifactImages, memorised: Memorisation) -> list[NearestRow]:
    """The generated images that are nearest to training images: where copies would be, if there were any."""
    assert images.training is not None
    compared = images.plan.compared
    order = np.argsort(memorised.distances[:, 0], kind="stable")[:_SUSPECTS].tolist()
    rows = []
    for place, image in zip(order, _images(images, [compared[place] for place in order]), strict=True):
        row = compared[place]
        neighbours = []
        for record, distance in zip(
            memorised.numbers[place].tolist(), memorised.distances[place].tolist(), strict=True
        ):
            beside = real_images(images.training, [record], images.resolution)[0]
            name = _save(folder, "nearest", f"training-{record:08d}", beside)
            neighbours.append(Neighbour(image=name, distance=distance, name=images.training.name_of(record)))
        rows.append(
            NearestRow(
                image=_save(folder, "nearest", f"{row.number:06d}", image),
                caption=row.caption,
                seed=row.seed,
                distance=neighbours[0].distance,
                neighbours=neighbours,
            )
        )
    return rows


def _images(images: ArtifactImages, rows: Sequence[PlannedSample]) -> Tensor:
    return at_resolution(images.evaluated.images(rows), images.resolution, quantise=True)


def _save(folder: Path, part: str, name: str, image: Tensor) -> str:
    """Write uint8 [3, H, W] as PNG; the path within the folder."""
    path = folder / part / f"{name}.png"
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(image.permute(1, 2, 0).cpu().numpy()).save(path)
    return f"{part}/{path.name}"
