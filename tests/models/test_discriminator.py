import pytest
import torch
import torch.nn.functional as F
from models import tiny
from torch.testing import assert_close

from galip.models import ExtractionBlock, MateDiscriminator, QualityAssessor


@pytest.fixture
def discriminator():
    return tiny.scatter(tiny.discriminator())


@pytest.fixture
def taps():
    return [torch.randn(2, 32, 4, 4) for _ in range(3)]


@pytest.fixture
def e():
    return torch.randn(2, 24)


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def test_parameter_counts_with_and_without_the_released_dead_weights():
    with torch.device("meta"):
        released, clean = MateDiscriminator(dead_shortcuts=True), MateDiscriminator()
    assert count(released) == 28_706_821 + 2_099_200 == 30_806_021
    assert count(released) - count(clean) == 1_181_184
    assert count(released.quality_assessor) == 2_099_200


def test_one_logit_for_each_picture_from_real_taps(discriminator, e):
    vision = tiny.vision()
    taps = vision.taps(torch.rand(2, 3, 32, 32) * 2 - 1, discriminator.tap_blocks)
    assert discriminator.features(taps).shape == (2, 20, 4, 4)
    assert discriminator(taps, e).shape == (2,)


def test_it_is_the_assessment_of_its_features(discriminator, taps, e):
    assert torch.equal(discriminator(taps, e), discriminator.assess(discriminator.features(taps), e))


def test_before_training_only_the_first_tap_counts(taps, e):
    discriminator = tiny.discriminator()
    logits = discriminator(taps, e)
    assert torch.equal(discriminator([taps[0], taps[2], taps[1]], e), logits)
    assert not torch.allclose(discriminator([taps[1], taps[0], taps[2]], e), logits)


def test_feature_extractor_follows_the_formula(discriminator, taps):
    def res(block, x):
        return F.leaky_relu(block.conv2(F.leaky_relu(block.conv1(x), 0.2)), 0.2)

    (first, second), final = discriminator.feature_extractor.blocks, discriminator.feature_extractor.final
    x = taps[0] + first.gamma * res(first, taps[0]) + first.beta * taps[1]
    x = x + second.gamma * res(second, x) + second.beta * taps[2]
    x = final.shortcut(x) + final.gamma * res(final, x)
    assert_close(discriminator.features(taps), x)


def test_scalars_start_at_zero_and_convolutions_have_no_bias():
    block = ExtractionBlock(6, 6, tapped=True)
    assert block.gamma.item() == block.beta.item() == 0
    assert block.conv1.bias is None
    assert block.conv2.bias is None
    assert ExtractionBlock(6, 4, tapped=False).shortcut.bias is not None


def test_number_of_extraction_blocks_follows_the_taps():
    discriminator = tiny.discriminator(tap_blocks=(2,))
    assert len(discriminator.feature_extractor.blocks) == 0
    assert discriminator([torch.randn(1, 32, 4, 4)], torch.randn(1, 24)).shape == (1,)


def test_assessor_sees_image_channels_first_then_the_sentence(e):
    assessor, features = QualityAssessor(5, 24, 3, grid=4), torch.randn(2, 5, 4, 4)
    joint = torch.cat([features, e[:, :, None, None].repeat(1, 1, 4, 4)], dim=1)
    expected = assessor.conv2(F.leaky_relu(assessor.conv1(joint), 0.2))[:, 0, 0, 0]
    assert_close(assessor(features, e), expected)


@pytest.mark.parametrize("grid", [4, 7, 8, 14, 16])
def test_assessor_leaves_one_number_on_every_grid(grid, e):
    assert QualityAssessor(5, 24, 3, grid)(torch.randn(2, 5, grid, grid), e).shape == (2,)


def test_the_caption_changes_the_logit(discriminator, taps, e):
    features = discriminator.features(taps)
    assert not torch.allclose(discriminator.assess(features, e), discriminator.assess(features, e.roll(-1, 0)))


