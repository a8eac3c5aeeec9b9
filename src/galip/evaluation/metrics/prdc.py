"""Precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from galip.errors import InputError
from galip.evaluation.intervals import Estimate, bootstrap_mean
from galip.evaluation.vectors import COLUMNS, Vectors, check_vectors, squared_distances, tiles
from galip.utils.arrays import DoubleArray


@dataclass(frozen=True)
class PRDC:
    """The four numbers. Intervals: bootstrap over the images that each is a mean over, the balls as they are.

    Attributes:
        precision: share of the generated images that lie in the ball of some real one: are they like real ones?
        recall: share of the real images that lie in the ball of some generated one: are all kinds generated?
        density: by how many balls of real images a generated one is covered, by k; 1 where the sets are alike.
        coverage: share of the real images whose ball holds a generated one.
    """

    precision: Estimate
    recall: Estimate
    density: Estimate
    coverage: Estimate


def prdc(generated: Vectors, reference: Vectors, k: int = 3, coverage_k: int = 5) -> PRDC:
    """Compare two sets by balls around their vectors, each reaching to the k-th nearest other vector of its own set.

    A ball holds its border, as in both papers; copies of one image have radius 0 and hold each other.

    Args:
        generated, reference: features [N, D] and [M, D].
        k: of the balls of precision and recall; 3 in their paper.
        coverage_k: of the balls of density and coverage; 5 in theirs.

    Raises:
        InputError: a set has no k-th neighbours, or the lengths of the vectors differ.
        GalipError: a number is not finite.
    """
    if min(k, coverage_k) < 1:
        raise InputError(f"the {min(k, coverage_k)}-th nearest neighbour: 1 or more is needed")
    check_vectors(generated, "generated images", at_least=k + 1)
    check_vectors(reference, "reference images", dim=generated.shape[1], at_least=max(k, coverage_k) + 1)
    (generated_radius,) = _radii(generated, "generated images", k)
    radius, wider = _radii(reference, "reference images", k, coverage_k)
    precise = np.zeros(len(generated), dtype=bool)
    inside = np.zeros(len(generated))  # in so many of the wider balls
    found, covered = np.zeros(len(reference), dtype=bool), np.zeros(len(reference), dtype=bool)
    for rows, tile in tiles(generated, "generated images"):
        for columns, other in tiles(reference, "reference images", COLUMNS):
            distances = squared_distances(tile, other)
            precise[rows] |= (distances <= radius[columns]).any(1)
            in_wider = distances <= wider[columns]
            inside[rows] += in_wider.sum(1)
            covered[columns] |= in_wider.any(0)
            found[columns] |= (distances <= generated_radius[rows, None]).any(0)
    return PRDC(*(bootstrap_mean(values) for values in (precise, found, inside / coverage_k, covered)))


def _radii(vectors: Vectors, what: str, *k: int) -> DoubleArray:
    """Squared distance of each vector to the k-th nearest other one of its set, a row for each k: [K, N]."""
    radii, most = np.empty((len(k), len(vectors))), max(k)
    for rows, tile in tiles(vectors, what):
        nearest = np.full((len(tile), most + 1), np.inf)  # itself among them, at distance 0
        for _, other in tiles(vectors, what, COLUMNS):
            both = np.concatenate([nearest, squared_distances(tile, other)], axis=1)
            nearest = np.partition(both, most, axis=1)[:, : most + 1]
        radii[:, rows] = np.sort(nearest, axis=1)[:, list(k)].T
    return radii
