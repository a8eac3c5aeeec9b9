"""Mean and covariance of features: exact sums that can be merged, and the files they are exchanged in."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galip.errors import GalipError, InputError
from galip.evaluation.vectors import Doubles, Vectors, check_vectors, tiles

_ARRAYS = ("mu", "sigma", "count", "features", "about")


@dataclass
class Moments:
    """Sums over pictures, in float64: of any two sets, the sums of both together are those of each added up.

    Mean and covariance are taken at the end, so they depend on the set of pictures alone, up to the last digits: not on
    batches, order or processes.

    Attributes:
        count: pictures.
        total: sum of the vectors, [D].
        outer: sum of the vectors' outer products with themselves, [D, D].
    """

    count: int
    total: Doubles
    outer: Doubles

    @classmethod
    def empty(cls, dim: int) -> Moments:
        """The sums of no picture."""
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
        """The sums of the pictures of both."""
        self._check(other)
        return Moments(self.count + other.count, self.total + other.total, self.outer + other.outer)

    def without(self, part: Moments) -> Moments:
        """The sums of the pictures that are not in `part`, whose pictures are all among these."""
        self._check(part)
        if part.count > self.count:
            raise InputError(f"{part.count} pictures cannot be taken out of {self.count}")
        return Moments(self.count - part.count, self.total - part.total, self.outer - part.outer)

    def _check(self, other: Moments) -> None:
        if other.total.shape != self.total.shape:
            raise InputError(f"moments of {len(other.total)} numbers, where the others have {len(self.total)}")

    @property
    def mean(self) -> Doubles:
        """[D]."""
        if not self.count:
            raise InputError("no pictures: they have no mean")
        return self.total / self.count

    @property
    def covariance(self) -> Doubles:
        """[D, D], divided by N - 1 as in every implementation of FID."""
        if self.count < 2:
            raise InputError(f"a covariance needs two pictures or more: there is {self.count}")
        return (self.outer - np.outer(self.total, self.total) / self.count) / (self.count - 1)

    def statistics(self) -> Statistics:
        """Mean and covariance with the count."""
        return Statistics(self.mean, self.covariance, self.count)


@dataclass(frozen=True)
class Statistics:
    """What is known of a set of pictures: enough for a Frechet distance, and more where a file says more.

    Attributes:
        mu: mean, [D].
        sigma: covariance, [D, D].
        count: pictures, where it is known. A file of pytorch-fid does not say it.
        features: float32 [N, D], where they were kept: KID, precision and recall need them.
        about: what made them, in words: the features' network, its digest, the data.
    """

    mu: Doubles
    sigma: Doubles
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
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise GalipError(f"{path}: an .npy array, not reference statistics: an .npz with arrays mu and sigma")
        with file:
            arrays: dict[str, NDArray[Any]] = {name: file[name] for name in _ARRAYS if name in file.files}
            held = ", ".join(file.files) or "nothing"
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise GalipError(f"{path}: cannot be read as .npz ({error}); it is damaged or of another kind") from error
    if not {"mu", "sigma"} <= arrays.keys():
        raise GalipError(f"{path}: holds {held}; reference statistics hold mu and sigma")
    try:
        return _checked(arrays, path)
    except (TypeError, ValueError) as error:
        raise GalipError(f"{path}: {error}") from error


def _checked(arrays: dict[str, NDArray[Any]], path: Path) -> Statistics:
    mu, sigma = (arrays[name].astype(np.float64) for name in ("mu", "sigma"))
    dim = len(mu) if mu.ndim == 1 else 0
    if not dim or sigma.shape != (dim, dim):
        raise GalipError(f"{path}: mu {list(mu.shape)} and sigma {list(sigma.shape)}; [D] and [D, D] are needed")
    if not (np.isfinite(mu).all() and np.isfinite(sigma).all()):
        raise GalipError(f"{path}: mu or sigma is not finite; the file was made of broken features")
    if np.abs(sigma - sigma.T).max() > 1e-3 * np.abs(sigma).max():
        raise GalipError(f"{path}: sigma is not symmetric, so it is no covariance")
    features = arrays.get("features")
    if features is not None:
        if features.ndim != 2 or features.shape[1] != dim:
            raise GalipError(f"{path}: features {list(features.shape)}; [N, {dim}] is needed")
        features = features.astype(np.float32, copy=False)
    about = json.loads(str(arrays["about"])) if "about" in arrays else {}
    count = int(arrays["count"].item()) if "count" in arrays else None
    return Statistics(mu, sigma, count, features, about)


def write_statistics(path: str | Path, statistics: Statistics) -> None:
    """Write an `.npz` that pytorch-fid reads, too: what it does not know lies in arrays of other names.

    Raises:
        InputError: the name does not end in `.npz`, which is how pytorch-fid knows such a file.
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
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with unfinished.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
