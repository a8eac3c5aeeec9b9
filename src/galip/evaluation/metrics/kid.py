"""Kernel Inception distance: squared MMD with a cubic kernel, unbiased, over random subsets."""

from __future__ import annotations

import math

import numpy as np

from galip.errors import InputError
from galip.evaluation.intervals import Estimate
from galip.evaluation.vectors import Vectors, check_finite, check_vectors
from galip.utils.arrays import DoubleArray


def kernel_inception_distance(
    generated: Vectors, reference: Vectors, subsets: int = 100, subset_size: int = 1000, seed: int = 2020
) -> Estimate:
    """Mean of the squared MMD over random subsets (Binkowski et al. 2018). It may be below 0 where sets are alike.

    The subsets' values vary less than those of other images would, as they overlap, and more than their mean does.
    The interval scales their deviation s to the standard error of a number that all N images give, as the jackknife
    that deletes N - m of them does (Shao and Wu 1989): s sqrt(m / (N - m)), with N the smaller set. Where a subset is
    all images of a set, there is no interval.

    Args:
        generated, reference: features [N, D] and [M, D].
        subsets: how many.
        subset_size: images in each, m.
        seed: of the choice. Subsets are chosen as torch-fidelity chooses them; 2020 is its own seed.

    Raises:
        InputError: a set is smaller than a subset, or the lengths of the vectors differ.
        GalipError: a number is not finite.
    """
    distances = subset_distances(generated, reference, subsets, subset_size, seed)
    value, left = float(distances.mean()), min(len(generated), len(reference)) - subset_size
    if left < 1 or subsets < 2:
        return Estimate(value)
    reach = 1.959963984540054 * float(distances.std(ddof=1)) * math.sqrt(subset_size / left)
    return Estimate(value, value - reach, value + reach, f"{subsets} subsets of {subset_size} images, 95 %")


def subset_distances(
    generated: Vectors, reference: Vectors, subsets: int = 100, subset_size: int = 1000, seed: int = 2020
) -> DoubleArray:
    """The unbiased squared MMD of each subset, [subsets]; their mean and deviation are what other tools print."""
    if subsets < 1 or subset_size < 2:
        raise InputError(f"{subsets} subsets of {subset_size} images: at least 1 of 2 is needed")
    check_vectors(generated, "generated images", at_least=subset_size)
    check_vectors(reference, "reference images", dim=generated.shape[1], at_least=subset_size)
    check_finite(generated, "generated images")
    check_finite(reference, "reference images")
    rng = np.random.RandomState(seed)
    distances = np.empty(subsets)
    for number in range(subsets):
        x, y = (
            vectors[rng.choice(len(vectors), subset_size, replace=False)].astype(np.float64)
            for vectors in (generated, reference)
        )
        distances[number] = _unlike(_kernel(x, x)) + _unlike(_kernel(y, y)) - 2 * _kernel(x, y).mean()
    return distances


def _kernel(x: DoubleArray, y: DoubleArray) -> DoubleArray:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _unlike(kernel: DoubleArray) -> float:
    """Mean over the pairs of two different images."""
    count = len(kernel)
    return float((kernel.sum() - kernel.trace()) / (count * (count - 1)))
