"""Between two points and between many: ends exact, lengths kept, even steps, and blends that agree with the pairs."""

from __future__ import annotations

from itertools import pairwise, permutations

import numpy as np
import pytest

from galip.errors import InputError
from galip.generation.noise import noise
from galip.latent.interpolation import blend_noise, blend_sentences, ease, lerp_norm, slerp

A, B, C, D = noise([1, 2, 3, 4], 100)
TIMES = np.linspace(0, 1, 21)


def angle(a: np.ndarray, b: np.ndarray) -> float:
    a, b = (np.asarray(v, np.float64) / np.linalg.norm(np.asarray(v, np.float64)) for v in (a, b))
    return float(2 * np.arctan2(np.linalg.norm(a - b), np.linalg.norm(a + b)))


@pytest.mark.parametrize("between", [slerp, lerp_norm])
def test_the_ends_are_exact(between) -> None:
    assert (between(A, B, 0) == A).all()
    assert (between(A, B, 1) == B).all()
    assert between(A, B, 0.3).dtype == np.float32
    assert (between(A, A, 0.3) == A).all()


def test_slerp_has_constant_angular_speed() -> None:
    way = [slerp(A, B, t) for t in TIMES]
    steps = [angle(before, after) for before, after in pairwise(way)]
    assert np.allclose(steps, angle(A, B) / 20, rtol=1e-4)


@pytest.mark.parametrize("between", [slerp, lerp_norm])
def test_the_length_changes_evenly(between) -> None:
    lengths = [np.linalg.norm(between(A, 1.5 * B, t)) for t in TIMES]
    assert np.allclose(lengths, (1 - TIMES) * np.linalg.norm(A) + TIMES * np.linalg.norm(1.5 * B), rtol=1e-6)


def test_a_sentence_goes_in_the_direction_of_the_straight_line() -> None:
    for t in TIMES:
        assert angle(lerp_norm(A, 2 * B, t), (1 - t) * A + t * 2 * B) < 1e-5
    assert angle(lerp_norm(A, B, 0.2), slerp(A, B, 0.2)) > 0.01


@pytest.mark.parametrize("between", [slerp, lerp_norm])
def test_many_vectors_and_times_at_once(between) -> None:
    a, b = np.stack([A, B, C]), np.stack([B, C, D])
    together = between(a, b, [0.1, 0.5, 1.0])
    assert together.shape == (3, 100)
    for row, (one, other, t) in enumerate([(A, B, 0.1), (B, C, 0.5), (C, D, 1.0)]):
        assert np.allclose(together[row], between(one, other, t), atol=1e-6)


def test_slerp_of_opposite_and_of_no_vectors() -> None:
    middle = slerp(A, -A, 0.5)
    assert np.isfinite(middle).all()
    assert angle(middle, A) == pytest.approx(np.pi / 2, abs=1e-5)
    assert np.linalg.norm(middle) == pytest.approx(np.linalg.norm(A), rel=1e-5)
    assert np.allclose(slerp(np.zeros(100), B, 0.25), 0.25 * B, atol=1e-6)
    assert (slerp(np.zeros(100), np.zeros(100), 0.5) == 0).all()


def test_sentences_that_cancel_each_other_out() -> None:
    with pytest.raises(InputError, match="cancel each other out"):
        lerp_norm(A, -A, 0.5)
    with pytest.raises(InputError, match="cancel each other out"):
        blend_sentences([A, -A], [1, 1])


# ---- many points


@pytest.mark.parametrize(("blend", "between"), [(blend_noise, slerp), (blend_sentences, lerp_norm)])
def test_a_blend_of_two_is_the_way_between_them(blend, between) -> None:
    for t in TIMES:
        assert np.allclose(blend([A, B], [1 - t, t]), between(A, B, t), atol=1e-6)
        assert np.allclose(blend([A, B, C], [3 * (1 - t), 3 * t, 0]), between(A, B, t), atol=1e-6)


@pytest.mark.parametrize("blend", [blend_noise, blend_sentences])
def test_one_weight_or_one_point_is_exact(blend) -> None:
    assert (blend([A, B, C], [0, 1, 0]) == B).all()
    assert (blend([A, B, C], [0, 1e-300, 0]) == B).all()
    assert (blend([A, A, A], [0.2, 0.3, 0.5]) == A).all()
    assert (blend([A], [7]) == A).all()


