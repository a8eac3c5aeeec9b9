"""The noise is a fixed function of the seed that anybody can repeat."""

from __future__ import annotations

import math

import numpy as np
import pytest

from galip.errors import GalipError, InputError
from galip.generation.noise import noise

# The first four words and the bits of the first four float32 numbers, and of number 99.
VECTORS = {
    0: (
        [0x02F4BA6408E4D89B, 0x3DD62B0B9CA8C5B2, 0x1C8667A55D902E79, 0x907D7A052FD5B4DC],
        [0x3E2256B2, 0x403EE77F, 0xBFF67D13, 0xBF532E52],
        0xBFABE183,
    ),
    1: (
        [0x4DB6A27B756282DF, 0xD944FA03BABE0E2F, 0x27F872E577060D32, 0x07F697696A0482A2],
        [0x3F65BEEF, 0xBFA0D64B, 0x3FF1FBEC, 0x3EBFA083],
        0xBE828495,
    ),
    2**63 - 1: (
        [0xED01AB40F6E3C032, 0x2E7B634ED9DE606D, 0x9E879E5FC056D40D, 0x7C88D0264F51764D],
        [0x3E279998, 0x3EB6BE14, 0xBF79B8C4, 0x3DAA566D],
        0x3F626673,
    ),
}
MASK = 2**64 - 1


def philox_block(counter: int, seed: int) -> list[int]:
    """Philox4x64-10 of (counter, 0, 0, 0) under (seed, 0), from the paper: ten rounds, the key bumped after each."""
    a, b, c, d = counter, 0, 0, 0
    key0, key1 = seed, 0
    for _ in range(10):
        product0 = 0xD2E7470EE14C6C93 * a
        product1 = 0xCA5A826395121157 * c
        a, b, c, d = (product1 >> 64) ^ b ^ key0, product1 & MASK, (product0 >> 64) ^ d ^ key1, product0 & MASK
        key0, key1 = (key0 + 0x9E3779B97F4A7C15) & MASK, (key1 + 0xBB67AE8584CAA73B) & MASK
    return [a, b, c, d]


def independent_noise(seed: int, dim: int) -> list[float]:
    words: list[int] = []
    while len(words) < dim + 1:
        words += philox_block(len(words) // 4 + 1, seed)
    numbers = []
    for place in range(dim):
        pair = place // 2
        u1 = ((words[2 * pair] // 2048) + 1) / 2**53
        u2 = (words[2 * pair + 1] // 2048) / 2**53
        turn = math.sin if place % 2 else math.cos
        numbers.append(math.sqrt(-2 * math.log(u1)) * turn(2 * math.pi * u2))
    return numbers


@pytest.mark.parametrize("seed", VECTORS)
def test_fixed_vectors(seed: int) -> None:
    words, first, last = VECTORS[seed]
    assert philox_block(1, seed) == words
    assert np.random.Philox(key=seed).random_raw(4).tolist() == words
    z = noise([seed], 100)
    assert z.dtype == np.float32 and z.shape == (1, 100)
    np.testing.assert_array_max_ulp(z[0, :4], np.array(first, np.uint32).view(np.float32), maxulp=1)
    np.testing.assert_array_max_ulp(z[0, 99:], np.array([last], np.uint32).view(np.float32), maxulp=1)


@pytest.mark.parametrize("seed", [0, 7, 12345, 2**32, 2**63 - 1])
def test_equals_an_independent_implementation(seed: int) -> None:
    expected = np.array(independent_noise(seed, 101), np.float32)
    np.testing.assert_array_max_ulp(noise([seed], 101)[0], expected, maxulp=1)


def test_a_row_depends_on_its_seed_alone() -> None:
    seeds = [5, 3, 2**40, 0, 11, 3, 8]
    batch = noise(seeds, 100)
    for row, seed in zip(batch, seeds, strict=True):
        assert row.tobytes() == noise([seed], 100)[0].tobytes()
    assert noise(reversed(seeds), 100)[::-1].tobytes() == batch.tobytes()


def test_a_shorter_row_is_the_beginning_of_a_longer_one() -> None:
    longest = noise([9], 100)
    for dim in (1, 2, 3, 50, 99):
        assert noise([9], dim).tobytes() == longest[:, :dim].tobytes()


def test_numbers_are_standard_normal() -> None:
    z = noise(range(2000), 100).astype(np.float64)
    count = z.size
    assert abs(z.mean()) < 5 / math.sqrt(count)
    assert abs(z.var() - 1) < 5 * math.sqrt(2 / count)
    assert abs((z**4).mean() - 3) < 5 * math.sqrt(96 / count)
    assert abs((np.abs(z) < 1).mean() - 0.682689) < 5 * math.sqrt(0.2166 / count)
    # Neither places in a row nor rows of neighbouring seeds go together.
    assert np.abs(np.corrcoef(z.T) - np.eye(100)).max() < 6 / math.sqrt(2000)
    assert abs((z[1:] * z[:-1]).mean()) < 5 / math.sqrt(count)


def test_no_seeds_no_rows() -> None:
    assert noise([], 100).shape == (0, 100)


def test_numpy_integers_are_seeds() -> None:
    assert noise(np.array([3], np.int32), 4).tobytes() == noise([3], 4).tobytes()


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, "7", None, True])
def test_a_bad_seed_is_named(seed: object) -> None:
    with pytest.raises(InputError, match=f"seed .?{seed}") as caught:
        noise([seed], 4)  # type: ignore[list-item]
    assert isinstance(caught.value, GalipError) and isinstance(caught.value, ValueError)


def test_a_row_has_at_least_one_number() -> None:
    with pytest.raises(InputError, match="dim 0"):
        noise([1], 0)