def test_gradients_reach_every_parameter_the_taps_and_the_sentence(discriminator, taps, e):
    inputs = [*taps, e]
    for tensor in inputs:
        tensor.requires_grad_()
    discriminator(taps, e).square().sum().backward()
    assert all(tensor.grad.any() for tensor in inputs)
    for name, parameter in discriminator.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def test_dead_weights_of_the_released_layout_change_nothing(taps, e):
    released, clean = tiny.scatter(tiny.discriminator(dead_shortcuts=True)), tiny.discriminator()
    extra = clean.load_state_dict(released.state_dict(), strict=False)
    assert not extra.missing_keys
    assert {key.rsplit(".", 1)[0] for key in extra.unexpected_keys} == {
        "feature_extractor.blocks.0.dead_shortcut",
        "feature_extractor.blocks.1.dead_shortcut",
    }
    assert torch.equal(released(taps, e), clean(taps, e))


def test_the_gradient_penalty_can_be_differentiated(discriminator, taps, e):
    for tensor in (*taps, e):
        tensor.requires_grad_()
    gradients = torch.autograd.grad(discriminator(taps, e).sum(), [*taps, e], create_graph=True)
    sum(gradient.square().sum() for gradient in gradients).pow(3).backward()
    for name, parameter in discriminator.named_parameters():
        if name != "feature_extractor.final.shortcut.bias":  # a bias shifts the logit, not its slope, but for the kinks
            assert parameter.grad.any(), name


def test_second_derivatives_are_those_of_finite_differences():
    discriminator = tiny.scatter(
        tiny.discriminator(vision_width=2, tap_blocks=(0, 1), out_channels=2, assessor_channels=2, cond_dim=2)
    ).double()
    inputs = [torch.randn(1, 2, 4, 4).double().requires_grad_() for _ in range(2)]
    inputs.append(torch.randn(1, 2).double().requires_grad_())
    assert torch.autograd.gradgradcheck(lambda *x: discriminator(x[:2], x[2]), inputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_precision(discriminator, taps, e, dtype):
    exact = discriminator(taps, e)
    logits = discriminator.to(dtype)([tap.to(dtype) for tap in taps], e)
    assert logits.dtype == dtype
    assert_close(logits.float(), exact, atol=1e-6 if dtype == torch.float32 else 0.1, rtol=0.05)


def test_saved_and_loaded_bit_for_bit(discriminator, taps, e, tmp_path):
    discriminator.save_pretrained(tmp_path)
    loaded = MateDiscriminator.from_pretrained(tmp_path)
    state = discriminator.state_dict()
    assert loaded.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.state_dict().items())
    assert torch.equal(loaded(taps, e), discriminator(taps, e))
    assert loaded.tap_blocks == (0, 1, 3)


def test_wrong_inputs_are_refused(discriminator, taps, e):
    with pytest.raises(ValueError, match=r"give 3 maps \[B, 32, 4, 4\].*\(0, 1, 3\)"):
        discriminator(taps[:2], e)
    with pytest.raises(ValueError, match="taps has shapes"):
        discriminator([tap[:, :, :3] for tap in taps], e)
    with pytest.raises(ValueError, match="e has shape"):
        discriminator(taps, e[:1])
    with pytest.raises(ValueError, match="e has shape"):
        discriminator(taps, e[:, :20])


def test_contradictory_configurations_are_refused():
    with pytest.raises(ValueError, match="tap_blocks"):
        tiny.discriminator(tap_blocks=(3, 1))
    with pytest.raises(ValueError, match="grid is 3"):
        tiny.discriminator(grid=3)
    with pytest.raises(ValueError, match="keeps its channels"):
        ExtractionBlock(4, 5, tapped=True)
    with pytest.raises(ValueError, match="needs the next tap"):
        ExtractionBlock(4, 4, tapped=True)(torch.zeros(1, 4, 4, 4))
