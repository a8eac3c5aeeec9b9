"""Diversity: do different seeds give different images of one caption?"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from galip.errors import GalipError, InputError
from galip.evaluation.intervals import Estimate, bootstrap_mean, bootstrap_ratio
from galip.utils.arrays import DoubleArray


def mean_pairwise(groups: NDArray[np.floating[Any]]) -> DoubleArray:
    """Mean Euclidean distance between the members of each group.

    Args:
        groups: [G, K, D]: K vectors of images of one caption, G times. How they are scaled is the caller's choice;
            for CLIP's vectors it is length 1.

    Returns:
        float64 [G].

    Raises:
        InputError: another shape, or fewer than two members.
        GalipError: a number is not finite.
    """
    if groups.ndim != 3 or groups.shape[1] < 2:
        raise InputError(f"groups of shape {list(groups.shape)}: [groups, members, numbers] with 2 members or more")
    members = groups.shape[1]
    means = np.zeros(len(groups))
    for number, group in enumerate(groups):
        vectors = np.array(group, dtype=np.float64)
        if not np.isfinite(vectors).all():
            raise GalipError(f"group {number}: the features of an image are not finite")
        # From differences, not from products: equal images are at distance 0 exactly.
        for one in range(members - 1):
            means[number] += np.linalg.norm(vectors[one + 1 :] - vectors[one], axis=1).sum()
    return means / (members * (members - 1) / 2)


def diversity(generated: NDArray[np.floating[Any]], real: NDArray[np.floating[Any]] | None = None) -> Estimate:
    """Mean distance between images of one caption, with a bootstrap over captions.

    Args:
        generated: vectors [G, K, D] of K generated images for each of G captions.
        real: vectors [G, L, D] of L real images for each, if there are any: then the number is relative to theirs,
            and 1 says that seeds differ as much as real images do.

    Raises:
        InputError: shapes do not fit.
        GalipError: a number is not finite, or the real images of a caption are all the same.
    """
    if real is None:
        return bootstrap_mean(mean_pairwise(generated))
    if len(real) != len(generated):
        raise InputError(f"{len(generated)} groups of generated and {len(real)} of real images: one each is needed")
    return bootstrap_ratio(mean_pairwise(generated), mean_pairwise(real))
