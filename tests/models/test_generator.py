import pytest
import torch
import torch.nn.functional as F
from models import tiny
from torch import nn
from torch.testing import assert_close

from galip.models import MateGenerator, PromptPredictor, UpBlock
from galip.models.blocks import BridgeBlock
from galip.models.generator import WholeGenerator


@pytest.fixture
def vision():
    return tiny.vision()


@pytest.fixture
def generator():
    return tiny.scatter(tiny.generator())


def test_default_configuration_is_the_papers_size():
    with torch.device("meta"):
        generator = MateGenerator()
    assert sum(parameter.numel() for parameter in generator.parameters()) == 51_830_211
    assert generator.image_size == 224
    assert generator.num_stages == 8


def test_it_draws_pictures_of_the_configured_size(generator, vision):
    z, e = tiny.noise_and_sentence(3)
    assert generator(z, e, vision).shape == (3, 3, 32, 32)
    assert (generator.image_size, generator.num_stages) == (32, 5)


def test_gradients_reach_every_trainable_parameter_and_no_frozen_one(generator, vision):
    z, e = tiny.noise_and_sentence()
    generator(z, e, vision).square().sum().backward()
    for name, parameter in generator.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name
    assert all(parameter.grad is None for parameter in vision.parameters())


def test_noise_comes_before_the_sentence_in_the_condition(generator, vision):
    z, e = tiny.noise_and_sentence()
    cond = torch.cat([z, e], dim=1)
    bridge = generator.bridge(z, cond)
    concepts = vision.induce(bridge, generator.prompts(cond), generator.prompt_blocks)
    assert_close(generator.image(bridge, concepts, cond), generator(z, e, vision))


def test_steps_have_their_shapes(generator):
    z, e = tiny.noise_and_sentence()
    cond = torch.cat([z, e], dim=1)
    assert generator.bridge(z, cond).shape == (2, 32, 4, 4)
    assert generator.prompts(cond).shape == (2, 2, 32)


def test_the_bridge_may_be_made_of_the_caption_too(vision):
    """The paper's coarse map is the noise's; with bridge_input="condition" the sentence vector has a say in it."""
    z, e = tiny.noise_and_sentence()
    for bridge_input, columns in (("noise", tiny.Z_DIM), ("condition", tiny.Z_DIM + tiny.COND_DIM)):
        predictor = tiny.generator(bridge_input=bridge_input).bridge_predictor
        assert predictor.linear.in_features == columns
        seen = []
        predictor.blocks[0].register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0]))
        for sentence in (e, -e):
            predictor(z, torch.cat([z, sentence], dim=1))
        assert torch.equal(*seen) == (bridge_input == "noise")


def test_an_unknown_bridge_input_is_refused():
    with pytest.raises(ValueError, match="bridge_input is 'both'; use 'noise' or 'condition'"):
        tiny.generator(bridge_input="both")


def test_prompts_bridge_and_concepts_change_the_picture(generator, vision):
    z, e = tiny.noise_and_sentence()
    cond = torch.cat([z, e], dim=1)
    bridge, prompts = generator.bridge(z, cond), generator.prompts(cond)

    def draw(bridge, prompts):
        return generator.image(bridge, vision.induce(bridge, prompts, generator.prompt_blocks), cond)

    image = draw(bridge, prompts)
    for changed in (draw(bridge, prompts.flip(0)), draw(bridge.flip(0), prompts)):
        assert (changed - image).abs().max() > 1e-4
    assert (generator.image(bridge, torch.zeros_like(bridge), cond) - image).abs().max() > 1e-3


def test_noise_and_sentence_change_the_picture(generator, vision):
    z, e = tiny.noise_and_sentence(1)
    image = generator(z, e, vision)
    assert (generator(-z, e, vision) - image).abs().max() > 1e-3
    assert (generator(z, -e, vision) - image).abs().max() > 1e-3


def test_one_sentence_for_every_stage_equals_one_sentence(generator, vision):
    z, e = tiny.noise_and_sentence()
    per_stage = e[:, None].repeat(1, generator.num_stages, 1)
    assert torch.equal(generator(z, per_stage, vision), generator(z, e, vision))


