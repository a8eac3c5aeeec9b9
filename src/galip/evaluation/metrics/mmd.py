"""CMMD: squared MMD of unit vectors with a broad Gaussian kernel (Jayasumana et al., CVPR 2024)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from galip.errors import InputError
from galip.evaluation.intervals import Estimate, jackknife
from galip.evaluation.vectors import COLUMNS, Doubles, Vectors, check_vectors, squared_distances, tiles, unit

SIGMA, SCALE = 10.0, 1000.0


def gaussian_mmd(
    drawn: Vectors, reference: Vectors, groups: int = 20, dealt: NDArray[np.int64] | None = None
) -> Estimate:
    """1000 times the squared MMD of the vectors scaled to length 1, kernel exp(-|x - y|^2 / (2 10^2)).

    The estimator is the authors': means over all pairs, each picture with itself among them. It is never below 0, and
    0 for the same pictures. The interval is a jackknife over the drawn pictures, dealt by their number; the reference
    is taken as it is.

    Args:
        drawn, reference: vectors [N, D] and [M, D], any scale.
        groups: of the jackknife, 5 or more; above N / 2 of them there is no interval.
        dealt: each drawn picture's group, [N], below `groups`; None: by its number. Pictures that hang together, of one
            record for example, belong into one.

    Raises:
        InputError: the lengths of the vectors differ.
        GalipError: a vector is not finite or has length 0.
    """
    check_vectors(drawn, "drawn pictures")
    check_vectors(reference, "reference pictures", dim=drawn.shape[1])
    if groups < 5:
        raise InputError(f"{groups} groups: a jackknife needs 5 or more")
    number, one = len(drawn), np.zeros(len(reference), dtype=np.int64)
    dealt = np.arange(number) % groups if dealt is None else dealt
    within = _sums_within(drawn, "drawn pictures", dealt, groups)  # [groups, groups]
    across = _sums_across(drawn, dealt, groups, reference)
    other = _sums_within(reference, "reference pictures", one, 1)[0, 0] / len(reference) ** 2

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


def _sums_within(x: Vectors, what: str, group: NDArray[np.int64], groups: int) -> Doubles:
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


def _sums_across(x: Vectors, group: NDArray[np.int64], groups: int, y: Vectors) -> Doubles:
    """Sums of the kernel over the pairs of each group of `x` with all of `y`, [groups]."""
    sums = np.zeros(groups)
    for rows, tile in tiles(x, "drawn pictures"):
        seen, members = unit(tile, "drawn pictures"), np.eye(groups)[group[rows]]
        for _, rest in tiles(y, "reference pictures", COLUMNS):
            sums += members.T @ _kernel(seen, unit(rest, "reference pictures")).sum(1)
    return sums


def _kernel(x: Doubles, y: Doubles) -> Doubles:
    return np.exp(squared_distances(x, y) / (-2 * SIGMA**2))
