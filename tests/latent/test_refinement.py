"""Refinement with a tiny real pipeline: it climbs, and stays where a normal vector may be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny
import torch
from generation.linear_backend import LinearBackend

from galip.errors import InputError
from galip.generation.noise import noise
from galip.generation.pipeline import TextToImage
from galip.latent.clip import OwnCLIP
from galip.latent.gradients import degrees_between, to_plausible_length, within_angle
from galip.latent.refinement import refine
from galip.latent.reranking import best_of
from galip.torch_backend.pipeline import GALIPPipeline

CAPTIONS = ["a red heart", "two birds", "a sleepy cat in the rain"]


@pytest.fixture(scope="module")
def pipe() -> GALIPPipeline:
    return tiny.pipeline()


def angles(a: Any, b: Any) -> Any:
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return np.degrees(np.arccos(np.clip(cosines, -1, 1)))


def test_the_score_rises_while_the_noise_stays_on_its_sphere(pipe: GALIPPipeline) -> None:
    found = refine(pipe, CAPTIONS, seed=[4, 5, 6], steps=12, angle=30)
    start = noise([4, 5, 6], tiny.Z_DIM)
    assert np.mean(np.subtract(found.scores, found.start_scores)) > 0.02
    np.testing.assert_allclose(np.linalg.norm(found.z, axis=1), np.linalg.norm(start, axis=1), rtol=1e-5)
    assert found.angles == pytest.approx(angles(found.z, start).tolist(), abs=0.1)
    assert 1 < max(found.angles) <= 30.01
    np.testing.assert_allclose(found.e, pipe.encode_prompt(CAPTIONS).numpy(), atol=1e-6)


def test_scores_are_those_of_the_pictures_before_and_after(pipe: GALIPPipeline) -> None:
    found = refine(pipe, CAPTIONS, seed=2, steps=4)
    before = [one.scores[0] for one in best_of(pipe, CAPTIONS, 1, seed=2)]
    assert found.start_scores == pytest.approx(before, abs=1e-5)
    redrawn = pipe(prompt_embeds=torch.from_numpy(found.e), latents=found.z).images
    for image, other in zip(found.images, redrawn, strict=True):
        assert np.abs(np.asarray(image, int) - np.asarray(other, int)).max() <= 1


@pytest.mark.parametrize("angle", [1.0, 89.0])
@pytest.mark.parametrize("sentence_angle", [0.0, 60.0])
def test_nothing_gets_worse_by_its_own_score(pipe: GALIPPipeline, angle: float, sentence_angle: float) -> None:
    # Steps of many degrees overshoot; what is kept is the best on the way.
    for steps in (1, 3):
        found = refine(pipe, CAPTIONS, seed=9, steps=steps, angle=angle, sentence_angle=sentence_angle)
        assert all(after >= before for after, before in zip(found.scores, found.start_scores, strict=True))


def test_the_sentence_vector_moves_only_if_it_may(pipe: GALIPPipeline) -> None:
    found = refine(pipe, CAPTIONS, seed=4, steps=10, angle=5, sentence_angle=20)
    e = pipe.encode_prompt(CAPTIONS).numpy()
    np.testing.assert_allclose(np.linalg.norm(found.e, axis=1), np.linalg.norm(e, axis=1), rtol=1e-5)
    assert 0.5 < angles(found.e, e).max() <= 20.01
    still = refine(pipe, CAPTIONS, seed=4, steps=10, angle=5)
    assert np.mean(found.scores) > np.mean(still.scores)


def test_batches_change_nothing(pipe: GALIPPipeline) -> None:
    one, other = (refine(pipe, CAPTIONS, seed=1, steps=5, batch_size=size) for size in (1, 3))
    np.testing.assert_allclose(one.z, other.z, atol=1e-3)
    assert one.scores == pytest.approx(other.scores, abs=1e-4)


def test_truncation_is_where_it_begins(pipe: GALIPPipeline) -> None:
    found = refine(pipe, CAPTIONS[0], seed=1, steps=2, truncation=0.5)
    assert np.linalg.norm(found.z) == pytest.approx(0.5 * np.linalg.norm(noise([1], tiny.Z_DIM)), rel=1e-5)
    still = refine(pipe, CAPTIONS[0], seed=1, steps=2, truncation=0.0)
    assert not still.z.any()
    assert still.scores == still.start_scores


def test_the_networks_are_left_as_they_were(pipe: GALIPPipeline) -> None:
    before = {name: value.clone() for name, value in pipe.generator.state_dict().items()}
    refine(pipe, CAPTIONS, seed=1, steps=2)
    assert all(torch.equal(value, before[name]) for name, value in pipe.generator.state_dict().items())
    assert all(parameter.grad is None for parameter in pipe.generator.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"angle": 0}, "angle is 0"),
        ({"angle": 90}, "angle is 90"),
        ({"sentence_angle": -1}, "sentence_angle is -1"),
        ({"steps": 0}, "steps is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"seed": [1, 2]}, "seed is a list of 2"),
    ],
)
def test_bad_numbers_are_refused(pipe: GALIPPipeline, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        refine(pipe, "a cat", **options)


def test_what_has_no_gradients_is_refused() -> None:
    with pytest.raises(InputError, match="engine linear only generates; .* engine='torch'"):
        refine(TextToImage(LinearBackend()), "a cat")
    with pytest.raises(InputError, match="clip the model's own has no gradients"):
        refine(tiny.pipeline(), "a cat", clip=OwnCLIP(LinearBackend()))
    with pytest.raises(InputError, match=r"torch.bfloat16.*load the model with dtype='float32'"):
        refine(tiny.pipeline().to(torch.bfloat16), "a cat")


def test_angles_and_lengths() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(50, 40), torch.randn(50, 40)
    near = within_angle(b, a, 20.0)
    torch.testing.assert_close(degrees_between(near, a), torch.full((50,), 20.0), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(near.norm(dim=1), b.norm(dim=1))
    assert torch.equal(within_angle(b, a, 179.0), b)
    # Turned in the plane of the two: what is aside of it stays aside.
    plane = torch.linalg.qr(torch.stack([a[0], b[0]], 1))[0]
    torch.testing.assert_close(plane @ (plane.T @ near[0]), near[0], rtol=1e-4, atol=1e-4)
    assert torch.equal(to_plausible_length(a), a)
    lengths = to_plausible_length(torch.cat([a * 5, a / 5])).norm(dim=1)
    assert lengths[:50].max() == pytest.approx(40**0.5 + 3 * 0.5**0.5, abs=1e-4)
    assert lengths[50:].min() == pytest.approx(40**0.5 - 3 * 0.5**0.5, abs=1e-4)
