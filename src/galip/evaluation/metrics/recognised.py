"""Recognised: among real images of every subject, is the one that a generated image looks like most the right one?"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from galip.errors import InputError
from galip.evaluation.intervals import Estimate, bootstrap_ratio
from galip.evaluation.vectors import Vectors, check_vectors, tiles, unit
from galip.utils.arrays import DoubleArray

SAME = 1e-6
"""Real images whose vectors are closer than this are one image under two names: either is right."""


def ranks(images: Vectors, gallery: Vectors, own: Sequence[int]) -> NDArray[np.int64]:
    """How many real images each image is nearer to than to its own one: [N], 0 where its own is the nearest.

    Args:
        images: vectors [N, D], any scale; angles are compared.
        gallery: vectors [M, D] of one real image for each subject.
        own: for each image the row of its subject in `gallery`.

    Raises:
        InputError: sizes differ, or a row is not in the gallery.
        GalipError: a vector is not finite or has length 0.
    """
    check_vectors(images, "images")
    check_vectors(gallery, "real images", dim=images.shape[1])
    rows = np.asarray(own, dtype=np.int64)
    if rows.shape != (len(images),) or not len(rows) or rows.min() < 0 or rows.max() >= len(gallery):
        raise InputError(f"{len(images)} images need as many rows of a gallery of {len(gallery)}")
    shown = unit(np.asarray(gallery, dtype=np.float64), "real images")
    found = np.zeros(len(images), dtype=np.int64)
    for part, tile in tiles(images, "images"):
        cosines = unit(np.asarray(tile, dtype=np.float64), "images") @ shown.T
        right = cosines[np.arange(len(tile)), rows[part]]
        twins = shown[rows[part]] @ shown.T > 1 - SAME
        found[part] = ((cosines >= right[:, None]) & ~twins).sum(1)
    return found


def recognised(found: NDArray[np.int64], top: int = 1, groups: Sequence[Hashable] | None = None) -> Estimate:
    """The share of images whose own real image is among the `top` nearest, with a bootstrap over the images.

    Args:
        found: ranks [N] as `ranks` gives them.
        top: 1 for the nearest.
        groups: what each image is of; images of one group share a weight of 1. None: all count the same.
    """
    weights = np.ones(len(found)) if groups is None else group_weights(groups)
    return bootstrap_ratio((found < top) * weights, weights)


def group_weights(groups: Sequence[Hashable]) -> DoubleArray:
    """1 by the size of each one's group, [N]."""
    sizes: dict[Hashable, int] = {}
    for group in groups:
        sizes[group] = sizes.get(group, 0) + 1
    return np.array([1 / sizes[group] for group in groups])