@pytest.mark.parametrize("stage", range(5))
def test_every_stage_listens_to_its_own_sentence(generator, vision, stage):
    z, e = tiny.noise_and_sentence(1)
    per_stage = e[:, None].repeat(1, generator.num_stages, 1)
    changed = per_stage.clone()
    changed[:, stage] = -e
    assert (generator(z, changed, vision) - generator(z, per_stage, vision)).abs().max() > 1e-5


def test_a_picture_does_not_depend_on_its_batch(generator, vision):
    z, e = tiny.noise_and_sentence(5)
    together = generator(z, e, vision)
    assert_close(generator(z[3:4], e[3:4], vision), together[3:4], atol=1e-5, rtol=0)


# ---- blocks


@pytest.mark.parametrize(("in_channels", "out_channels", "side", "size"), [(5, 5, 4, 8), (6, 3, 4, 8), (5, 3, 8, 14)])
def test_up_block_equals_the_papers_order_of_upsampling_first(in_channels, out_channels, side, size):
    block = tiny.scatter(UpBlock(in_channels, out_channels, 7, size))
    x, cond = torch.randn(2, in_channels, side, side), torch.randn(2, 7)
    up = F.interpolate(x, size=(size, size), mode="nearest")
    expected = block.shortcut(up) + block.conv2(block.fuse2(block.conv1(block.fuse1(up, cond)), cond))
    assert torch.equal(block(x, cond), expected)
    assert block(x, cond).shape == (2, out_channels, size, size)
    block.folded = True
    assert_close(block(x, cond), expected, atol=1e-5, rtol=1e-5)


def test_folding_keeps_pictures_and_gradients(generator, vision):
    z, e = tiny.noise_and_sentence(3)
    found = []
    for folded in (False, True):
        generator.fold(folded)
        image = generator(z, e, vision)
        found.append([image, *torch.autograd.grad(image.square().mean(), list(generator.parameters()))])
    assert not torch.equal(found[0][0], found[1][0])  # it was computed in another way
    for plain, folded in zip(*found, strict=True):
        assert_close(folded, plain, atol=1e-5, rtol=1e-3)


def test_up_block_has_a_shortcut_convolution_only_where_channels_change():
    assert isinstance(UpBlock(4, 4, 2, 8).shortcut, nn.Identity)
    assert UpBlock(4, 6, 2, 8).shortcut.weight.shape == (6, 4, 1, 1)


def test_bridge_block_is_residual():
    block = tiny.scatter(BridgeBlock(6, 4, 7))
    x, cond = torch.randn(2, 6, 4, 4), torch.randn(2, 7)
    assert_close(block(x, cond), x + block.fuse2(block.conv2(block.fuse1(block.conv1(x), cond)), cond))


def test_prompt_predictor_splits_one_linear_layer_into_tokens():
    predictor = PromptPredictor(cond_dim=5, num_prompts=3, width=4)
    cond = torch.randn(2, 5)
    assert torch.equal(predictor(cond)[:, 1], predictor.linear(cond)[:, 4:8])


# ---- precision, compilers, files


@pytest.mark.parametrize("vision_dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_generator_and_transformer_may_differ_in_dtype(dtype, vision_dtype):
    generator, vision = tiny.scatter(tiny.generator()), tiny.vision()
    z, e = tiny.noise_and_sentence()
    exact = generator(z, e, vision)
    image = generator.to(dtype)(z, e, vision.to(vision_dtype))
    assert image.dtype == dtype
    error = (image.float() - exact).abs().max() / exact.std()
    assert error < (1e-5 if dtype == vision_dtype == torch.float32 else 0.15)


def test_autocast_trains(generator, vision):
    z, e = tiny.noise_and_sentence()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        image = generator(z, e, vision)
        image.float().square().mean().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in generator.parameters())


