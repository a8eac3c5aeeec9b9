"""Sets of feature vectors as every metric takes them: checked, read in float64 tiles, compared with each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from galip.errors import GalipError, InputError
from galip.utils.arrays import DoubleArray

Vectors: TypeAlias = NDArray[np.floating[Any]]
"""One row an image, [N, D]; it may lie in a file (`numpy.memmap`)."""

ROWS, COLUMNS = 1024, 4096
"""Vectors on the two sides of a tile of pairs: with D = 2048 such a tile and all that it needs take about 150 MB."""

ROUNDING = 1e-12
"""Of the vectors' squared lengths: squared distances below it are rounding, and become exactly 0."""


def check_vectors(vectors: Vectors, what: str, dim: int | None = None, at_least: int = 1) -> None:
    """See that this is a set of vectors, before anything is computed. The numbers themselves are seen to by `tiles`.

    Args:
        vectors: the set.
        what: its name in an error.
        dim: the length that the vectors must have, if any will not do.
        at_least: how many are needed.

    Raises:
        InputError: it is not [N, D] of floats, of another D, or has too few rows.
    """
    if vectors.ndim != 2 or not np.issubdtype(vectors.dtype, np.floating):
        raise InputError(f"{what}: {vectors.dtype} of shape {list(vectors.shape)}; floats [images, numbers] are needed")
    if dim is not None and vectors.shape[1] != dim:
        raise InputError(f"{what}: vectors of {vectors.shape[1]} numbers, where the others have {dim}")
    if len(vectors) < at_least:
        raise InputError(f"{what}: {len(vectors)} images; at least {at_least} are needed")


def tiles(vectors: Vectors, what: str, rows: int = ROWS, start: int = 0) -> Iterator[tuple[slice, DoubleArray]]:
    """The set from row `start` on in parts, in order: which rows, and a float64 copy of them.

    Raises:
        GalipError: a number is not finite.
    """
    for first in range(start, len(vectors), rows):
        part = slice(first, min(first + rows, len(vectors)))
        tile = np.array(vectors[part], dtype=np.float64)
        bad = ~np.isfinite(tile).all(axis=1)
        if bad.any():
            number = first + int(bad.argmax())
            raise GalipError(
                f"{what}: the features of image {number} are not finite; the network or its input is broken"
            )
        yield part, tile


def check_finite(vectors: Vectors, what: str) -> None:
    """See that every number is finite, where rows are going to be taken one by one; raises as `tiles`."""
    for _ in tiles(vectors, what):
        pass


def unit(tile: DoubleArray, what: str) -> DoubleArray:
    """Vectors [N, D] scaled to length 1.

    Raises:
        GalipError: one has length 0, so it points nowhere.
    """
    length = np.linalg.norm(tile, axis=1, keepdims=True)
    if not length.all():
        raise GalipError(f"{what}: a vector of length 0 has no direction; the network or its input is broken")
    return tile / length


def squared_distances(a: DoubleArray, b: DoubleArray) -> DoubleArray:
    """Squared Euclidean distances [N, M] of [N, D] and [M, D]; exactly 0 between equal vectors."""
    scale = np.square(a).sum(1)[:, None] + np.square(b).sum(1)
    distances = scale - 2 * (a @ b.T)
    distances[distances < ROUNDING * scale] = 0
    return distances
