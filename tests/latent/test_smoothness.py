"""Perceptual path length with a tiny real pipeline, and with ways whose length is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny
import torch

from galip.errors import InputError
from galip.generation.noise import noise
from galip.latent.smoothness import PathLength, path_length, squared_speed
from galip.torch_backend.pipeline import GALIPPipeline

CAPTIONS = ["a red heart", "two birds", "a sleepy cat in the rain"]


@pytest.fixture(scope="module")
def pipe() -> GALIPPipeline:
    return tiny.pipeline()


@pytest.fixture(scope="module")
def usual(pipe: GALIPPipeline) -> PathLength:
    return path_length(pipe, CAPTIONS, pairs=30)


def test_a_generator_of_one_picture_has_no_length() -> None:
    constant = tiny.pipeline()
    with torch.no_grad():
        constant.generator.image_generator.to_rgb.weight.zero_()
    for walk in ("noise", "captions"):
        found = path_length(constant, CAPTIONS, walk, pairs=4)  # type: ignore[arg-type]
        assert (found.value, found.low, found.high) == (0, 0, 0)
        assert found.ratio is found.ratio_low is found.ratio_high is None


def test_a_line_has_the_speed_of_its_direction_at_every_step() -> None:
    random = np.random.default_rng(0)
    start, direction, t = random.normal(size=(5, 7)), random.normal(size=(5, 7)), random.random((5, 1))
    for epsilon in (1e-3, 1e-1):
        speeds = squared_speed(start + t * direction, start + (t + epsilon) * direction, epsilon)
        np.testing.assert_allclose(speeds, np.square(direction).sum(1), rtol=1e-6)
        faster = squared_speed(start + 3 * t * direction, start + 3 * (t + epsilon) * direction, epsilon)
        np.testing.assert_allclose(faster, 9 * speeds, rtol=1e-6)


def test_near_the_middle_where_a_generator_is_almost_linear_it_grows_with_the_square(pipe: GALIPPipeline) -> None:
    one, two = (path_length(pipe, CAPTIONS[0], pairs=40, truncation=t, epsilon=0.1) for t in (1e-3, 2e-3))
    assert np.median(two.values / one.values) == pytest.approx(4, rel=0.1)
    assert one.ratio is not None
    # An arc between normal vectors, about a right angle apart, is pi^2 / 8 = 1.23 times its chord, squared.
    assert 1.0 < one.ratio < 1.6


def test_the_step_does_not_matter(pipe: GALIPPipeline, usual: PathLength) -> None:
    larger = path_length(pipe, CAPTIONS, pairs=30, epsilon=4e-3)
    np.testing.assert_allclose(np.median(larger.values / usual.values), 1, atol=0.05)


def test_a_way_is_measured_as_the_definition_says(pipe: GALIPPipeline, usual: PathLength) -> None:
    one, other = (noise([seed], tiny.Z_DIM)[0].astype(float) for seed in (2, 3))  # of the second way
    (u, a), (v, b) = ((end / np.linalg.norm(end), np.linalg.norm(end)) for end in (one, other))
    angle = np.arccos(u @ v)
    t = np.random.Generator(np.random.Philox(key=0)).random(30)[1] * (1 - 1e-3)
    points = [
        ((1 - s) * a + s * b) * (np.sin((1 - s) * angle) * u + np.sin(s * angle) * v) / np.sin(angle)
        for s in (t, t + 1e-3, 0, 1)
    ]
    e = pipe.encode_prompt(CAPTIONS[1]).repeat(4, 1)
    images = pipe(prompt_embeds=e, latents=np.stack(points), output_type="pt").images
    with torch.no_grad():
        seen = torch.nn.functional.normalize(pipe.vision.embed(images * 2 - 1), dim=1).double()
    assert usual.values[1] == pytest.approx(float((seen[0] - seen[1]).square().sum()) / 1e-6, rel=0.02)
    assert usual.ends[1] == pytest.approx(float((seen[2] - seen[3]).square().sum()), rel=1e-3)


def test_what_the_number_is_of_is_told(usual: PathLength) -> None:
    assert (usual.walk, usual.pairs, usual.seed, usual.epsilon) == ("noise", 30, 0, 1e-3)
    assert usual.clip == "the model's own"
    assert usual.value == pytest.approx(usual.values.mean())
    assert usual.low < usual.value < usual.high
    assert usual.ratio is not None and usual.ratio_low is not None and usual.ratio_high is not None
    assert usual.ratio_low < usual.ratio < usual.ratio_high
    assert usual.ratio == pytest.approx(usual.values.mean() / usual.ends.mean())


def test_walks_between_captions_differ_from_walks_in_noise(pipe: GALIPPipeline, usual: PathLength) -> None:
    found = path_length(pipe, CAPTIONS, "captions", pairs=12)
    assert found.value > 0
    assert found.ends.all()  # never from a caption to itself
    assert not np.allclose(found.values, usual.values[:12])


def test_everything_random_follows_from_the_seed(pipe: GALIPPipeline, usual: PathLength) -> None:
    told: list[tuple[int, int]] = []
    again = path_length(pipe, CAPTIONS, pairs=30, batch_size=4, progress=lambda _, *done: told.append(done))
    np.testing.assert_allclose(again.values, usual.values, rtol=0.05)
    np.testing.assert_allclose(again.ends, usual.ends, rtol=1e-3)
    assert told == [(number, 30) for number in range(1, 31)]
    assert not np.allclose(path_length(pipe, CAPTIONS, pairs=30, seed=1).ends, usual.ends)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"walk": "both"}, "walk 'both': use one of noise, captions"),
        ({"walk": "captions", "prompts": ["a cat", "a cat"]}, "two different ones"),
        ({"pairs": 1}, "pairs is 1"),
        ({"epsilon": 0}, "epsilon is 0"),
        ({"epsilon": 1}, "epsilon is 1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"seed": -1}, "seed -1"),
        ({"prompts": []}, "empty list"),
    ],
)
def test_bad_arguments_are_refused(pipe: GALIPPipeline, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        path_length(pipe, **({"prompts": CAPTIONS} | options))
