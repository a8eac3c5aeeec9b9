"""CMMD: squared MMD of unit vectors with a broad Gaussian kernel (Jayasumana et al., CVPR 2024)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from galip.errors import InputError
from galip.evaluation.intervals import Estimate, jackknife
from galip.evaluation.vectors import COLUMNS, Vectors, check_vectors, squared_distances, tiles, unit
from galip.utils.arrays import DoubleArray

SIGMA, SCALE = 10.0, 1000.0


def gaussian_mmd(
    generated: Vectors, reference: Vectors, groups: int = 20, dealt: NDArray[np.int64] | None = None
) -> Estimate:
    """1000 times the squared MMD of the vectors scaled to length 1, kernel exp(-|x - y|^2 / (2 10^2)).

    The estimator is the authors': means over all pairs, each image with itself among them. It is never below 0, and
    0 for the same images. The interval is a jackknife over the generated images, dealt by their number; the reference
    is taken as it is.

    Args:
        generated, reference: vectors [N, D] and [M, D], any scale.
        groups: of the jackknife, 5 or more; above N / 2 of them there is no interval.
        dealt: each generated image's group, [N], below `groups`; None: by its number. Images that hang together, of one
            record for example, belong into one.

    Raises:
        InputError: the lengths of the vectors differ.
        GalipError: a vector is not finite or has length 0.
    """
    check_vectors(generated, "generated images")
    check_vectors(reference, "reference images", dim=generated.shape[1])
    if groups < 5:
        raise InputError(f"{groups} groups: a jackknife needs 5 or more")
    number, one = len(generated), np.zeros(len(reference), dtype=np.int64)
    dealt = np.arange(number) % groups if dealt is None else dealt
    within = _sums_within(generated, "generated images", dealt, groups)  # [groups, groups]
    across = _sums_across(generated, dealt, groups, reference)
    other = _sums_within(reference, "reference images", one, 1)[0, 0] / len(reference) ** 2

    def distance(pairs: float, to_reference: float, count: int) -> float:
        return SCALE * float(pairs / count**2 + other - 2 * to_reference / (count * len(reference)))

    value = max(distance(within.sum(), across.sum(), number), 0.0)
    if number < 2 * groups:
        return Estimate(value)
    without = [
        distance(
            within.sum() - 2 * within[group].sum() + within[group, group],
            across.sum() - across[group],
            number - int((dealt == group).sum()),
        )
        for group in range(groups)
    ]
    return jackknife(value, without, least=0.0)


def _sums_within(x: Vectors, what: str, group: NDArray[np.int64], groups: int) -> DoubleArray:
    """Sums of the kernel over the pairs of each group with each other, [groups, groups]; all pairs in both orders."""
    sums = np.zeros((groups, groups))
    for rows, tile in tiles(x, what):
        seen, members = unit(tile, what), np.eye(groups)[group[rows]]
        sums += members.T @ _kernel(seen, seen) @ members
        # What lies below the tiles on the diagonal is what lies above them.
        for columns, rest in tiles(x, what, COLUMNS, start=rows.stop):
            others = np.eye(groups)[group[columns]]
            pairs = members.T @ _kernel(seen, unit(rest, what)) @ others
            sums += pairs + pairs.T
    return sums


def _sums_across(x: Vectors, group: NDArray[np.int64], groups: int, y: Vectors) -> DoubleArray:
    """Sums of the kernel over the pairs of each group of `x` with all of `y`, [groups]."""
    sums = np.zeros(groups)
    for rows, tile in tiles(x, "generated images"):
        seen, members = unit(tile, "generated images"), np.eye(groups)[group[rows]]
        for _, rest in tiles(y, "reference images", COLUMNS):
            sums += members.T @ _kernel(seen, unit(rest, "reference images")).sum(1)
    return sums


def _kernel(x: DoubleArray, y: DoubleArray) -> DoubleArray:
    return np.exp(squared_distances(x, y) / (-2 * SIGMA**2))
