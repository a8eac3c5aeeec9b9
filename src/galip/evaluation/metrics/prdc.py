"""Precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from galip.errors import InputError
from galip.evaluation.intervals import Estimate, bootstrap_mean
from galip.evaluation.vectors import COLUMNS, Doubles, Vectors, check_vectors, squared_distances, tiles


@dataclass(frozen=True)
class PRDC:
    """The four numbers. Intervals: bootstrap over the pictures that each is a mean over, the balls as they are.

    Attributes:
        precision: share of the drawn pictures that lie in the ball of some real one: are they like real ones?
        recall: share of the real pictures that lie in the ball of some drawn one: are all kinds drawn?
        density: by how many balls of real pictures a drawn one is covered, by k; 1 where the sets are alike.
        coverage: share of the real pictures whose ball holds a drawn one.
    """

    precision: Estimate
    recall: Estimate
    density: Estimate
    coverage: Estimate


def prdc(drawn: Vectors, reference: Vectors, k: int = 3, coverage_k: int = 5) -> PRDC:
    """Compare two sets by balls around their vectors, each reaching to the k-th nearest other vector of its own set.

    A ball holds its border, as in both papers; copies of one picture have radius 0 and hold each other.

    Args:
        drawn, reference: features [N, D] and [M, D].
        k: of the balls of precision and recall; 3 in their paper.
        coverage_k: of the balls of density and coverage; 5 in theirs.

    Raises:
        InputError: a set has no k-th neighbours, or the lengths of the vectors differ.
        GalipError: a number is not finite.
    """
    if min(k, coverage_k) < 1:
        raise InputError(f"the {min(k, coverage_k)}-th nearest neighbour: 1 or more is needed")
    check_vectors(drawn, "drawn pictures", at_least=k + 1)
    check_vectors(reference, "reference pictures", dim=drawn.shape[1], at_least=max(k, coverage_k) + 1)
    (drawn_radius,) = _radii(drawn, "drawn pictures", k)
    radius, wider = _radii(reference, "reference pictures", k, coverage_k)
    precise = np.zeros(len(drawn), dtype=bool)
    inside = np.zeros(len(drawn))  # in so many of the wider balls
    found, covered = np.zeros(len(reference), dtype=bool), np.zeros(len(reference), dtype=bool)
    for rows, tile in tiles(drawn, "drawn pictures"):
        for columns, other in tiles(reference, "reference pictures", COLUMNS):
            distances = squared_distances(tile, other)
            precise[rows] |= (distances <= radius[columns]).any(1)
            in_wider = distances <= wider[columns]
            inside[rows] += in_wider.sum(1)
            covered[columns] |= in_wider.any(0)
            found[columns] |= (distances <= drawn_radius[rows, None]).any(0)
    return PRDC(*(bootstrap_mean(values) for values in (precise, found, inside / coverage_k, covered)))


def _radii(vectors: Vectors, what: str, *k: int) -> Doubles:
    """Squared distance of each vector to the k-th nearest other one of its set, a row for each k: [K, N]."""
    radii, most = np.empty((len(k), len(vectors))), max(k)
    for rows, tile in tiles(vectors, what):
        nearest = np.full((len(tile), most + 1), np.inf)  # itself among them, at distance 0
        for _, other in tiles(vectors, what, COLUMNS):
            both = np.concatenate([nearest, squared_distances(tile, other)], axis=1)
            nearest = np.partition(both, most, axis=1)[:, : most + 1]
        radii[:, rows] = np.sort(nearest, axis=1)[:, list(k)].T
    return radii
