"""CLIP score: the cosine of a picture's vector and its caption's (Hessel et al. 2021, without their factor 2.5)."""

from __future__ import annotations

import numpy as np

from galip.errors import InputError
from galip.evaluation.intervals import Estimate, bootstrap_mean
from galip.evaluation.vectors import Doubles, Vectors, check_vectors, tiles, unit


def clip_cosines(images: Vectors, texts: Vectors) -> Doubles:
    """The cosine of each picture and its own caption, float64 [N].

    Args:
        images, texts: vectors [N, D] of the same CLIP, any scale.

    Raises:
        InputError: sizes differ.
        GalipError: a vector is not finite or has length 0.
    """
    check_vectors(images, "pictures")
    check_vectors(texts, "captions", dim=images.shape[1])
    if len(images) != len(texts):
        raise InputError(f"{len(images)} pictures and {len(texts)} captions: one each is needed")
    pairs = zip(tiles(images, "pictures"), tiles(texts, "captions"), strict=True)
    return np.concatenate([(unit(seen, "pictures") * unit(said, "captions")).sum(1) for (_, seen), (_, said) in pairs])


def clip_score(images: Vectors, texts: Vectors) -> Estimate:
    """Their mean, in [-1, 1], with a bootstrap over the pictures.

    It is the number of the paper's tables. torchmetrics prints it times 100, and 0 where it is below 0.
    """
    return bootstrap_mean(clip_cosines(images, texts))
