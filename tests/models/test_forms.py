"""The inference form: the same function of the same weights, in fewer and larger products."""

from __future__ import annotations

import pytest
import torch
from models import tiny
from models.narrow import narrow

from galip.models import MateGenerator
from galip.models.blocks import BridgeBlock, UpBlock
from galip.models.clip import clip_block
from galip.models.generator import WholeGenerator
from galip.models.presets import PRESETS, build_generator, build_vision


def inputs(generator: MateGenerator, batch: int, per_stage: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    stages = (generator.num_stages,) if per_stage else ()
    return torch.randn(batch, generator.z_dim), torch.randn(batch, *stages, generator.cond_dim)


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    assert one.shape == other.shape
    return float((one - other).abs().max() / other.abs().max().clamp(min=1))


@torch.no_grad()
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_generates_the_same_images(name: str, batch: int) -> None:
    generator, vision = narrow(name)
    form = generator.for_inference()
    for per_stage in (False, True):
        z, e = inputs(generator, batch, per_stage)
        expected = generator(z, e, vision)
        assert expected.std() > 0.05
        image = form(z, e, vision)
        assert not torch.equal(image, expected)  # it was computed in another way
        assert difference(image, expected) <= 1e-5


@torch.no_grad()
@pytest.mark.parametrize("per_stage", [False, True])
def test_a_bridge_made_of_the_caption_too(per_stage: bool) -> None:
    generator, vision = narrow("mini-64", bridge_input="condition")
    z, e = inputs(generator, 3, per_stage)
    assert difference(generator.for_inference()(z, e, vision), generator(z, e, vision)) <= 1e-5


@pytest.mark.slow
@torch.no_grad()
def test_the_released_size_itself() -> None:
    generator, vision = build_generator("released-b32-224"), build_vision("released-b32-224")
    tiny.scatter(generator, 0.02)
    z, e = inputs(generator, 1)
    form, expected = generator.for_inference(), generator(z, e, vision)
    assert difference(form(z, e * 3, vision), expected) > 1e-3  # so that the sentence matters
    assert difference(form(z, e, vision), expected) <= 1e-5


@torch.no_grad()
def test_it_does_not_matter_how_the_generator_itself_is_computed() -> None:
    generator, vision = tiny.scatter(tiny.generator()), tiny.vision()
    z, e = inputs(generator, 2)
    expected = generator(z, e, vision)
    generator.fold()
    assert difference(generator.for_inference()(z, e, vision), expected) <= 1e-5


@torch.no_grad()
def test_bfloat16_is_as_near_as_the_plain_form() -> None:
    generator, vision = narrow("released-b32-224")
    z, e = inputs(generator, 3)
    exact = generator(z, e, vision)
    generator.to(torch.bfloat16), vision.to(torch.bfloat16)
    image, plain = generator.for_inference()(z, e, vision), generator(z, e, vision)
    assert image.dtype == torch.bfloat16
    error, of_plain = (float((x.float() - exact).abs().mean()) for x in (image, plain))
    assert error <= 1.5 * of_plain
    assert error <= 0.02 * float(exact.abs().max())


@torch.no_grad()
def test_it_shares_the_weights_and_leaves_the_generator_as_it_is() -> None:
    generator, vision = tiny.scatter(tiny.generator()), tiny.vision()
    z, e = inputs(generator, 1)
    before = generator(z, e, vision)
    form = generator.for_inference()
    assert torch.equal(generator(z, e, vision), before)
    names, others = dict(generator.named_parameters()), dict(form.named_parameters())
    assert names.keys() == others.keys()
    assert all(weight is others[name] for name, weight in names.items())
    tiny.scatter(generator)
    assert difference(form(z, e, vision), generator(z, e, vision)) <= 1e-5
    assert difference(form(z, e, vision), before) > 1e-3


@torch.no_grad()
def test_every_stage_minds_its_own_sentence() -> None:
    generator, vision = tiny.scatter(tiny.generator()), tiny.vision()
    form = generator.for_inference()
    z, e = inputs(generator, 1, per_stage=True)
    image = form(z, e, vision)
    for stage in range(generator.num_stages):
        other = e.clone()
        other[:, stage] += 1
        assert difference(form(z, other, vision), image) > 1e-4
    torch.testing.assert_close(form(z, e[:, 0], vision), form(z, e[:, :1].expand_as(e), vision))


def test_gradients_are_the_plain_forms() -> None:
    generator, vision = tiny.scatter(tiny.generator()), tiny.vision()
    z, e = inputs(generator, 2)
    found = [
        torch.autograd.grad(form(z, e, vision).square().mean(), list(generator.parameters()))
        for form in (generator, generator.for_inference())
    ]
    for plain, other in zip(*found, strict=True):
        torch.testing.assert_close(other, plain, atol=1e-5, rtol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize(
    "block", [BridgeBlock(6, 4, 7), BridgeBlock(5, 5, 7), UpBlock(6, 3, 7, 8), UpBlock(5, 5, 7, 10)]
)
def test_a_block_of_any_widths(block: BridgeBlock | UpBlock) -> None:
    tiny.scatter(block)
    channels = block.conv2.out_channels if isinstance(block, BridgeBlock) else block.conv1.in_channels
    x, cond = torch.randn(3, channels, 4, 4), torch.randn(3, 7)
    expected = block(x, cond)
    block.stacked = True
    assert difference(block(x, cond), expected) <= 1e-5


# ---- the transformer's block


@torch.no_grad()
@pytest.mark.parametrize("tower", ["vision", "text"])
def test_the_block_is_transformers_own(tower: str) -> None:
    model = tiny.clip_vision_model().vision_model if tower == "vision" else tiny.clip_text_model(14, 15).text_model
    layer = model.encoder.layers[0]
    hidden = torch.randn(2, 5, 32)
    mask = None if tower == "vision" else torch.full((5, 5), -torch.inf).triu(1)
    expected = layer(hidden, mask if mask is None else mask[None, None])
    found = clip_block(layer, hidden, mask=mask)
    assert torch.equal(found, expected[0] if isinstance(expected, tuple) else expected)


@torch.no_grad()
def test_a_prompt_is_a_token_that_is_appended_and_dropped() -> None:
    layer = tiny.clip_vision_model().vision_model.encoder.layers[0]
    hidden, prompt = torch.randn(2, 5, 32), torch.randn(2, 1, 32)
    appended = clip_block(layer, torch.cat([hidden, prompt], dim=1))[:, :-1]
    torch.testing.assert_close(clip_block(layer, hidden, prompt), appended)
    assert difference(clip_block(layer, hidden), appended) > 1e-3


@torch.no_grad()
def test_compiled_whole_and_without_graph_breaks() -> None:
    generator = tiny.scatter(tiny.generator(bridge_blocks=1, block_sizes=(8,), block_channels=(8,)))
    whole = WholeGenerator(generator.for_inference(), tiny.vision())
    z, e = inputs(generator, 2)
    compiled = torch.compile(whole, backend="aot_eager", fullgraph=True)
    assert difference(compiled(z, e), generator(z, e, whole.vision)) <= 1e-5
