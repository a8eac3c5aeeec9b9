"""Caption arithmetic: the whole way is the other caption, the length is kept, pairs are averaged."""

from __future__ import annotations

import numpy as np
import pytest
import tiny

from galip.errors import InputError
from galip.latent import direction, lerp_norm, mix, shift
from galip.torch_backend.pipeline import GALIPPipeline


@pytest.fixture(scope="module")
def pipe() -> GALIPPipeline:
    return tiny.pipeline()


def test_the_whole_way_leads_to_the_other_caption(pipe: GALIPPipeline) -> None:
    a, b = pipe.embed(["a cat", "a red cat"])
    along = direction(pipe, "a cat", "a red cat")
    assert (shift(a, along, 0) == a).all()
    assert np.allclose(shift(a, along), b, atol=1e-5)
    assert np.allclose(shift(b, along, -1), a, atol=1e-5)
    for strength in (0.3, 0.7):
        assert np.allclose(shift(a, along, strength), lerp_norm(a, b, strength), atol=1e-5)


def test_another_caption_is_moved_the_same_way_and_keeps_its_length(pipe: GALIPPipeline) -> None:
    heart, a, b = pipe.embed(["a heart", "a cat", "a red cat"])
    along = direction(pipe, "a cat", "a red cat")
    for strength in (-1.0, 0.5, 2.0):
        moved = shift(heart, along, strength)
        grown = np.linalg.norm(heart) + strength * (np.linalg.norm(b) - np.linalg.norm(a))
        assert np.linalg.norm(moved) == pytest.approx(grown, rel=1e-5)
        straight = heart + strength * (b - a)
        assert np.allclose(moved / np.linalg.norm(moved), straight / np.linalg.norm(straight), atol=1e-5)


def test_several_pairs_give_their_mean(pipe: GALIPPipeline) -> None:
    along = direction(pipe, ["a cat", "a heart"], ["a red cat", "a red heart"])
    parts = [direction(pipe, "a cat", "a red cat"), direction(pipe, "a heart", "a red heart")]
    assert np.allclose(along.vector, np.mean([part.vector for part in parts], axis=0), atol=1e-6)
    assert along.growth == pytest.approx(np.mean([part.growth for part in parts]), abs=1e-6)


def test_a_mixture_is_moved_in_every_stage(pipe: GALIPPipeline) -> None:
    along = direction(pipe, "a cat", "a red cat")
    mixed = mix(pipe, "a heart", "two birds", 2)
    moved = shift(mixed, along, 0.5)
    assert moved.shape == mixed.shape
    for before, after in zip(mixed, moved, strict=True):
        assert np.allclose(after, shift(before, along, 0.5), atol=1e-6)


def test_what_leads_nowhere(pipe: GALIPPipeline) -> None:
    with pytest.raises(InputError, match="2 prompts lead to 1"):
        direction(pipe, ["a cat", "a heart"], "a red cat")
    with pytest.raises(InputError, match="are the same"):
        direction(pipe, "a cat", " a  cat ")
    along = direction(pipe, "a cat", "a red cat")
    with pytest.raises(InputError, match="strength is nan"):
        shift(pipe.embed("a cat")[0], along, float("nan"))
    with pytest.raises(InputError, match="they belong to different models"):
        shift(np.zeros(7), along)
    with pytest.raises(InputError, match="nothing of the sentence is left"):
        shift(pipe.embed("a cat")[0], along, -1e6 * np.sign(along.growth))
