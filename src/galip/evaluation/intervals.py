"""How sure a number is: bootstrap over images, and a jackknife for what is no mean over images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from galip.errors import GalipError, InputError
from galip.utils.arrays import DoubleArray

RESAMPLES = 2000
BOOTSTRAP = "bootstrap over images, 95 %"
_AT_ONCE = 1 << 21


@dataclass(frozen=True)
class Estimate:
    """A number with the interval that a repetition with other images would be expected in.

    Attributes:
        value: the number.
        low, high: ends of the 95 % interval; None where the images do not tell it.
        how: how the interval was made, in words; empty where there is none.
    """

    value: float
    low: float | None = None
    high: float | None = None
    how: str = ""


def bootstrap_mean(values: ArrayLike) -> Estimate:
    """The mean of one value an image, [N], with a percentile bootstrap over the images (2000 samples, fixed seed).

    Values that hang together (several images of one caption) must be resampled together: give the ratio of sum and
    number of each such group to `bootstrap_ratio`.

    Raises:
        InputError: there is no value, or the shape is another.
        GalipError: a value is not finite.
    """
    return _bootstrap(_columns(values))


def bootstrap_ratio(over: ArrayLike, under: ArrayLike) -> Estimate:
    """Mean of `over` by mean of `under`, each [N] of the same images, which are resampled whole.

    There is no interval where `under` is 0 for so many images that the mean of a sample is.

    Raises:
        InputError: as `bootstrap_mean`.
        GalipError: a value is not finite, or the mean to divide by is 0.
    """
    return _bootstrap(_columns(over, under))


def _columns(*values: ArrayLike) -> DoubleArray:
    arrays = [np.asarray(column, dtype=np.float64) for column in values]
    if any(array.ndim != 1 or array.shape != arrays[0].shape or not len(array) for array in arrays):
        raise InputError(
            f"values of shape {[list(array.shape) for array in arrays]}: one each of N > 0 images is needed"
        )
    columns = np.stack(arrays, axis=1)
    if not np.isfinite(columns).all():
        raise GalipError("an image's value is not finite: the network or its input is broken")
    return columns


def _bootstrap(columns: DoubleArray) -> Estimate:
    """Of [N, 1], the mean; of [N, 2], the ratio of the means."""
    import torch

    count, mean = len(columns), columns.mean(0)
    if len(mean) == 2 and mean[1] == 0:
        raise GalipError("a ratio to 0: what is divided by is 0 for all images")
    value = float(mean[0] / mean[1] if len(mean) == 2 else mean[0])
    if count < 2:
        return Estimate(value)
    # torch's generator gives the same numbers in one call and in many: memory does not grow with N times 2000.
    generator, table = torch.Generator().manual_seed(0), torch.from_numpy(columns)
    part = max(1, _AT_ONCE // count)
    means = torch.cat(
        [
            table[torch.randint(count, (min(part, RESAMPLES - start), count), generator=generator)].mean(1)
            for start in range(0, RESAMPLES, part)
        ]
    )  # [RESAMPLES, 1 or 2]
    if len(mean) == 2 and not means[:, 1].all():
        return Estimate(value)
    resampled = means[:, 0] / means[:, 1] if len(mean) == 2 else means[:, 0]
    low, high = np.quantile(resampled.numpy(), [0.025, 0.975]).tolist()
    return Estimate(value, low, high, BOOTSTRAP)


def jackknife(value: float, without: Sequence[float], least: float = -math.inf) -> Estimate:
    """Delete-a-group jackknife: the interval of a statistic that is no mean over images, such as FID.

    The images are dealt into G groups of about equal size, at random; the statistic is taken G times more, each time
    without one group. What it varies by tells its standard error, sqrt((G - 1) / G sum (t_g - mean t)^2), and the
    interval is symmetric, with Student's t for G - 1 degrees of freedom. The bias of the statistic, which grows as
    images become fewer, is common to the G values and not corrected.

    Args:
        value: the statistic of all images.
        without: the G statistics of all images but one group.
        least: what the statistic is never below; the interval ends there.

    Raises:
        InputError: fewer than 5 groups.
        GalipError: a value is not finite.
    """
    groups = len(without)
    if groups < 5:
        raise InputError(f"a jackknife over {groups} groups tells nothing; 5 or more are needed")
    values: NDArray[np.float64] = np.asarray(without, dtype=np.float64)
    if not np.isfinite(values).all() or not math.isfinite(value):
        raise GalipError("a jackknife of numbers that are not finite: the features are broken")
    error = math.sqrt((groups - 1) / groups * float(np.square(values - values.mean()).sum()))
    reach = student_quantile(groups - 1) * error
    return Estimate(value, max(value - reach, least), value + reach, f"jackknife over {groups} groups of images, 95 %")


def student_quantile(freedom: int) -> float:
    """Student's t of which 2.5 % lie above, for 4 or more degrees of freedom, right to 0.3 %.

    Cornish and Fisher's expansion around the normal distribution (Abramowitz and Stegun 1964, 26.7.5).
    """
    z, n = 1.959963984540054, float(freedom)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / n + second / n**2 + third / n**3
