"""Walks: the keyframes are met exactly, frames are what is drawn singly, and only a batch of them is ever there."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
import tiny

from galip.errors import InputError
from galip.generation.noise import noise
from galip.latent import Keyframe, Point, walk
from galip.latent.clip import OwnCLIP
from galip.latent.keyframes import pair_up
from galip.latent.speeds import clip_features, pixels
from galip.latent.walks import Walk
from galip.torch_backend.pipeline import GALIPPipeline

STOPS = [Keyframe("a cat", 1), Keyframe("two birds", 2), Keyframe("a red heart", 3)]


@pytest.fixture(scope="module")
def pipe() -> GALIPPipeline:
    return tiny.pipeline()


def angle(a: np.ndarray, b: np.ndarray) -> float:
    a, b = (np.asarray(v, np.float64) / np.linalg.norm(np.asarray(v, np.float64)) for v in (a, b))
    return float(2 * np.arctan2(np.linalg.norm(a - b), np.linalg.norm(a + b)))


@pytest.fixture
def drawn(pipe: GALIPPipeline) -> Iterator[list[int]]:
    """How many pictures the generator draws in each of its calls."""
    calls: list[int] = []
    hook = pipe.generator.register_forward_pre_hook(lambda _module, inputs: calls.append(len(inputs[0])))
    yield calls
    hook.remove()


def check_keyframe(way: Walk, number: int, pipe: GALIPPipeline, stop: Keyframe) -> None:
    z, e = way.point(number)
    assert (z == noise([stop.seed], tiny.Z_DIM)[0]).all()
    assert (e == pipe.embed(stop.prompt)[0]).all()


def test_keyframes_are_frames(pipe: GALIPPipeline) -> None:
    way = walk(pipe, STOPS, frames=5)
    assert len(way) == 2 * 5 + 1
    for number, stop in zip((0, 5, 10), STOPS, strict=True):
        check_keyframe(way, number, pipe, stop)
    with pytest.raises(IndexError):
        way.point(11)
    with pytest.raises(IndexError):
        way.point(-1)


def test_a_loop_closes(pipe: GALIPPipeline) -> None:
    way = walk(pipe, STOPS, frames=5, loop=True)
    assert len(way) == 3 * 5
    for number, stop in zip((0, 5, 10), STOPS, strict=True):
        check_keyframe(way, number, pipe, stop)
    z = [way.point(number)[0] for number in range(10, 15)] + [way.point(0)[0]]
    steps = [angle(before, after) for before, after in pairwise(z)]
    assert np.allclose(steps, angle(z[0], z[-1]) / 5, rtol=1e-4)


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_a_frame_is_the_picture_drawn_singly(pipe: GALIPPipeline, batch_size: int) -> None:
    way = walk(pipe, STOPS, frames=4, truncation=0.7, batch_size=batch_size, output_type="np")
    frames = list(way)
    assert len(frames) == len(way) == 9
    for number, frame in enumerate(frames):
        z, e = way.point(number)
        assert np.abs(pipe.generate(z[None], e[None], truncation=0.7, output_type="np")[0] - frame).max() < 1e-5


@pytest.mark.parametrize("easing", ["linear", "smooth", "ease-in", "ease-out"])
@pytest.mark.parametrize("speed", ["even", "pixels"])
def test_a_keyframe_is_bit_for_bit_what_the_pipeline_draws(pipe: GALIPPipeline, easing: str, speed: str) -> None:
    way = walk(pipe, STOPS, frames=6, truncation=0.7, easing=easing, speed=speed, output_type="np")
    frames = list(way)
    for number, stop in zip((0, way.counts[0], 12), STOPS, strict=True):
        picture = pipe(stop.prompt, seed=stop.seed, truncation=0.7, output_type="np").images[0]
        assert (frames[number] == picture).all()


def test_style_is_kept_while_the_caption_changes_and_the_reverse(pipe: GALIPPipeline) -> None:
    way = walk(pipe, pair_up(["a cat", "two birds"], [4]), frames=6)
    zs, es = zip(*(way.point(number) for number in range(7)), strict=True)
    assert all((z == zs[0]).all() for z in zs)
    assert len({e.tobytes() for e in es}) == 7
    lengths = [np.linalg.norm(e) for e in es]
    assert np.allclose(lengths, np.linspace(lengths[0], lengths[-1], 7), rtol=1e-5)

    way = walk(pipe, pair_up(["a cat"], [4, 5]), frames=6)
    zs, es = zip(*(way.point(number) for number in range(7)), strict=True)
    assert all((e == es[0]).all() for e in es)
    assert len({z.tobytes() for z in zs}) == 7


def test_an_easing_rests_at_keyframes(pipe: GALIPPipeline) -> None:
    even, smooth = (walk(pipe, STOPS[:2], frames=10, easing=easing) for easing in ("linear", "smooth"))
    first = [angle(way.point(0)[0], way.point(1)[0]) for way in (even, smooth)]
    assert first[1] < 0.4 * first[0]
    assert np.allclose(even.point(5)[0], smooth.point(5)[0], atol=1e-6)


def test_a_mixed_keyframe_and_a_point(pipe: GALIPPipeline) -> None:
    z, e = noise([9], tiny.Z_DIM)[0], pipe.embed("kitten")[0]
    way = walk(pipe, [Keyframe("a cat", 1, fine="a red heart"), Point(z, e)], frames=2, output_type="np")
    assert way.point(1)[1].shape == (5, tiny.COND_DIM)
    assert (way.point(2)[0] == z).all()
    assert np.isfinite(np.stack(list(way))).all()


# ---- streaming


def test_frames_are_drawn_as_they_are_asked_for(pipe: GALIPPipeline, drawn: list[int]) -> None:
    way = walk(pipe, STOPS, frames=5000, batch_size=4)
    assert drawn == []
    frames = iter(way)
    next(frames)
    assert drawn == [1]
    for _ in range(5):
        next(frames)
    assert drawn == [1, 4, 4]


def test_no_more_than_a_batch_of_frames_is_alive(pipe: GALIPPipeline) -> None:
    alive: list[weakref.ref] = []
    most = 0
    for frame in walk(pipe, STOPS, frames=20, loop=True, batch_size=4):
        alive = [ref for ref in alive if ref() is not None] + [weakref.ref(frame)]
        most = max(most, len(alive))
    del frame
    gc.collect()
    assert most <= 4 + 1  # a batch and the first of the next
    assert not any(ref() is not None for ref in alive)


def test_measuring_keeps_no_pictures(pipe: GALIPPipeline) -> None:
    alive: list[weakref.ref] = []
    most = 0

    def look(pictures: np.ndarray) -> np.ndarray:
        nonlocal alive, most
        alive = [ref for ref in alive if ref() is not None] + [weakref.ref(pictures)]
        most = max(most, len(alive))
        return pixels(pictures)

    walk(pipe, STOPS, speed=look, batch_size=4)
    assert most <= 2


# ---- constant perceptual speed


def unevenness(frames: list[np.ndarray], look) -> float:
    seen = np.asarray(look(np.stack(frames)), np.float64)
    steps = np.linalg.norm(np.diff(seen, axis=0), axis=1)
    return float(steps.std() / steps.mean())


@pytest.mark.parametrize("speed", ["pixels", "clip"])
def test_a_measured_speed_is_constant_to_the_eye_that_measured(pipe: GALIPPipeline, speed: str) -> None:
    look = pixels if speed == "pixels" else clip_features(OwnCLIP(pipe.backend))
    stops = [Keyframe("a cat", 1), Keyframe("a cat", 2), Keyframe("two birds", 2)]  # the legs differ in length
    even = list(walk(pipe, stops, frames=30, output_type="np"))
    way = walk(pipe, stops, frames=30, speed=speed, output_type="np")
    assert len(way) == len(even)
    assert unevenness(even, look) > 0.2
    assert unevenness(list(way), look) < 0.08
    assert sum(way.counts) == 60 and way.counts[0] != way.counts[1]
    check_keyframe(way, 0, pipe, stops[0])
    check_keyframe(way, way.counts[0], pipe, stops[1])
    check_keyframe(way, 60, pipe, stops[2])


def test_measuring_tells_how_far_it_is(pipe: GALIPPipeline, drawn: list[int]) -> None:
    told: list[tuple[int, int]] = []
    walk(
        pipe,
        STOPS,
        loop=True,
        speed="pixels",
        batch_size=16,
        progress=lambda _, done, total: told.append((done, total)),
    )
    assert told[-1] == (97, 97)
    assert sum(drawn) == 97
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_where_nothing_changes_the_steps_are_even(pipe: GALIPPipeline) -> None:
    way = walk(pipe, STOPS[:2], frames=4, speed=lambda pictures: np.zeros((len(pictures), 1)))
    plain = walk(pipe, STOPS[:2], frames=4)
    for number in range(5):
        assert np.allclose(way.point(number)[0], plain.point(number)[0], atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keyframes": STOPS[:1]}, "1 keyframe is given: a walk leads from one to another"),
        ({"frames": 0}, "frames is 0"),
        ({"easing": "bounce"}, "easing 'bounce': use one of"),
        ({"speed": "warp"}, "speed 'warp': use one of even, pixels, clip"),
        ({"truncation": float("nan")}, "truncation is nan"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"output_type": "pt"}, "output_type 'pt'"),
        ({"keyframes": [Keyframe("", 1), Keyframe("a cat", 1)]}, "it is empty"),
        ({"keyframes": [Keyframe("a cat", -1), Keyframe("a cat", 1)]}, "seed -1"),
    ],
)
def test_a_mistake_is_found_before_anything_is_drawn(
    pipe: GALIPPipeline, drawn: list[int], changes: dict, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        walk(pipe, **({"keyframes": STOPS} | changes))
    assert drawn == []
