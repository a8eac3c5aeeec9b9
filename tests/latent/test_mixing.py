"""One sentence vector for each stage: the coarse stages and the fine ones really get theirs."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch

from galip.errors import InputError
from galip.generation.noise import noise
from galip.latent import mix, stages
from galip.latent.mixing import default_fine_from, mix_stages
from galip.torch_backend.pipeline import GALIPPipeline


@pytest.fixture(scope="module")
def pipe() -> GALIPPipeline:
    return tiny.pipeline()


def picture(pipe: GALIPPipeline, e: np.ndarray) -> np.ndarray:
    return pipe.generate(noise([7], tiny.Z_DIM), e[None], output_type="np")[0]


def test_the_stages_have_names(pipe: GALIPPipeline) -> None:
    assert stages(pipe) == ["bridge", "prompts", "up 1", "up 2", "up 3"]
    assert pipe.sizes.num_stages == 5
    assert default_fine_from(5) == 3  # of three up-blocks, two
    assert default_fine_from(8) == 5  # six up-blocks: three and three


def test_one_caption_for_all_stages_is_no_mixture(pipe: GALIPPipeline) -> None:
    plain = picture(pipe, pipe.embed("a cat")[0])
    for first in (None, 0, 3, 5):
        assert np.abs(picture(pipe, mix(pipe, "a cat", "a cat", first)) - plain).max() < 1e-6
    assert np.abs(picture(pipe, mix(pipe, "two birds", "a cat", 0)) - plain).max() < 1e-6
    assert np.abs(picture(pipe, mix(pipe, "a cat", "two birds", 5)) - plain).max() < 1e-6


def test_each_stage_gets_its_own_vector(pipe: GALIPPipeline) -> None:
    """The blocks' inputs, as they see them: which caption stands in the condition of each."""
    seen: dict[str, torch.Tensor] = {}
    image = pipe.generator.image_generator
    watched = {"bridge": pipe.generator.bridge_predictor, "prompts": pipe.generator.prompt_predictor}
    watched |= {f"up {n + 1}": block for n, block in enumerate(image.blocks)}
    hooks = [
        network.register_forward_pre_hook(lambda _module, inputs, name=name: seen.__setitem__(name, inputs[-1]))
        for name, network in watched.items()
    ]
    picture(pipe, mix(pipe, "a cat", "two birds", 3))
    for hook in hooks:
        hook.remove()
    coarse, fine = torch.from_numpy(pipe.embed(["a cat", "two birds"]))
    for place, name in enumerate(stages(pipe)):
        assert torch.equal(seen[name][0, tiny.Z_DIM :], coarse if place < 3 else fine), name


def test_the_later_the_split_the_nearer_to_the_coarse_caption(pipe: GALIPPipeline) -> None:
    plain = picture(pipe, pipe.embed("a cat")[0])
    change = [np.abs(picture(pipe, mix(pipe, "a cat", "two birds", first)) - plain).mean() for first in range(6)]
    assert change[5] < 1e-6
    assert change[0] > change[4] > 1e-4


def test_vectors_instead_of_captions(pipe: GALIPPipeline) -> None:
    a, b = pipe.embed(["a cat", "two birds"])
    assert np.allclose(mix(pipe, a, "two birds", 2), mix(pipe, "a cat", b, 2), atol=1e-6)
    assert (mix(pipe, a, b, 2) == np.stack([a, a, b, b, b])).all()
    assert np.allclose(mix_stages(pipe, ["a cat", b, "a cat", a, b]), np.stack([a, b, a, a, b]), atol=1e-6)


@pytest.mark.parametrize(
    ("first", "message"),
    [
        (6, "fine_from is 6: this model has the stages 0 bridge, 1 prompts, 2 up 1"),
        (-1, "fine_from"),
        (1.5, "fine_from"),
    ],
)
def test_a_split_out_of_range(pipe: GALIPPipeline, first, message: str) -> None:
    with pytest.raises(InputError, match=message):
        mix(pipe, "a cat", "two birds", first)


def test_what_cannot_be_mixed(pipe: GALIPPipeline) -> None:
    with pytest.raises(InputError, match="2 sentences are given: this model has 5 stages"):
        mix_stages(pipe, ["a cat", "two birds"])
    with pytest.raises(InputError, match=r"sentence vector 3 has shape \[3\]: \[24\] is needed"):
        mix(pipe, "a cat", np.zeros(3, np.float32))
    with pytest.raises(InputError, match="it is empty"):
        mix(pipe, "a cat", " ")
