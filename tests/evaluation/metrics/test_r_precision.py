"""R-precision: exact, blind to equal captions, and hard on what cannot tell captions apart."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from galip.errors import GalipError, InputError
from galip.evaluation.metrics import r_precision as metric_r_precision
from galip.evaluation.metrics.r_precision import nearer_captions, r_precision, right_caption_chances


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def names(count: int) -> list[str]:
    return [f"caption {number}" for number in range(count)]


def test_the_chance_is_that_of_every_choice_of_captions() -> None:
    images, texts = noise(8, 3), noise(8, 3, seed=1) + 0.5 * noise(8, 3)
    unit = [vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (images, texts)]
    nearness = unit[0] @ unit[1].T
    for among in (2, 3, 8):
        expected = []
        for image in range(8):
            choices = list(combinations([other for other in range(8) if other != image], among - 1))
            won = [all(nearness[image, image] > nearness[image, other] for other in choice) for choice in choices]
            expected.append(np.mean(won))
        chances = right_caption_chances(images, texts, names(8), among)
        assert chances == pytest.approx(expected, abs=1e-9)
    assert np.array_equal(right_caption_chances(images, texts, names(8), 100), chances)


def test_the_chance_is_what_drawing_captions_at_random_gives() -> None:
    texts = noise(400, 16)
    images = texts + noise(400, 16, seed=1)
    exact = r_precision(images, texts, names(400), 100)
    nearer, rng = nearer_captions(images, texts, names(400)), np.random.default_rng(0)
    generated = [np.mean([rng.hypergeometric(n, 399 - n, 99, size=500) == 0 for n in nearer])]
    assert 0.2 < exact.value < 0.95
    assert np.mean(generated) == pytest.approx(exact.value, abs=0.01)
    assert exact.low < exact.value < exact.high


def test_equal_captions_are_one_caption() -> None:
    images, texts = noise(6, 4), noise(6, 4, seed=1)
    once = right_caption_chances(images, texts, names(6), 3)
    twice = right_caption_chances(np.repeat(images, 2, 0), np.repeat(texts, 2, 0), list(np.repeat(names(6), 2)), 3)
    assert np.array_equal(twice, np.repeat(once, 2))


def test_tiles_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    images, texts = noise(1100, 8), noise(1100, 8, seed=1)  # two tiles of images
    expected = nearer_captions(images, texts, names(1100))
    monkeypatch.setattr(metric_r_precision, "COLUMNS", 70)
    assert np.array_equal(nearer_captions(images, texts, names(1100)), expected)
    similarity = (images / np.linalg.norm(images, axis=1, keepdims=True)) @ (
        texts / np.linalg.norm(texts, axis=1, keepdims=True)
    ).T
    plain = (similarity > np.diagonal(similarity)[:, None]).sum(1)
    assert (plain != expected).sum() <= 2  # float32 orders a few otherwise


def test_a_model_that_heeds_no_caption_gets_a_blind_guess() -> None:
    texts = noise(50, 8)
    same = np.repeat(noise(1, 8, seed=1), 50, 0)
    assert r_precision(same, texts, names(50), 10).value == pytest.approx(1 / 10)


def test_captions_that_the_network_cannot_tell_apart_are_no_success() -> None:
    said = np.repeat(noise(1, 8), 50, 0)
    assert r_precision(noise(50, 8, seed=1), said, names(50), 10).value == 0


def test_what_is_refused() -> None:
    images, texts = noise(5, 4), noise(5, 4, seed=1)
    with pytest.raises(InputError, match="all captions are the same"):
        r_precision(images, texts, ["a"] * 5)
    with pytest.raises(InputError, match="the nearest of 1 captions is no choice"):
        r_precision(images, texts, names(5), 1)
    with pytest.raises(InputError, match="5 images, 5 caption vectors, 4 captions"):
        r_precision(images, texts, names(4))
    images[2] = 0
    with pytest.raises(GalipError, match="images: a vector of length 0"):
        r_precision(images, texts, names(5))
    images[2] = np.nan
    with pytest.raises(GalipError, match="image 2 are not finite"):
        r_precision(images, texts, names(5))