@pytest.mark.parametrize("blend", [blend_noise, blend_sentences])
def test_the_order_plays_no_part_and_the_length_is_kept(blend) -> None:
    points, weights = [A, 1.2 * B, 0.8 * C], [0.2, 0.5, 0.3]
    expected = blend(points, weights)
    for order in permutations(range(3)):
        assert np.allclose(blend([points[i] for i in order], [weights[i] for i in order]), expected, atol=1e-6)
    lengths = np.linalg.norm(points, axis=1)
    assert np.linalg.norm(expected) == pytest.approx(lengths @ weights, rel=1e-6)


def test_the_spherical_mean_balances_the_arcs() -> None:
    """Buss and Fillmore's condition: tangents to the points, as long as the arcs, have the weighted sum 0."""
    points, weights = np.stack([A, B, C, D]).astype(np.float64), np.array([0.1, 0.2, 0.3, 0.4])
    mean = blend_noise(points, weights).astype(np.float64)
    mean /= np.linalg.norm(mean)
    pull = np.zeros(100)
    for point, weight in zip(points, weights, strict=True):
        aside = point / np.linalg.norm(point)
        aside = aside - (aside @ mean) * mean
        pull += weight * angle(point, mean) * aside / np.linalg.norm(aside)
    assert np.linalg.norm(pull) < 1e-6


def test_a_blend_moves_little_when_a_weight_appears() -> None:
    assert np.allclose(blend_noise([A, B, C], [0.5, 0.5, 1e-7]), slerp(A, B, 0.5), atol=1e-4)


def test_stages_are_blended_by_themselves() -> None:
    mixed = np.stack([np.stack([A, B]), np.stack([C, D])])  # two points of two stages
    assert np.allclose(blend_sentences(mixed, [0.3, 0.7]), np.stack([lerp_norm(A, C, 0.7), lerp_norm(B, D, 0.7)]))
    assert np.allclose(lerp_norm(mixed[0], mixed[1], 0.7)[1], lerp_norm(B, D, 0.7))


@pytest.mark.parametrize(
    ("points", "weights", "message"),
    [
        ([A, B], [1], "give K vectors and K weights"),
        (A, [1], "give K vectors"),
        ([A, B], [0, 0], "more than 0 for at least one"),
        ([A, B], [-1, 2], "give 0 or more"),
        ([A, B], [np.nan, 1], "finite"),
        ([A, np.full(100, np.inf)], [1, 1], "finite"),
    ],
)
@pytest.mark.parametrize("blend", [blend_noise, blend_sentences])
def test_a_blend_of_nonsense(blend, points, weights, message: str) -> None:
    with pytest.raises(InputError, match=message):
        blend(points, weights)


def test_vectors_that_do_not_go_together() -> None:
    with pytest.raises(InputError, match="do not go together"):
        slerp(A, B[:50], 0.5)
    with pytest.raises(InputError, match="do not go together"):
        lerp_norm(np.stack([A, B]), np.stack([A, B]), [0.1, 0.2, 0.3])
    with pytest.raises(InputError, match="finite"):
        slerp(A, B, np.nan)


# ---- easing


@pytest.mark.parametrize("easing", ["linear", "smooth", "ease-in", "ease-out"])
def test_an_easing_keeps_the_ends_and_the_order(easing: str) -> None:
    eased = ease(easing, TIMES)
    assert (eased[0], eased[-1]) == (0, 1)
    assert (np.diff(eased) > 0).all()


def test_where_an_easing_is_slow() -> None:
    speed = {name: np.diff(ease(name, TIMES)) for name in ("smooth", "ease-in", "ease-out")}
    assert speed["smooth"][0] < 0.2 * speed["smooth"][10] > speed["smooth"][-1]
    assert speed["ease-in"][0] < 0.1 * speed["ease-in"][-1]
    assert speed["ease-out"][-1] < 0.1 * speed["ease-out"][0]
    with pytest.raises(InputError, match="easing 'bounce': use one of linear, smooth"):
        ease("bounce", 0.5)
