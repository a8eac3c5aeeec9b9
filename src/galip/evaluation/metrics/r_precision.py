"""R-precision: how often the caption that an image was generated for is the nearest among random ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from galip.errors import InputError
from galip.evaluation.intervals import Estimate, bootstrap_mean
from galip.evaluation.vectors import COLUMNS, Vectors, check_finite, check_vectors, tiles, unit
from galip.utils.arrays import DoubleArray

TIE = 1e-12
"""Cosines closer than this are equal. A rival as near as the right caption counts as nearer."""


def r_precision(images: Vectors, texts: Vectors, captions: Sequence[str], among: int = 100) -> Estimate:
    """The mean of `right_caption_chances`, with a bootstrap over the images (Xu et al. 2018, in CLIP's space)."""
    return bootstrap_mean(right_caption_chances(images, texts, captions, among))


def right_caption_chances(images: Vectors, texts: Vectors, captions: Sequence[str], among: int = 100) -> DoubleArray:
    """Each image's chance that its own caption is the nearest of `among` random ones, its own included.

    Exact, without choosing captions at random: with r of the M - 1 other captions nearer, it is the chance that none of
    them is among the `among` - 1 chosen ones, C(M - 1 - r, among - 1) / C(M - 1, among - 1).

    Args:
        images, texts: vectors [N, D] of images and of their own captions, any scale.
        captions: the N captions. Equal ones are one caption: no rivals of each other, and one rival of another.
        among: captions to choose from; all M different ones where there are fewer.

    Returns:
        float64 [N].

    Raises:
        InputError: sizes differ, or all captions are the same, or `among` is below 2.
        GalipError: a vector is not finite or has length 0.
    """
    if among < 2:
        raise InputError(f"the nearest of {among} captions is no choice; 2 or more are needed")
    rivals = len(set(captions)) - 1
    left = rivals - nearer_captions(images, texts, captions)
    chosen = min(among - 1, rivals)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, rivals + 1)))])
    enough = np.maximum(left, chosen)
    log_chance = log_factorial[enough] - log_factorial[enough - chosen]
    log_chance = log_chance - (log_factorial[rivals] - log_factorial[rivals - chosen])
    return np.exp(log_chance) * (left >= chosen)


def nearer_captions(images: Vectors, texts: Vectors, captions: Sequence[str]) -> NDArray[np.int64]:
    """How many of the other captions are at least as near to each image as its own: [N], 0 where its own is nearest.

    Arguments and errors as for `right_caption_chances`.
    """
    check_vectors(images, "images")
    check_vectors(texts, "captions", dim=images.shape[1])
    if not len(images) == len(texts) == len(captions):
        raise InputError(f"{len(images)} images, {len(texts)} caption vectors, {len(captions)} captions: not as many")
    different, first, own = np.unique(np.asarray(captions, dtype=object), return_index=True, return_inverse=True)
    if len(different) < 2:
        raise InputError("all captions are the same: there is nothing to choose from")
    check_finite(texts, "captions")
    nearer = np.zeros(len(images), dtype=np.int64)
    for rows, tile in tiles(images, "images"):
        seen = unit(tile, "images")
        right = (seen * unit(texts[rows].astype(np.float64), "captions")).sum(1)
        for start in range(0, len(different), COLUMNS):
            numbers = np.arange(start, min(start + COLUMNS, len(different)))
            rivals = unit(texts[first[numbers]].astype(np.float64), "captions")
            as_near = seen @ rivals.T >= right[:, None] - TIE
            nearer[rows] += (as_near & (own[rows, None] != numbers)).sum(1)
    return nearer
