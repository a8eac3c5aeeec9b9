"""Mean and covariance of features: exact sums that can be merged, and the files they are exchanged in."""

from __future__ import annotations

import json
import lzma
import math
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galip.errors import GalipError, InputError
from galip.evaluation.vectors import Vectors, check_vectors, tiles
from galip.utils.arrays import DoubleArray
from galip.utils.atomic import atomic_file

_ARRAYS = ("mu", "sigma", "count", "features", "about")
_MAX_BYTES = 4 << 30
"""Of one array that is read; the features of 200,000 images by Inception have 1.6 GB."""

_MAX_DIM = 8192
_LARGEST = 1e30
_DAMAGED = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    TypeError,
    OverflowError,
    MemoryError,
    RuntimeError,  # encrypted, a compression that this Python lacks, nested too deep
    SyntaxError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
)
"""What Python and numpy raise at a file that is none."""


@dataclass
class Moments:
    """Sums over images, in float64: of any two sets, the sums of both together are those of each added up.

    Mean and covariance are taken at the end, so they depend on the set of images alone, up to the last digits: not on
    batches, order or processes.

    Attributes:
        count: images.
        total: sum of the vectors, [D].
        outer: sum of the vectors' outer products with themselves, [D, D].
    """

    count: int
    total: DoubleArray
    outer: DoubleArray

    @classmethod
    def empty(cls, dim: int) -> Moments:
        """The sums of no image."""
        return cls(0, np.zeros(dim), np.zeros((dim, dim)))

    @classmethod
    def of(cls, features: Vectors, what: str = "features") -> Moments:
        """The sums of features [N, D]; errors as for `add`."""
        check_vectors(features, what)
        moments = cls.empty(features.shape[1])
        moments.add(features, what)
        return moments

    def add(self, features: Vectors, what: str = "features") -> None:
        """Take in features [N, D].

        Raises:
            InputError: they are not of this shape.
            GalipError: a number is not finite; nothing of its tile is taken in.
        """
        check_vectors(features, what, dim=len(self.total), at_least=0)
        for _, tile in tiles(features, what):
            self.count += len(tile)
            self.total += tile.sum(0)
            self.outer += tile.T @ tile

    def merge(self, other: Moments) -> Moments:
        """The sums of the images of both."""
        self._check(other)
        return Moments(self.count + other.count, self.total + other.total, self.outer + other.outer)

    def without(self, part: Moments) -> Moments:
        """The sums of the images that are not in `part`, whose images are all among these."""
        self._check(part)
        if part.count > self.count:
            raise InputError(f"{part.count} images cannot be taken out of {self.count}")
        return Moments(self.count - part.count, self.total - part.total, self.outer - part.outer)

    def _check(self, other: Moments) -> None:
        if other.total.shape != self.total.shape:
            raise InputError(f"moments of {len(other.total)} numbers, where the others have {len(self.total)}")

    @property
    def mean(self) -> DoubleArray:
        """[D]."""
        if not self.count:
            raise InputError("no images: they have no mean")
        return self.total / self.count

    @property
    def covariance(self) -> DoubleArray:
        """[D, D], divided by N - 1 as in every implementation of FID."""
        if self.count < 2:
            raise InputError(f"a covariance needs two images or more: there is {self.count}")
        return (self.outer - np.outer(self.total, self.total) / self.count) / (self.count - 1)

    def statistics(self) -> Statistics:
        """Mean and covariance with the count."""
        return Statistics(self.mean, self.covariance, self.count)


@dataclass(frozen=True)
class Statistics:
    """What is known of a set of images: enough for a Frechet distance, and more where a file says more.

    Attributes:
        mu: mean, [D].
        sigma: covariance, [D, D].
        count: images, where it is known. A file of pytorch-fid does not say it.
        features: float32 [N, D], where they were kept: KID, precision and recall need them.
        about: what made them, in words: the features' network, its digest, the data.
    """

    mu: DoubleArray
    sigma: DoubleArray
    count: int | None = None
    features: NDArray[np.float32] | None = None
    about: Mapping[str, str] = field(default_factory=dict)


def read_statistics(path: str | Path) -> Statistics:
    """Read an `.npz` of pytorch-fid (arrays `mu` and `sigma`) or of `write_statistics`.

    Raises:
        GalipError: the file is not there, is no such file, or its numbers cannot be a mean and a covariance.
    """
    path = Path(path)
    if not path.is_file():
        raise GalipError(f"{path}: no such file; reference statistics are an .npz with arrays mu and sigma")
    try:
        with path.open("rb") as file:
            if file.read(6) == np.lib.format.MAGIC_PREFIX:
                raise GalipError(f"{path}: an .npy array, not reference statistics: an .npz with arrays mu and sigma")
        with zipfile.ZipFile(path) as archive:
            held = [name.removesuffix(".npy") for name in archive.namelist()]
            arrays = {name: _read_array(archive, f"{name}.npy", path) for name in _ARRAYS if name in held}
    except _DAMAGED as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise GalipError(f"{path}: cannot be read as .npz ({why[:200]}); it is damaged or of another kind") from error
    if not {"mu", "sigma"} <= arrays.keys():
        holds = ", ".join(held[:10]) or "nothing"
        raise GalipError(f"{path}: holds {holds}; reference statistics hold mu and sigma")
    try:
        return _checked(arrays, path)
    except (TypeError, ValueError, OverflowError, RecursionError, np.linalg.LinAlgError) as error:
        raise GalipError(f"{path}: {' '.join(str(error).split())[:200]}") from error


