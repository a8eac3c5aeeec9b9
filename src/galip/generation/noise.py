"""The noise z of an image, made from the image's seed alone.

An image must not change with the batch it is generated in, the order, the device, or the engine. So its noise comes
from a counter-based generator that is easy to repeat anywhere, in a browser too:

1. **Words.** Philox4x64-10 (Salmon et al., SC 2011) with key `(seed, 0)`. Block b = 1, 2, 3, ... encrypts the counter
   `(b, 0, 0, 0)` and gives four 64-bit words; written one after the other they are w[0], w[1], w[2], ... This is what
   `numpy.random.Philox(key=seed).random_raw()` returns.
2. **Uniform numbers.** The top 53 bits of a word, in float64. Pair k takes two words:

        u1 = ((w[2k] >> 11) + 1) * 2**-53        in (0, 1], so that its logarithm is finite
        u2 =  (w[2k + 1] >> 11)  * 2**-53        in [0, 1)

3. **Normal numbers.** Box-Muller in float64, the cosine first, then rounding to float32:

        z[2k]     = sqrt(-2 ln u1) * cos(2 pi u2)
        z[2k + 1] = sqrt(-2 ln u1) * sin(2 pi u2)

An odd length drops the last sine; a shorter vector is the beginning of a longer one. Two mathematical libraries may
differ in the last bit of a float64 logarithm or cosine; rounding to float32 hides that but for about one number in
10^8.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from galip.errors import InputError

_MAX_SHOWN_DIGITS = 50

SEED_LIMIT = 2**63
"""Seeds are 0 <= seed < SEED_LIMIT: any of them fits a signed 64-bit integer."""


def check_seed(seed: object) -> int:
    """Return `seed` as a Python int.

    Raises:
        InputError: if it is not an integer in [0, 2**63).
    """
    try:
        if isinstance(seed, bool | np.bool_):
            raise TypeError
        value = operator.index(seed)  # type: ignore[arg-type]
    except TypeError:
        raise InputError(f"seed {seed!r}: a seed is an integer, not {type(seed).__name__}") from None
    if not 0 <= value < SEED_LIMIT:
        raise InputError(f"seed {shown_number(value)}: a seed must lie between 0 and 2**63 - 1")
    return int(value)


def shown_number(value: int) -> str:
    """A whole number for a message. Python refuses to write one of thousands of digits."""
    digits = int(value.bit_length() * math.log10(2))
    return str(value) if digits < _MAX_SHOWN_DIGITS else f"of about {digits:,} digits"


def noise(seeds: Iterable[int], dim: int) -> NDArray[np.float32]:
    """Standard normal noise, one row for each seed.

    Args:
        seeds: N integers in [0, 2**63). The same seed always gives the same row.
        dim: length of a row, at least 1 (100 in the paper).

    Returns:
        float32 [N, dim].

    Raises:
        InputError: if a seed is no integer or out of range, or `dim` is less than 1.
    """
    if dim < 1:
        raise InputError(f"dim {dim}: a noise vector has at least one number")
    rows = [_row(check_seed(seed), dim) for seed in seeds]
    return np.array(rows, dtype=np.float32).reshape(len(rows), dim)


def _row(seed: int, dim: int) -> list[float]:
    # Scalars on purpose: vectorised logarithms may round differently with an element's place in the array.
    count = 2 * ((dim + 1) // 2)
    words = np.random.Philox(key=seed).random_raw(count).tolist()
    row: list[float] = []
    for word1, word2 in zip(words[::2], words[1::2], strict=True):
        u1 = ((word1 >> 11) + 1) * 2.0**-53
        u2 = (word2 >> 11) * 2.0**-53
        radius = math.sqrt(-2.0 * math.log(u1))
        angle = 2.0 * math.pi * u2
        row += [radius * math.cos(angle), radius * math.sin(angle)]
    return row[:dim]
