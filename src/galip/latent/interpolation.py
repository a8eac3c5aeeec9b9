"""Between images: noises on their sphere, sentence vectors on the straight line, their lengths kept in both cases.

A normal vector of many dimensions is known by its length, about sqrt(z_dim): the middle of the straight line between
two noises is shorter by a factor of 0.7, and no image was ever trained with such a one. So noise goes along the arc
(Shoemake, "Animating rotation with quaternion curves", SIGGRAPH 1985; White, "Sampling generative networks", 2016).
Sentence vectors of prompts lie in a narrow cone, where arc and line are nearly the same; theirs is the line, as the
paper's, stretched to the length that the two ends have.

Everything is computed in float64 and rounded to float32 at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from galip.errors import InputError
from galip.utils.arrays import DoubleArray, FloatArray
from galip.utils.checks import one_of

Easing = Literal["linear", "smooth", "ease-in", "ease-out"]
"""How a walk passes from one keyframe to the next: evenly, resting at both, or slower where it leaves or arrives."""

_EASINGS: dict[str, Callable[[DoubleArray], DoubleArray]] = {
    "linear": lambda t: t,
    "smooth": lambda t: t * t * (3 - 2 * t),
    "ease-in": lambda t: t * t,
    "ease-out": lambda t: t * (2 - t),
}

_STEPS, _CLOSE = 200, 1e-13  # of the spherical mean; a few dozen steps are usual
_OPPOSITE = 1e-9


def slerp(a: ArrayLike, b: ArrayLike, t: ArrayLike) -> FloatArray:
    """From `a` to `b` along the arc between them, with constant angular speed; the length changes evenly.

    Args:
        a: where it begins, [..., D].
        b: where it ends, of the same shape.
        t: 0 for `a`, 1 for `b`; a number, or an array [...] that goes with the vectors.

    Returns:
        float32 [..., D]; exactly `a` and `b` at the ends. Where one of them is 0, the direction is the other's; where
        they are opposite, so that no arc is the shortest, always the same one is taken.

    Raises:
        InputError: the shapes do not go together, or a number is not finite.
    """
    start, stop, share = _pair(a, b, t)
    (u, length_a), (v, length_b) = _polar(start), _polar(stop)
    u, v = np.where(length_a > 0, u, v), np.where(length_b > 0, v, u)
    # Not the arc cosine, which loses half of the digits of a small angle.
    angle = 2 * np.arctan2(_norm(u - v), _norm(u + v))
    aside, size = _polar(v - (u * v).sum(-1, keepdims=True) * u)
    aside = np.where(size > _OPPOSITE, aside, _perpendicular(u) * (angle > 1))
    between = np.cos(share * angle) * u + np.sin(share * angle) * aside
    return _exact(between * ((1 - share) * length_a + share * length_b), start, stop, share)


def lerp_norm(a: ArrayLike, b: ArrayLike, t: ArrayLike) -> FloatArray:
    """From `a` to `b` in the direction of the straight line between them, with a length that changes evenly.

    Args:
        a: where it begins, [..., D].
        b: where it ends, of the same shape.
        t: 0 for `a`, 1 for `b`; a number, or an array [...] that goes with the vectors.

    Returns:
        float32 [..., D]; exactly `a` and `b` at the ends.

    Raises:
        InputError: the shapes do not go together, a number is not finite, or the two cancel each other out.
    """
    start, stop, share = _pair(a, b, t)
    direction, size = _polar((1 - share) * start + share * stop)
    length = (1 - share) * _norm(start) + share * _norm(stop)
    _check_direction(size, length)
    return _exact(direction * length, start, stop, share)


def blend_noise(zs: ArrayLike, weights: ArrayLike) -> FloatArray:
    """A noise between K noises: their weighted mean on the sphere.

    It is the point from which the squares of the angles to all of them, times their weights, have the least sum (Buss
    and Fillmore, "Spherical averages", ACM TOG 2001). For two that is `slerp`; the order plays no part. Its length is
    the weighted mean of theirs.

    Args:
        zs: [K, z_dim].
        weights: [K], 0 or more; only their proportions matter.

    Returns:
        float32 [z_dim]; exactly the noise in question where only one has a weight or all are the same.

    Raises:
        InputError: the shapes do not go together, a number is not finite, a weight is negative or all are 0.
    """
    points, shares = _weighted("zs", zs, weights, dims=2)
    if (points == points[0]).all():
        return points[0].astype(np.float32)
    if len(points) == 2:
        return slerp(points[0], points[1], shares[1])
    directions, lengths = _polar(points)
    length = float(shares @ lengths[:, 0])
    directions, shares = directions[lengths[:, 0] > 0], shares[lengths[:, 0] > 0]
    if not len(directions):
        return np.zeros(points.shape[1], np.float32)
    return (_spherical_mean(directions, shares / shares.sum()) * length).astype(np.float32)


def blend_sentences(es: ArrayLike, weights: ArrayLike) -> FloatArray:
    """A sentence vector between K of them: the direction of their weighted mean, the weighted mean of their lengths.

    For two that is `lerp_norm`.

    Args:
        es: [K, cond_dim], or [K, num_stages, cond_dim], where every stage is blended by itself.
        weights: [K], 0 or more; only their proportions matter.

    Returns:
        float32, an array like one of `es`; exactly the one in question where only one has a weight or all are the
        same.

    Raises:
        InputError: as for `blend_noise`, or the vectors cancel each other out.
    """
    points, shares = _weighted("es", es, weights, dims=None)
    if (points == points[0]).all():
        return points[0].astype(np.float32)
    direction, size = _polar(np.tensordot(shares, points, 1))
    length = np.tensordot(shares, _norm(points), 1)
    _check_direction(size, length)
    return (direction * length).astype(np.float32)


def ease(easing: str, t: ArrayLike) -> DoubleArray:
    """Places on the way, as an easing moves them: t in [0, 1] to [0, 1], 0 and 1 to themselves.

    Args:
        easing: one of `Easing`.
        t: any shape.

    Raises:
        InputError: there is no such easing.
    """
    return _EASINGS[one_of("easing", easing, Easing)](np.asarray(t, np.float64))


def _pair(a: ArrayLike, b: ArrayLike, t: ArrayLike) -> tuple[DoubleArray, DoubleArray, DoubleArray]:
    start, stop, share = (np.asarray(value, np.float64) for value in (a, b, t))
    try:
        if 0 in (start.ndim, stop.ndim) or start.shape[-1] != stop.shape[-1]:
            raise ValueError
        np.broadcast_shapes(start.shape[:-1], stop.shape[:-1], share.shape)
    except ValueError:
        raise InputError(
            f"vectors of shape {list(start.shape)} and {list(stop.shape)} and t of shape {list(share.shape)} do not go "
            "together: give [..., D] twice, and a number or [...]"
        ) from None
    if not all(np.isfinite(value).all() for value in (start, stop, share)):
        raise InputError("vectors and t must be finite numbers")
    return start, stop, share[..., None]


def _weighted(name: str, values: ArrayLike, weights: ArrayLike, dims: int | None) -> tuple[DoubleArray, DoubleArray]:
    """Points and their shares, without those of no weight; the shares have the sum 1."""
    points, shares = np.asarray(values, np.float64), np.asarray(weights, np.float64)
    if points.ndim < 2 or (dims and points.ndim != dims) or shares.shape != points.shape[:1]:
        raise InputError(
            f"{name} has shape {list(points.shape)} and weights {list(shares.shape)}: give K vectors and K weights"
        )
    if not np.isfinite(points).all() or not np.isfinite(shares).all():
        raise InputError(f"{name} and weights must be finite numbers")
    if (shares < 0).any() or not shares.any():
        raise InputError(f"weights are {_shown(shares)}: give 0 or more, and more than 0 for at least one")
    shares = shares / shares.max()  # so that the sum is finite
    return points[shares > 0], shares[shares > 0] / shares.sum()


def _spherical_mean(directions: DoubleArray, shares: DoubleArray) -> DoubleArray:
    """The point of the sphere to which tangents of the arcs to K unit vectors [K, D] have the weighted sum 0."""
    mean, size = _polar(shares @ directions)
    if size[0] < _OPPOSITE:
        mean = directions[int(np.argmax(shares))]
    for _ in range(_STEPS):
        aside, _sizes = _polar(directions - (directions @ mean)[:, None] * mean)
        angles = 2 * np.arctan2(_norm(directions - mean), _norm(directions + mean))
        step, length = _polar(shares @ (angles * aside))
        mean = np.cos(length) * mean + np.sin(length) * step
        mean = mean / _norm(mean)
        if length[0] < _CLOSE:
            break
    return mean


def _polar(vectors: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
    """Unit vectors [..., D] and lengths [..., 1]; a vector of length 0 stays 0."""
    length = _norm(vectors)
    return vectors / np.where(length > 0, length, 1.0), length


def _norm(vectors: DoubleArray) -> DoubleArray:
    return np.asarray(np.linalg.norm(vectors, axis=-1, keepdims=True))


def _perpendicular(u: DoubleArray) -> DoubleArray:
    """Some unit vector at right angles to unit vectors `u` [..., D]: always the same one."""
    axis = np.eye(u.shape[-1])[np.abs(u).argmin(-1)]
    return _polar(axis - (axis * u).sum(-1, keepdims=True) * u)[0]


def _exact(between: DoubleArray, start: DoubleArray, stop: DoubleArray, share: DoubleArray) -> FloatArray:
    """The ends themselves where t is 0 or 1, free of rounding."""
    return np.where(share == 0, start, np.where(share == 1, stop, between)).astype(np.float32)


def _check_direction(size: DoubleArray, length: DoubleArray) -> None:
    if (size < _OPPOSITE * np.abs(length)).any():
        raise InputError("the vectors are opposite and cancel each other out, so that no direction is left")


def _shown(values: Sequence[float] | DoubleArray) -> str:
    return "[" + ", ".join(f"{value:g}" for value in values) + "]"
