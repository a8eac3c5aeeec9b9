"""Reranking with tiny real pipelines: what is kept, and that it is the pipeline's own picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from generation.linear_backend import LinearBackend
from torch.nn.functional import normalize

from galip.errors import GalipError, InputError
from galip.generation.pipeline import TextToImage
from galip.latent.clip import OwnCLIP, Scorer, open_clip, scorer_for, unit_image_vectors, unit_prompt_vectors
from galip.latent.reranking import best_of, stream_best
from galip.torch_backend.pipeline import GALIPPipeline

CAPTIONS = ["a red heart", "two birds", "a sleepy cat in the rain"]


@pytest.fixture(scope="module")
def pipe() -> GALIPPipeline:
    return tiny.pipeline()


def cosines(pipe: GALIPPipeline, caption: str, seeds: range) -> list[float]:
    """The similarity of pictures drawn one by one, written out."""
    found = []
    for seed in seeds:
        picture = pipe(caption, seed=seed, output_type="pt").images * 2 - 1
        seen, said = pipe.vision.embed(picture), pipe.encode_prompt(caption)
        found.append(float((normalize(seen, dim=1) * normalize(said, dim=1)).sum()))
    return found


def test_the_nearest_of_k_is_kept_and_is_what_its_seed_draws(pipe: GALIPPipeline) -> None:
    chosen = best_of(pipe, CAPTIONS, 5, seed=3)
    assert [one.prompt for one in chosen] == CAPTIONS
    for one in chosen:
        expected = cosines(pipe, one.prompt, range(3, 8))
        assert one.all_scores == pytest.approx(expected, abs=1e-5)
        assert one.seeds == [3 + int(np.argmax(expected))]
        assert one.scores == [max(one.all_scores)]
        [image] = pipe(one.prompt, seed=one.seeds[0]).images
        assert np.abs(np.asarray(one.images[0], int) - np.asarray(image, int)).max() <= 1
    # Random weights do not all like one seed, or this would show little.
    assert len({one.seeds[0] for one in chosen}) > 1


def test_several_are_kept_best_first(pipe: GALIPPipeline) -> None:
    [one] = best_of(pipe, "a red heart", 9, keep=4, seed=0)
    expected = np.argsort(cosines(pipe, "a red heart", range(9)))[::-1][:4]
    assert one.seeds == expected.tolist()
    assert one.scores == sorted(one.all_scores, reverse=True)[:4]
    assert len(one.images) == 4


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_batches_that_cross_captions_change_nothing(pipe: GALIPPipeline, batch_size: int) -> None:
    usual = best_of(pipe, CAPTIONS, 3, keep=2, seed=1)
    for one, other in zip(best_of(pipe, CAPTIONS, 3, keep=2, seed=1, batch_size=batch_size), usual, strict=True):
        assert one.seeds == other.seeds
        assert one.scores == pytest.approx(other.scores, abs=1e-5)


def test_a_prompt_is_there_as_soon_as_its_images_are() -> None:
    backend = LinearBackend()
    results = stream_best(TextToImage(backend), CAPTIONS, [7, 1, 4], batch_size=3)
    assert backend.batches == []
    assert next(results).prompt == CAPTIONS[0]
    assert backend.batches == [3]
    assert [one.prompt for one in results] == CAPTIONS[1:]


def test_the_models_own_clip_chooses_without_torch() -> None:
    pipe = TextToImage(LinearBackend())
    [one] = best_of(pipe, "a red heart", 6, keep=2, seed=0)
    images = pipe("a red heart", 6, seed=0, output_type="np").images
    own = OwnCLIP(pipe.backend)
    scores = unit_image_vectors(own, images) @ unit_prompt_vectors(own, ["a red heart"])[0]
    assert one.all_scores == pytest.approx(scores.tolist(), abs=1e-6)
    assert one.seeds == np.argsort(-scores)[:2].tolist()


def test_any_seeds_may_be_candidates(pipe: GALIPPipeline) -> None:
    [one] = stream_best(pipe, "two birds", [900, 2, 31], keep=3)
    assert sorted(one.seeds) == [2, 31, 900]
    assert one.all_scores[0] == pytest.approx(cosines(pipe, "two birds", range(900, 901))[0], abs=1e-5)


def test_without_a_seed_a_fresh_one_is_told(pipe: GALIPPipeline) -> None:
    first, second = (best_of(pipe, "two birds", 2, keep=2)[0].seeds for _ in range(2))
    assert abs(first[0] - first[1]) == 1
    assert set(first) != set(second)


def test_another_clip_may_choose(pipe: GALIPPipeline, tmp_path: Path) -> None:
    other = tiny.save(tmp_path / "other", seed=1)
    named, opened = (best_of(pipe, CAPTIONS, 6, seed=0, clip=clip) for clip in (str(other), open_clip(other)))
    own = best_of(pipe, CAPTIONS, 6, seed=0)
    assert [one.all_scores for one in named] == [one.all_scores for one in opened]
    assert [one.all_scores for one in named] != [one.all_scores for one in own]
    one = named[0]
    images = pipe(CAPTIONS[0], 6, seed=0, output_type="np").images
    assert one.all_scores == pytest.approx(scores(OwnCLIP(tiny.pipeline(1).backend), images, CAPTIONS[0]), abs=1e-5)


def scores(clip: Scorer, images: np.ndarray, prompt: str) -> list[float]:
    return (unit_image_vectors(clip, images) @ unit_prompt_vectors(clip, [prompt])[0]).tolist()


def test_a_model_folders_clip_is_asked_as_its_generator_was_trained(tmp_path: Path) -> None:
    pipe = tiny.pipeline()
    pipe.generator.register_to_config(clip_input="released")
    pipe.save_pretrained(tmp_path / "released", graphs=False)
    images = torch.rand(2, 32, 32, 3).numpy()
    stored = open_clip(tmp_path / "released")
    seen = unit_image_vectors(stored, images)
    np.testing.assert_allclose(seen, unit_image_vectors(OwnCLIP(pipe.backend), images), atol=1e-6)
    assert np.abs(seen - unit_image_vectors(OwnCLIP(tiny.pipeline().backend), images)).max() > 1e-3


def test_who_cannot_choose_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="T5, which cannot see images: name a CLIP"):
        best_of(tiny.pipeline(text="t5"), "a cat", 2)
    with pytest.raises(GalipError, match="no CLIP could be loaded"):
        best_of(tiny.pipeline(), "a cat", 2, clip=tmp_path / "nothing")
    blind = TextToImage(LinearBackend(has_image_encoder=False))
    with pytest.raises(InputError, match="no CLIP of its own .* name a CLIP"):
        best_of(blind, "a cat", 2)


def test_where_the_engine_kept_no_image_side_the_models_folder_has_it(tmp_path: Path) -> None:
    blind = TextToImage(LinearBackend(has_image_encoder=False))
    folder = tiny.save(tmp_path / "model")
    images = tiny.pipeline()("a cat", 2, seed=0, output_type="np").images
    own = scores(OwnCLIP(tiny.pipeline().backend), images, "a cat")
    assert scores(scorer_for(blind, model=folder), images, "a cat") == pytest.approx(own, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k is 0"),
        ({"k": 2.5}, "k is 2.5"),
        ({"k": 2, "keep": 3}, "keep is 3, but only 2 images of each prompt are generated"),
        ({"k": 2, "keep": 0}, "keep is 0"),
        ({"k": 2, "seed": 2**63 - 1}, "seed 9223372036854775808"),
        ({"k": 2, "seed": -1}, "seed -1"),
        ({"k": 2, "batch_size": 0}, "batch_size is 0"),
        ({"k": 2, "truncation": float("nan")}, "truncation is nan"),
    ],
)
def test_bad_numbers_are_refused_before_anything_is_drawn(
    pipe: GALIPPipeline, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        best_of(pipe, "a cat", **options)  # type: ignore[arg-type]
