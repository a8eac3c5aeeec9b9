from itertools import pairwise

import pytest
import torch

from galip.models import PRESETS, build_discriminator, build_generator, build_vision

DEVICES = {name: "cpu" if name == "mini-64" else "meta" for name in PRESETS}
PARAMETERS = {"released-b32-224": (51_830_211, 30_806_021)}


def test_the_needed_sizes_exist():
    assert set(PRESETS) == {"released-b32-224", "b32-224", "b16-224", "l14-256", "mini-64"}


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_draws_and_judges(name):
    preset, device = PRESETS[name], DEVICES[name]
    vision, generator, discriminator = (
        build(name, device=device) for build in (build_vision, build_generator, build_discriminator)
    )
    z = torch.randn(2, generator.z_dim, device=device)
    e = torch.randn(2, generator.cond_dim, device=device)
    images = generator(z, e, vision)
    assert images.shape == (2, 3, preset.image_size, preset.image_size)
    taps, vector = vision.taps_and_embed(images, discriminator.tap_blocks)
    assert discriminator(taps, e).shape == (2,)
    assert vector.shape == e.shape


@pytest.mark.parametrize(("name", "counts"), PARAMETERS.items())
def test_trainable_parameters_are_the_papers(name, counts):
    for build, count in zip((build_generator, build_discriminator), counts, strict=True):
        model = build(name, device="meta")
        assert sum(p.numel() for p in model.parameters() if p.requires_grad) == count
    assert sum(counts) == 82_636_232


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "released-b32-224"])
def test_new_sizes_double_exactly_read_clip_rightly_and_carry_no_dead_weights(name):
    preset = PRESETS[name]
    sides = [preset.generator["grid"], *preset.generator["block_sizes"]]
    assert all(2 * a == b for a, b in pairwise(sides))
    assert preset.generator["clip_input"] == build_vision(name, device="meta").clip_input == "standard"
    assert not preset.discriminator["dead_shortcuts"]


def test_the_released_size_keeps_the_released_quirks():
    assert PRESETS["released-b32-224"].discriminator["dead_shortcuts"]
    assert build_vision("released-b32-224", device="meta").clip_input == "released"


def test_blocks_of_the_deeper_transformer_stand_for_the_same_share_of_its_depth():
    base, large = PRESETS["b16-224"], PRESETS["l14-256"]
    assert large.vision["num_hidden_layers"] == 2 * base.vision["num_hidden_layers"]
    assert [(b + 1) / 12 for b in base.discriminator["tap_blocks"]] == [
        (b + 1) / 24 for b in large.discriminator["tap_blocks"]
    ]


def test_each_network_gets_fresh_weights():
    first, second = build_generator("mini-64"), build_generator("mini-64")
    assert not torch.equal(first.prompt_predictor.linear.weight, second.prompt_predictor.linear.weight)


@pytest.mark.parametrize("build", [build_generator, build_discriminator, build_vision])
def test_an_unknown_name_is_refused_with_the_known_ones(build):
    with pytest.raises(ValueError, match=r"'b64'.*mini-64"):
        build("b64")
