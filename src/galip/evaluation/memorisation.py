"""The memorisation check: are drawn pictures nearer to the training pictures than other real pictures are?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from galip.errors import InputError
from galip.evaluation.intervals import Estimate, bootstrap_mean
from galip.evaluation.vectors import COLUMNS, Doubles, Vectors, check_vectors, squared_distances, tiles

COPY = 1e-3
"""Of a training vector's length: what is nearer is the same picture to the network, up to rounding of pixels."""

NEAR = 0.01
"""Share of the real held-out pictures that are nearer to a training picture than the threshold for near copies."""


def nearest(queries: Vectors, gallery: Vectors, count: int = 1) -> tuple[Doubles, NDArray[np.int64]]:
    """The nearest vectors of `gallery`, by Euclidean distance.

    Args:
        queries: [Q, D].
        gallery: [N, D].
        count: how many of it for each query.

    Returns:
        Distances and numbers, each [Q, count], nearest first.

    Raises:
        InputError: shapes do not fit, or `gallery` holds fewer than `count`.
        GalipError: a number is not finite.
    """
    if count < 1:
        raise InputError(f"{count} nearest pictures: 1 or more is needed")
    check_vectors(queries, "drawn pictures")
    check_vectors(gallery, "training pictures", dim=queries.shape[1], at_least=count)
    distances, numbers = np.empty((len(queries), count)), np.empty((len(queries), count), dtype=np.int64)
    for rows, tile in tiles(queries, "drawn pictures"):
        best = np.full((len(tile), count), np.inf)
        where = np.zeros((len(tile), count), dtype=np.int64)
        for columns, other in tiles(gallery, "training pictures", COLUMNS):
            both = np.concatenate([best, squared_distances(tile, other)], axis=1)
            found = np.broadcast_to(np.arange(columns.start, columns.stop), (len(tile), len(other)))
            chosen = np.argpartition(both, count - 1, axis=1)[:, :count]
            best = np.take_along_axis(both, chosen, axis=1)
            where = np.take_along_axis(np.concatenate([where, found], axis=1), chosen, axis=1)
        # Near 0 the distances above are rounding; those that are returned are taken from the differences.
        for column in range(count):
            best[:, column] = np.linalg.norm(tile - gallery[where[:, column]], axis=1)
        order = np.argsort(best, axis=1, kind="stable")
        distances[rows] = np.take_along_axis(best, order, axis=1)
        numbers[rows] = np.take_along_axis(where, order, axis=1)
    return distances, numbers


@dataclass(frozen=True)
class Memorisation:
    """What the distances to the nearest training picture say.

    Attributes:
        distances: of each drawn picture, [N, count], nearest first.
        numbers: of the training pictures they are to, [N, count].
        held_out_distances: of each real held-out picture to its nearest one, [M].
        copies: share of the drawn pictures that are a training picture.
        held_out_copies: the same of the held-out pictures: what the data itself repeats.
        near_copies: share of the drawn pictures that are nearer to a training picture than all but 1 % of the held-out
            ones are: 0.01 is expected of a model that draws what is as new as they are.
        nearer: chance that a drawn picture is nearer to the training pictures than a held-out one, ties half: 0.5 is
            expected, towards 1 the model copies, towards 0 it draws what is unlike any real picture (the statistic of
            Meehan et al. 2020).
        median_ratio: median distance of the drawn pictures by that of the held-out ones; None where the latter is 0.
    """

    distances: Doubles
    numbers: NDArray[np.int64]
    held_out_distances: Doubles
    copies: Estimate
    held_out_copies: Estimate
    near_copies: Estimate
    nearer: Estimate
    median_ratio: float | None


def memorisation(drawn: Vectors, held_out: Vectors, training: Vectors, count: int = 1) -> Memorisation:
    """Compare drawn and real held-out pictures by their distance to the training pictures, in some features.

    Args:
        drawn, held_out, training: features [N, D], [M, D], [T, D] of one network.
        count: nearest training pictures to name for each drawn one.

    Raises:
        InputError, GalipError: as `nearest`.
    """
    distances, numbers = nearest(drawn, training, count)
    beside, beside_numbers = nearest(held_out, training)
    first, held_out_distances = distances[:, 0], beside[:, 0]
    ordered = np.sort(held_out_distances)
    above = len(ordered) - np.searchsorted(ordered, first, side="right")
    level = len(ordered) - np.searchsorted(ordered, first, side="left") - above
    median = float(np.median(held_out_distances))
    return Memorisation(
        distances,
        numbers,
        held_out_distances,
        copies=bootstrap_mean(_copied(first, numbers[:, 0], training)),
        held_out_copies=bootstrap_mean(_copied(held_out_distances, beside_numbers[:, 0], training)),
        near_copies=bootstrap_mean(first < np.quantile(held_out_distances, NEAR)),
        nearer=bootstrap_mean((above + level / 2) / len(ordered)),
        median_ratio=float(np.median(first)) / median if median else None,
    )


def _copied(distances: Doubles, numbers: NDArray[np.int64], training: Vectors) -> NDArray[np.bool_]:
    lengths = np.array([np.linalg.norm(np.array(training[number], dtype=np.float64)) for number in numbers])
    return distances <= COPY * lengths
