"""The Frechet distance between two sets of images: FID in Inception's features, FD in any others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from galip.errors import GalipError, InputError
from galip.evaluation.intervals import Estimate, jackknife
from galip.evaluation.statistics import Moments, Statistics, is_covariance
from galip.utils.arrays import DoubleArray


class FrechetDistance:
    """Squared Frechet distances of Gaussians to one, whose root is taken once (Heusel et al. 2017).

    |m1 - m2|^2 + tr C1 + tr C2 - 2 tr (C1 C2)^1/2. The last trace is the sum of the singular values of R1' R2, where
    C = R R' by the eigenvalues of the symmetric C: no root of a matrix that is not symmetric, so nothing complex,
    nothing that fails for singular covariances (fewer images than numbers), and errors of the size of float64's
    rounding instead of its root. Nothing is added to the diagonal.

    Args:
        mu: mean, [D].
        sigma: covariance, [D, D].

    Raises:
        InputError: shapes do not fit.
        GalipError: a number is not finite, or `sigma` is no covariance.
    """

    def __init__(self, mu: DoubleArray, sigma: DoubleArray) -> None:
        self.mu, self.trace, self.root = _gaussian(mu, sigma)

    def __call__(self, mu: DoubleArray, sigma: DoubleArray) -> float:
        """The distance of the Gaussian (`mu`, `sigma`); arguments and errors as above."""
        mean, trace, root = _gaussian(mu, sigma)
        if mean.shape != self.mu.shape:
            raise InputError(f"features of {len(mean)} and of {len(self.mu)} numbers: of two different networks")
        cross = np.linalg.svd(self.root.T @ root, compute_uv=False).sum() if root.size and self.root.size else 0.0
        distance = np.square(mean - self.mu).sum() + trace + self.trace - 2 * cross
        return max(float(distance), 0.0)


def _gaussian(mu: DoubleArray, sigma: DoubleArray) -> tuple[DoubleArray, float, DoubleArray]:
    """Mean, trace of the covariance, and R [D, rank] with R R' = the covariance."""
    mu, sigma = np.asarray(mu, dtype=np.float64), np.asarray(sigma, dtype=np.float64)
    if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)):
        raise InputError(f"mean {list(mu.shape)} and covariance {list(sigma.shape)}: [D] and [D, D] are needed")
    if not (np.isfinite(mu).all() and np.isfinite(sigma).all()):
        raise GalipError("a mean or covariance is not finite: the features are broken")
    values, vectors = np.linalg.eigh((sigma + sigma.T) / 2)
    # What eigh returns for an eigenvalue 0 is rounding, its own and, from sums of squares, that of the mean's length.
    # Its root would be a million times larger.
    length = values[-1] + np.square(mu).sum()
    if not is_covariance(values, mu):
        raise GalipError("a covariance has negative eigenvalues: these are not the statistics of any images")
    real = values > len(mu) * np.finfo(np.float64).eps * length
    return mu, float(sigma.trace()), vectors[:, real] * np.sqrt(values[real])


def frechet_distance(mu1: DoubleArray, sigma1: DoubleArray, mu2: DoubleArray, sigma2: DoubleArray) -> float:
    """The squared Frechet distance of two Gaussians; arguments, errors and how as for `FrechetDistance`."""
    return FrechetDistance(mu1, sigma1)(mu2, sigma2)


def frechet_from(generated: Moments | Statistics, reference: Moments | Statistics) -> float:
    """The distance of two sets of images, from their sums or their statistics."""
    generated, reference = _statistics(generated), _statistics(reference)
    return frechet_distance(generated.mu, generated.sigma, reference.mu, reference.sigma)


def frechet_interval(groups: Sequence[Moments], reference: Moments | Statistics) -> Estimate:
    """The distance of generated images, with a jackknife over them; the reference is taken as it is.

    Args:
        groups: sums of the generated images, dealt at random into groups of about equal size, 5 or more.
        reference: what they are compared with.
    """
    if not groups:
        raise InputError("no groups of images")
    whole = groups[0]
    for group in groups[1:]:
        whole = whole.merge(group)
    reference = _statistics(reference)
    distance_of = FrechetDistance(reference.mu, reference.sigma)
    rest = (whole.without(group) for group in groups)
    without = [distance_of(part.mean, part.covariance) for part in rest]
    return jackknife(distance_of(whole.mean, whole.covariance), without, least=0.0)


def _statistics(of: Moments | Statistics) -> Statistics:
    return of.statistics() if isinstance(of, Moments) else of
