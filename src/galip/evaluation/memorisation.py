"""The memorisation check: are generated images nearer to the training images than other real images are?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from galip.errors import InputError
from galip.evaluation.intervals import Estimate, bootstrap_mean
from galip.evaluation.vectors import COLUMNS, Vectors, check_vectors, squared_distances, tiles
from galip.utils.arrays import DoubleArray

COPY = 1e-3
"""Of a training vector's length: what is nearer is the same image to the network, up to rounding of pixels."""

NEAR = 0.01
"""Share of the real held-out images that are nearer to a training image than the threshold for near copies."""


def nearest(queries: Vectors, gallery: Vectors, count: int = 1) -> tuple[DoubleArray, NDArray[np.int64]]:
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
        raise InputError(f"{count} nearest images: 1 or more is needed")
    check_vectors(queries, "generated images")
    check_vectors(gallery, "training images", dim=queries.shape[1], at_least=count)
    distances, numbers = np.empty((len(queries), count)), np.empty((len(queries), count), dtype=np.int64)
    for rows, tile in tiles(queries, "generated images"):
        best = np.full((len(tile), count), np.inf)
        where = np.zeros((len(tile), count), dtype=np.int64)
        for columns, other in tiles(gallery, "training images", COLUMNS):
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
    """What the distances to the nearest training image say.

    Attributes:
        distances: of each generated image, [N, count], nearest first.
        numbers: of the training images they are to, [N, count].
        held_out_distances: of each real held-out image to its nearest one, [M].
        copies: share of the generated images that are a training image.
        held_out_copies: the same of the held-out images: what the data itself repeats.
        near_copies: share of the generated images that are nearer to a training image than all but 1 % of the held-out
            ones are: 0.01 is expected of a model that generates what is as new as they are.
        nearer: chance that a generated image is nearer to the training images than a held-out one, ties half: 0.5 is
            expected, towards 1 the model copies, towards 0 it generates what is unlike any real image (the statistic of
            Meehan et al. 2020).
        median_ratio: median distance of the generated images by that of the held-out ones; None where the latter is 0.
    """

    distances: DoubleArray
    numbers: NDArray[np.int64]
    held_out_distances: DoubleArray
    copies: Estimate
    held_out_copies: Estimate
    near_copies: Estimate
    nearer: Estimate
    median_ratio: float | None


def memorisation(generated: Vectors, held_out: Vectors, training: Vectors, count: int = 1) -> Memorisation:
    """Compare generated and real held-out images by their distance to the training images, in some features.

    Args:
        generated, held_out, training: features [N, D], [M, D], [T, D] of one network.
        count: nearest training images to name for each generated one.

    Raises:
        InputError, GalipError: as `nearest`.
    """
    distances, numbers = nearest(generated, training, count)
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


def _copied(distances: DoubleArray, numbers: NDArray[np.int64], training: Vectors) -> NDArray[np.bool_]:
    lengths = np.array([np.linalg.norm(np.array(training[number], dtype=np.float64)) for number in numbers])
    return distances <= COPY * lengths
