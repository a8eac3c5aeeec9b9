"""CLIP score: the cosine of an image's vector and its caption's (Hessel et al. 2021, without their factor 2.5)."""

from __future__ import annotations

import numpy as np

from galip.errors import InputError
from galip.evaluation.intervals import Estimate, bootstrap_mean
from galip.evaluation.vectors import Vectors, check_vectors, tiles, unit
from galip.utils.arrays import DoubleArray


def clip_cosines(images: Vectors, texts: Vectors) -> DoubleArray:
    """The cosine of each image and its own caption, float64 [N].

    Args:
        images, texts: vectors [N, D] of the same CLIP, any scale.

    Raises:
        InputError: sizes differ.
        GalipError: a vector is not finite or has length 0.
    """
    check_vectors(images, "images")
    check_vectors(texts, "captions", dim=images.shape[1])
    if len(images) != len(texts):
        raise InputError(f"{len(images)} images and {len(texts)} captions: one each is needed")
    pairs = zip(tiles(images, "images"), tiles(texts, "captions"), strict=True)
    return np.concatenate([(unit(seen, "images") * unit(said, "captions")).sum(1) for (_, seen), (_, said) in pairs])


def clip_score(images: Vectors, texts: Vectors) -> Estimate:
    """Their mean, in [-1, 1], with a bootstrap over the images.

    It is the number of the paper's tables. torchmetrics prints it times 100, and 0 where it is below 0.
    """
    return bootstrap_mean(clip_cosines(images, texts))