def test_compiled_whole_and_without_graph_breaks(vision):
    # One block of each kind is enough, and compiling takes time for every further one.
    generator = tiny.scatter(tiny.generator(bridge_blocks=1, block_sizes=(10,), block_channels=(8,)))
    whole = WholeGenerator(generator, vision)
    z, e = tiny.noise_and_sentence()
    compiled = torch.compile(whole, backend="aot_eager", fullgraph=True)
    image = compiled(z, e)
    assert_close(image, whole(z, e), atol=1e-5, rtol=1e-5)
    image.sum().backward()
    assert generator.prompt_predictor.linear.weight.grad.any()
    assert all(parameter.grad is None for parameter in vision.parameters())


def test_exported_with_any_batch_size(generator, vision):
    whole = WholeGenerator(generator, vision).eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    exported = torch.export.export(whole, tiny.noise_and_sentence(2), dynamic_shapes=({0: batch}, {0: batch})).module()
    z, e = tiny.noise_and_sentence(5)
    with torch.no_grad():
        assert_close(exported(z, e), whole(z, e), atol=1e-5, rtol=1e-5)


def test_saved_and_loaded_bit_for_bit(generator, vision, tmp_path):
    generator.save_pretrained(tmp_path)
    loaded = MateGenerator.from_pretrained(tmp_path)
    state = generator.state_dict()
    assert loaded.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.state_dict().items())
    z, e = tiny.noise_and_sentence()
    assert torch.equal(loaded(z, e, vision), generator.eval()(z, e, vision))
    assert (loaded.prompt_blocks, loaded.image_size) == ((1, 2), 32)
    assert loaded.config.clip_input == "standard"


def test_the_transformer_is_not_in_the_saved_weights(generator):
    assert {name.split(".")[0] for name in generator.state_dict()} == {
        "bridge_predictor",
        "prompt_predictor",
        "image_generator",
    }


# ---- errors


def test_wrong_inputs_are_refused(generator, vision):
    z, e = tiny.noise_and_sentence()
    with pytest.raises(ValueError, match=r"z has shape \(2, 7\); give noise \[B, 8\]"):
        generator(z[:, :7], e, vision)
    for wrong in (e[:, :20], e[:1], e[:, None].repeat(1, 4, 1), e[0]):
        with pytest.raises(ValueError, match="e has shape"):
            generator(z, wrong, vision)


def test_a_transformer_of_another_size_is_refused(vision):
    z, e = tiny.noise_and_sentence()
    with pytest.raises(ValueError, match="bridge has shape"):
        tiny.generator(grid=5)(z, e, vision)
    with pytest.raises(ValueError, match="this transformer has 4 blocks"):
        tiny.generator(prompt_blocks=(1, 4))(z, e, vision)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"block_sizes": (8, 16)}, "block_sizes is .* block_channels"),
        ({"block_sizes": (16, 8, 32)}, "sizes must increase"),
        ({"block_sizes": (4, 8, 32)}, "above the grid of 4"),
        ({"prompt_blocks": (2, 1)}, "prompt_blocks"),
        ({"prompt_tokens": 0}, "prompt_tokens is 0; for no prompts leave prompt_blocks empty"),
        ({"clip_input": "twice"}, "clip_input is 'twice'"),
    ],
)
def test_contradictory_configurations_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny.generator(**changes)


@pytest.mark.parametrize("bridge_input", ["noise", "condition"])
def test_truncated_weights_draw_from_the_smaller_noise(vision, bridge_input):
    generator = tiny.scatter(tiny.generator(bridge_input=bridge_input))
    z, e = tiny.noise_and_sentence(3)
    with torch.no_grad():
        expected, far = generator(0.3 * z, e, vision), generator(z, e, vision)
        generator.truncate(0.3)
        assert_close(generator(z, e, vision), expected)
        assert not torch.allclose(far, expected, atol=1e-3)
        generator.truncate(0)
        assert_close(generator(z, e, vision), generator(0 * z, e, vision))


@pytest.mark.parametrize("factor", [-0.1, float("nan"), float("inf")])
def test_a_truncation_that_cannot_be_is_an_error(generator, factor):
    with pytest.raises(ValueError, match="factor is"):
        generator.truncate(factor)
