"""Folding: the same function as the generator's, of the same weights."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from models import tiny
from models.narrow import narrow

from galip.export.folded_vision import fold_vision
from galip.export.folding import fold
from galip.models import FrozenCLIPVision, MateGenerator
from galip.models.presets import PRESETS, build_generator, build_vision


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def inputs(generator: MateGenerator, batch: int, per_stage: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    stages = (generator.num_stages,) if per_stage else ()
    return torch.randn(batch, generator.z_dim), torch.randn(batch, *stages, generator.cond_dim)


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    assert one.shape == other.shape
    return float((one - other).abs().max() / other.abs().max().clamp(min=1))


@torch.no_grad()
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_draws_the_same_pictures(name: str, batch: int) -> None:
    generator, vision = narrow(name)
    folded, seen = fold(generator), fold_vision(vision)
    for per_stage in (False, True):
        z, e = inputs(generator, batch, per_stage)
        expected = generator(z, e, vision)
        assert expected.std() > 0.05
        assert difference(folded(z, e, vision), expected) <= 1e-5
        assert difference(folded(z, e, seen), expected) <= 1e-5


@torch.no_grad()
@pytest.mark.parametrize("per_stage", [False, True])
def test_a_bridge_made_of_the_caption_too(per_stage: bool) -> None:
    generator, vision = narrow("mini-64", bridge_input="condition")
    z, e = inputs(generator, 3, per_stage)
    assert difference(fold(generator)(z, e, vision), generator(z, e, vision)) <= 1e-5


@pytest.mark.slow
@torch.no_grad()
def test_the_released_size_itself() -> None:
    generator, vision = build_generator("released-b32-224"), build_vision("released-b32-224")
    tiny.scatter(generator, 0.02)
    z, e = inputs(generator, 1)
    expected = generator(z, e, vision)
    drawn = fold(generator)(z, e * 3, fold_vision(vision))
    assert difference(drawn, expected) > 1e-3  # so that the sentence matters
    assert difference(fold(generator)(z, e, fold_vision(vision)), expected) <= 1e-5


@torch.no_grad()
def test_it_does_not_matter_how_the_generator_itself_is_computed() -> None:
    generator, vision = tiny.scatter(tiny.generator()), tiny.vision()
    z, e = inputs(generator, 2)
    expected = generator(z, e, vision)
    generator.fold()
    assert difference(fold(generator)(z, e, vision), expected) <= 1e-5


@torch.no_grad()
def test_bfloat16_is_as_near_as_the_generators_own() -> None:
    generator, vision = narrow("released-b32-224")
    z, e = inputs(generator, 3)
    exact = generator(z, e, vision)
    folded, seen = fold(generator).to(torch.bfloat16), fold_vision(vision).to(torch.bfloat16)
    drawn = folded(z, e, seen)
    assert drawn.dtype == torch.bfloat16
    plain = generator.to(torch.bfloat16)(z, e, vision_in_bfloat16(vision))
    error, of_plain = (float((x.float() - exact).abs().mean()) for x in (drawn, plain))
    assert error <= 1.5 * of_plain
    assert error <= 0.02 * float(exact.abs().max())


def vision_in_bfloat16(vision: FrozenCLIPVision) -> FrozenCLIPVision:
    return vision.to(torch.bfloat16)


@torch.no_grad()
def test_folding_leaves_the_generator_alone_and_keeps_its_own_weights() -> None:
    generator, vision = tiny.scatter(tiny.generator()), tiny.vision()
    before = {name: weight.clone() for name, weight in generator.state_dict().items()}
    z, e = inputs(generator, 1)
    folded = fold(generator)
    expected = folded(z, e, vision)
    folded.to(torch.bfloat16)
    assert all(torch.equal(weight, before[name]) for name, weight in generator.state_dict().items())
    folded = fold(generator)
    tiny.scatter(generator)
    torch.testing.assert_close(folded(z, e, vision), expected)
    assert not list(folded.parameters())


@torch.no_grad()
def test_every_stage_minds_its_own_sentence() -> None:
    generator, vision = tiny.scatter(tiny.generator()), tiny.vision()
    folded = fold(generator)
    z, e = inputs(generator, 1, per_stage=True)
    drawn = folded(z, e, vision)
    for stage in range(generator.num_stages):
        other = e.clone()
        other[:, stage] += 1
        assert difference(folded(z, other, vision), drawn) > 1e-4
    torch.testing.assert_close(folded(z, e[:, 0], vision), folded(z, e[:, :1].expand_as(e), vision))