def _read_array(archive: zipfile.ZipFile, name: str, path: Path) -> NDArray[Any]:
    """An array of an archive; nothing is allocated before its header and its size agree."""
    claimed = archive.getinfo(name).file_size
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(file)
        size = math.prod(shape) * dtype.itemsize + file.tell()
    if max(size, claimed) > _MAX_BYTES:
        raise GalipError(f"{path}: {name} claims {max(size, claimed) / 1e9:,.0f} GB; no statistics are that large")
    if size != claimed:
        raise ValueError(f"{name} has {claimed} bytes where its header says {size}")
    with archive.open(name) as file:
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False))


def _checked(arrays: dict[str, NDArray[Any]], path: Path) -> Statistics:
    for name in ("mu", "sigma", "features"):
        if name in arrays and arrays[name].dtype.kind not in "fiu":
            raise GalipError(f"{path}: {name} is of type {arrays[name].dtype}; real numbers are needed")
    mu, sigma = (arrays[name].astype(np.float64) for name in ("mu", "sigma"))
    dim = len(mu) if mu.ndim == 1 else 0
    if not dim or sigma.shape != (dim, dim):
        raise GalipError(f"{path}: mu {list(mu.shape)} and sigma {list(sigma.shape)}; [D] and [D, D] are needed")
    if dim > _MAX_DIM:
        raise GalipError(f"{path}: features of {dim} numbers; at most {_MAX_DIM} can be compared")
    if not (np.isfinite(mu).all() and np.isfinite(sigma).all()):
        raise GalipError(f"{path}: mu or sigma is not finite; the file was made of broken features")
    if max(np.abs(mu).max(), np.abs(sigma).max()) > _LARGEST:
        raise GalipError(f"{path}: mu or sigma holds numbers above {_LARGEST:g}; the file was made of broken features")
    if np.abs(sigma - sigma.T).max() > 1e-3 * np.abs(sigma).max():
        raise GalipError(f"{path}: sigma is not symmetric, so it is no covariance")
    if not is_covariance(np.linalg.eigvalsh((sigma + sigma.T) / 2), mu):
        raise GalipError(f"{path}: sigma has negative eigenvalues: these are not the statistics of any images")
    features = arrays.get("features")
    if features is not None:
        if features.ndim != 2 or features.shape[1] != dim:
            raise GalipError(f"{path}: features {list(features.shape)}; [N, {dim}] is needed")
        features = features.astype(np.float32, copy=False)
        if not np.isfinite(features).all():
            raise GalipError(f"{path}: some of its features are not finite; the file was made of broken features")
    about = json.loads(str(arrays["about"])) if "about" in arrays else {}
    if not isinstance(about, dict) or not all(isinstance(value, str) for value in about.values()):
        raise GalipError(f"{path}: about is no table of texts; write the file anew")
    count = int(arrays["count"].item()) if "count" in arrays else None
    if count is not None and count < 1:
        raise GalipError(f"{path}: statistics of {count} images")
    return Statistics(mu, sigma, count, features, about)


def is_covariance(eigenvalues: NDArray[np.floating[Any]], mu: DoubleArray) -> bool:
    """Whether a symmetric matrix of these ascending eigenvalues [D] can be the covariance around a mean [D].

    Rounding, that of sums of squares of the mean's length too, may make some of them a little negative.
    """
    largest = max(float(eigenvalues[-1]), 0.0)
    return bool(eigenvalues[0] >= -1e-3 * largest - 1e-9 * (largest + np.square(mu).sum()))


def write_statistics(path: str | Path, statistics: Statistics) -> None:
    """Write an `.npz` that pytorch-fid reads, too: what it does not know lies in arrays of other names.

    Raises:
        InputError: the name does not end in `.npz`, which is how pytorch-fid knows such a file.
        GalipError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise InputError(f"{path}: a file of statistics must be named .npz")
    arrays: dict[str, NDArray[Any]] = {"mu": statistics.mu, "sigma": statistics.sigma}
    if statistics.count is not None:
        arrays["count"] = np.array(statistics.count)
    if statistics.features is not None:
        arrays["features"] = statistics.features
    if statistics.about:
        arrays["about"] = np.array(json.dumps(dict(statistics.about), sort_keys=True))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as unfinished, unfinished.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
    except OSError as error:
        raise GalipError(f"{path}: cannot be written ({error.strerror or error}); name another file") from error
