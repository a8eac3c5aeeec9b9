"""The folder beside a result: pictures from best to worst score, nearest training pictures, every picture's scores."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from galip.data.protocol import ImageSource
from galip.evaluation.images import Drawn, at_resolution, real_pictures
from galip.evaluation.measure import Measured
from galip.evaluation.memorisation import Memorisation
from galip.evaluation.plan import Asked, Plan
from galip.evaluation.protocols import METRICS, Protocol
from galip.evaluation.result import (
    NEAREST,
    PER_PICTURE,
    SAMPLES,
    NearestRow,
    Neighbour,
    PictureScores,
    Sample,
    files_of,
    write_rows,
)

SHOWN = 3
"""Training pictures that are shown beside a drawn one."""

_OF_EACH_RANK = 16
_SUSPECTS = 32
_RANKS: tuple[Literal["best", "middle", "worst"], ...] = ("best", "middle", "worst")


@dataclass(frozen=True)
class Shown:
    """What is needed to show pictures again: they are drawn anew, from their captions and seeds."""

    protocol: Protocol
    plan: Plan
    drawn: Drawn
    source: ImageSource | None
    training: ImageSource | None
    resolution: int


def keep_files(out: Path, shown: Shown, measured: Measured, memorised: Memorisation | None) -> None:
    """Fill the folder beside the result `out`; one that is there is replaced."""
    folder = files_of(out)
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    scores = measured.scores
    rows = shown.plan.asked
    write_rows(unfinished / PER_PICTURE, (_picture_scores(row, scores) for row in rows))
    if order := _ordering(shown.protocol, scores):
        write_rows(unfinished / SAMPLES, _samples(unfinished, shown, scores[order]))
    if memorised is not None and shown.training is not None:
        write_rows(unfinished / NEAREST, _nearest(unfinished, shown, memorised))
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.replace(folder)


def _ordering(protocol: Protocol, scores: Mapping[str, NDArray[np.float64]]) -> str | None:
    """The score that samples are ordered by."""
    return next((name for name in protocol.metrics if name in scores and METRICS[name].kind == "alignment"), None)


def _picture_scores(row: Asked, scores: Mapping[str, NDArray[np.float64]]) -> PictureScores:
    values = {name: round(float(of[row.number]), 6) for name, of in scores.items() if np.isfinite(of[row.number])}
    return PictureScores(number=row.number, caption=row.caption, seed=row.seed, scores=values)


def _samples(folder: Path, shown: Shown, score: NDArray[np.float64]) -> list[Sample]:
    candidates = [row for row in shown.plan.asked if np.isfinite(score[row.number])]
    candidates.sort(key=lambda row: -score[row.number])
    count = min(_OF_EACH_RANK, len(candidates) // 3 or 1)
    middle = (len(candidates) - count) // 2
    parts = (candidates[:count], candidates[middle : middle + count], candidates[-count:])
    rows = []
    for rank, part in zip(_RANKS, parts, strict=True):
        for row, picture in zip(part, _draw(shown, part), strict=True):
            name = _save(folder, "samples", f"{row.number:06d}", picture)
            real = None
            if row.record is not None and shown.source is not None:
                beside = real_pictures(shown.source, [row.record], shown.resolution)[0]
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
                    picture=name,
                    real=real,
                )
            )
    return rows


def _nearest(folder: Path, shown: Shown, memorised: Memorisation) -> list[NearestRow]:
    """The drawn pictures that are nearest to training pictures: where copies would be, if there were any."""
    assert shown.training is not None
    compared = shown.plan.compared
    order = np.argsort(memorised.distances[:, 0], kind="stable")[:_SUSPECTS].tolist()
    rows = []
    for place, picture in zip(order, _draw(shown, [compared[place] for place in order]), strict=True):
        row = compared[place]
        neighbours = []
        for record, distance in zip(
            memorised.numbers[place].tolist(), memorised.distances[place].tolist(), strict=True
        ):
            beside = real_pictures(shown.training, [record], shown.resolution)[0]
            name = _save(folder, "nearest", f"training-{record:08d}", beside)
            neighbours.append(Neighbour(picture=name, distance=distance, name=shown.training.name_of(record)))
        rows.append(
            NearestRow(
                picture=_save(folder, "nearest", f"{row.number:06d}", picture),
                caption=row.caption,
                seed=row.seed,
                distance=neighbours[0].distance,
                neighbours=neighbours,
            )
        )
    return rows


def _draw(shown: Shown, rows: Sequence[Asked]) -> Tensor:
    return at_resolution(shown.drawn.draw(rows), shown.resolution, quantise=True)


def _save(folder: Path, part: str, name: str, picture: Tensor) -> str:
    """Write uint8 [3, H, W] as PNG; the path within the folder."""
    path = folder / part / f"{name}.png"
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(picture.permute(1, 2, 0).cpu().numpy()).save(path)
    return f"{part}/{path.name}"
