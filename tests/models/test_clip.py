import pytest
import torch
import torch.nn.functional as F
from models import tiny
from torch import nn
from torch.testing import assert_close

from galip.models import FrozenCLIPVision
from galip.models.clip import CLIP_MEAN, CLIP_STD


@pytest.fixture
def vision():
    return tiny.vision()


@pytest.fixture
def images():
    return torch.rand(2, 3, 32, 32) * 2 - 1


def own_outputs(vision, images):
    """What transformers itself computes of the same input."""
    with torch.no_grad():
        return vision.model(pixel_values=vision.prepare(images), output_hidden_states=True)


def test_it_describes_itself(vision):
    assert (vision.grid, vision.width, vision.depth, vision.embed_dim, vision.image_size) == (4, 32, 4, 24, 32)


def test_taps_are_the_hidden_states_of_transformers(vision, images):
    taps = vision.taps(images, (0, 2, 3))
    hidden = own_outputs(vision, images).hidden_states  # [0] is the embedding, [i + 1] follows block i
    for tap, block in zip(taps, (0, 2, 3), strict=True):
        assert tap.shape == (2, 32, 4, 4)
        for y, x in ((0, 0), (1, 3), (3, 2)):
            assert_close(tap[:, :, y, x], hidden[block + 1][:, 1 + 4 * y + x])


def test_embed_is_the_image_vector_of_transformers(vision, images):
    assert_close(vision.embed(images), own_outputs(vision, images).image_embeds)


def test_taps_and_embed_agrees_with_both(vision, images):
    taps, vector = vision.taps_and_embed(images, (1, 2))
    for together, alone in zip(taps, vision.taps(images, (1, 2)), strict=True):
        assert torch.equal(together, alone)
    assert torch.equal(vector, vision.embed(images))


def test_taps_runs_no_block_after_the_last_one_needed(vision, images):
    ran = []
    for index, layer in enumerate(vision.model.vision_model.encoder.layers):
        layer.mlp.register_forward_hook(lambda *_, index=index: ran.append(index))
    vision.taps(images, (0, 1))
    assert ran == [0, 1]
    ran.clear()
    vision.taps_and_embed(images, (0, 1))
    assert ran == [0, 1, 2, 3]


def test_patch_embeddings_as_bridge_without_prompts_give_the_pictures_own_features(vision, images):
    with torch.no_grad():
        patches = vision.model.vision_model.embeddings.patch_embedding(vision.prepare(images))
    induced = vision.induce(patches, torch.empty(2, 0, 32), ())
    assert_close(induced, vision.taps(images, (3,))[0])


def test_induce_appends_each_prompt_to_its_block_and_drops_it_after(vision):
    """Against a plain rewriting of the rule, through transformers' own layers."""
    bridge, prompts = torch.randn(2, 32, 4, 4), torch.randn(2, 2, 32)
    tower = vision.model.vision_model
    hidden = torch.stack([bridge[:, :, i // 4, i % 4] for i in range(16)], dim=1)
    hidden = torch.cat([tower.embeddings.class_embedding.expand(2, 1, 32), hidden], dim=1)
    hidden = tower.pre_layrnorm(hidden + tower.embeddings.position_embedding.weight[None])
    for index, layer in enumerate(tower.encoder.layers):
        if index in (1, 3):
            hidden = torch.cat([hidden, prompts[:, [(1, 3).index(index)]]], dim=1)
        hidden = layer(hidden, None)
        hidden = hidden[:, :17]
    expected = hidden[:, 1:].reshape(2, 4, 4, 32).permute(0, 3, 1, 2)
    assert_close(vision.induce(bridge, prompts, (1, 3)), expected)


def test_which_block_a_prompt_goes_to_matters(vision):
    bridge, prompts = torch.randn(1, 32, 4, 4), torch.randn(1, 2, 32)
    first = vision.induce(bridge, prompts, (0, 1))
    assert not torch.allclose(first, vision.induce(bridge, prompts, (0, 2)), atol=1e-4)
    assert not torch.allclose(first, vision.induce(bridge, prompts.flip(1), (0, 1)), atol=1e-4)


def test_gradients_reach_images_bridge_and_prompts_but_no_weight(vision, images):
    images.requires_grad_()
    taps, vector = vision.taps_and_embed(images, (0, 2))
    (sum(tap.square().sum() for tap in taps) + vector.sum()).backward()
    assert (images.grad != 0).float().mean() > 0.99
    bridge = torch.randn(1, 32, 4, 4, requires_grad=True)
    prompts = torch.randn(1, 2, 32, requires_grad=True)
    vision.induce(bridge, prompts, (1, 2)).square().sum().backward()
    assert bridge.grad.flatten(2).any(dim=2).all()
    assert prompts.grad.any(dim=2).all()
    assert all(parameter.grad is None for parameter in vision.parameters())


@pytest.mark.parametrize(
    "meddle",
    [
        lambda parent, vision: parent.train(),
        lambda parent, vision: parent.requires_grad_(True),
        lambda parent, vision: vision.train(True),
        lambda parent, vision: vision.requires_grad_(True),
        lambda parent, vision: vision.model.train(),
        lambda parent, vision: vision.model.requires_grad_(True),
        lambda parent, vision: vision.model.vision_model.encoder.layers[1].train(),
        lambda parent, vision: [p.requires_grad_(True) for p in parent.parameters()],
    ],
)
@pytest.mark.parametrize("view", ["taps", "induce", "embed"])
def test_it_stays_frozen_whatever_the_caller_does(vision, images, meddle, view):
    parent = nn.Sequential(nn.Linear(2, 2), vision)
    meddle(parent, vision)
    images.requires_grad_()
    if view == "taps":
        out = vision.taps(images, (3,))[0]
    elif view == "induce":
        out = vision.induce(F.interpolate(images, 4).repeat(1, 11, 1, 1)[:, :32], torch.randn(2, 1, 32), (1,))
    else:
        out = vision.embed(images)
    out.square().sum().backward()
    assert not any(module.training for module in vision.modules())
    assert not any(parameter.requires_grad for parameter in vision.parameters())
    assert all(parameter.grad is None for parameter in vision.parameters())
    assert images.grad.any()


def test_the_constructor_freezes_the_model_it_is_given():
    model = tiny.clip_vision_model().train()
    FrozenCLIPVision(model)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_checkpointing_gives_the_same_values_and_gradients(vision, images):
    results = []
    for checkpointing in (False, True):
        vision.checkpointing = checkpointing
        leaf = images.clone().requires_grad_()
        taps, vector = vision.taps_and_embed(leaf, (1,))
        (taps[0].square().sum() + vector.square().sum()).backward()
        results.append((taps[0].detach(), vector.detach(), leaf.grad))
    for plain, recomputed in zip(*results, strict=True):
        assert torch.equal(plain, recomputed)


def test_checkpointing_recomputes_blocks(vision, images):
    runs = []
    vision.model.vision_model.encoder.layers[1].layer_norm2.register_forward_hook(lambda *_: runs.append(1))
    vision.checkpointing = True
    vision.embed(images.requires_grad_()).sum().backward()
    assert len(runs) == 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_half_precision_transformer_answers_in_the_inputs_dtype(images, dtype):
    exact = tiny.vision()
    half = FrozenCLIPVision(tiny.clip_vision_model())
    half.load_state_dict(exact.state_dict())
    half.to(dtype)
    for given in (images, images.to(dtype)):
        taps, vector = half.taps_and_embed(given, (0,))
        induced = half.induce(torch.zeros(1, 32, 4, 4).to(given.dtype), torch.ones(1, 1, 32), (1,))
        assert taps[0].dtype == vector.dtype == induced.dtype == given.dtype
    assert F.cosine_similarity(half.embed(images), exact.embed(images)).min() > 0.99


# ---- input mappings, against values computed by hand


def test_standard_mapping_of_plain_colours(vision):
    for pixel, fraction in ((-1.0, 0.0), (0.0, 0.5), (1.0, 1.0), (1.5, 1.25)):  # no clamp: 1.5 goes beyond white
        prepared = vision.prepare(torch.full((1, 3, 32, 32), pixel))
        for channel in range(3):
            expected = (fraction - CLIP_MEAN[channel]) / CLIP_STD[channel]
            assert_close(prepared[0, channel], torch.full((32, 32), expected))


def test_released_mapping_sees_half_to_one():
    vision = tiny.vision("released")
    for pixel, fraction in ((-1.0, 0.5), (0.0, 0.75), (1.0, 1.0)):
        prepared = vision.prepare(torch.full((1, 3, 32, 32), pixel))
        for channel in range(3):
            expected = (fraction - CLIP_MEAN[channel]) / CLIP_STD[channel]
            assert_close(prepared[0, channel], torch.full((32, 32), expected))


def test_mean_and_std_are_arguments(images):
    vision = FrozenCLIPVision(tiny.clip_vision_model(), image_mean=(0.5, 0.5, 0.5), image_std=(0.5, 0.5, 0.5))
    assert_close(vision.prepare(images), images)


@pytest.mark.parametrize("side", [16, 41, 64])
def test_standard_resize_is_antialiased_bicubic(side):
    vision = FrozenCLIPVision(tiny.clip_vision_model(), image_mean=(0.5,) * 3, image_std=(0.5,) * 3)
    images = torch.rand(1, 3, side, side) * 2 - 1
    expected = F.interpolate(images, size=(32, 32), mode="bicubic", antialias=True, align_corners=False)
    assert_close(vision.prepare(images), expected)


def test_released_resize_picks_the_nearest_pixel_by_flooring():
    vision = FrozenCLIPVision(tiny.clip_vision_model(), "released", image_mean=(0.0,) * 3, image_std=(1.0,) * 3)
    images = torch.rand(1, 3, 40, 40) * 2 - 1
    source = torch.arange(32) * 40 // 32
    expected = (images[:, :, source][:, :, :, source] + 3) / 4
    assert_close(vision.prepare(images), expected)


def test_half_precision_pictures_are_mapped_in_full_precision(vision, images):
    rounded = images.bfloat16()
    assert torch.equal(vision.prepare(rounded), vision.prepare(rounded.float()))


def test_every_mapping_passes_gradients_to_the_picture():
    for clip_input in ("standard", "released"):
        images = torch.rand(1, 3, 32, 32, requires_grad=True)
        tiny.vision(clip_input).prepare(images).sum().backward()
        assert images.grad.all()


# ---- errors


@pytest.mark.parametrize("blocks", [(), (4,), (-1, 2), (2, 1), (1, 1)])
def test_impossible_blocks_are_refused(vision, images, blocks):
    with pytest.raises(ValueError, match="0-based block numbers from 0 to 3"):
        vision.taps(images, blocks)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 1, 32, 32), (1, 3, 32, 30)])
def test_pictures_of_a_wrong_shape_are_refused(vision, shape):
    with pytest.raises(ValueError, match="square RGB images"):
        vision.embed(torch.zeros(shape))


def test_bridge_and_prompts_of_a_wrong_shape_are_refused(vision):
    with pytest.raises(ValueError, match=r"bridge has shape \(1, 32, 5, 5\).*\[B, 32, 4, 4\]"):
        vision.induce(torch.zeros(1, 32, 5, 5), torch.zeros(1, 1, 32), (1,))
    with pytest.raises(ValueError, match=r"prompts has shape \(1, 1, 32\).*\[B, 2, 32\]"):
        vision.induce(torch.zeros(1, 32, 4, 4), torch.zeros(1, 1, 32), (1, 2))


def test_unknown_input_mapping_and_impossible_normalisation_are_refused():
    with pytest.raises(ValueError, match="clip_input is 'double'"):
        FrozenCLIPVision(tiny.clip_vision_model(), clip_input="double")
    with pytest.raises(ValueError, match="image_std"):
        FrozenCLIPVision(tiny.clip_vision_model(), image_std=(1.0, 0.0, 1.0))
