"""The adapter for the authors' checkpoints: bit for bit both ways, and a clear word about everything that is wrong."""

from __future__ import annotations

import os
import pickle
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conversion.released_layout import TINY, TINY_PRESET, Layout, assert_same_bits, content, networks
from models import tiny
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from galip.conversion.checkpoint_file import CheckpointError, ReleasedCheckpoint, read_checkpoint, write_checkpoint
from galip.conversion.openai_vit import from_openai, to_openai
from galip.conversion.released import KEYS, VIT, ReleasedModel, from_released, to_released

VIT_DIFFERS = "ignore:.*CLIP-ViT is not that of the CLIP given"


@pytest.fixture
def clip() -> CLIPVisionModelWithProjection:
    return tiny.clip_vision_model()


def save(folder: Path, what: Any, **options: Any) -> Path:
    path = folder / "tiny.pth"
    torch.save(what, path, **options)
    return path


def checkpoint() -> ReleasedCheckpoint:
    model = content()["model"]
    return ReleasedCheckpoint({f"{n}.{key}": t for n, weights in model.items() for key, t in weights.items()})


def write_back(model: ReleasedModel, like: ReleasedCheckpoint) -> ReleasedCheckpoint:
    return to_released(model.generator, model.discriminator, model.vision, like.prefixes, like.rest, TINY_PRESET)


def public(config: Any) -> dict[str, Any]:
    return {key: value for key, value in config.items() if not key.startswith("_")}


# ---- both ways


@pytest.mark.filterwarnings(VIT_DIFFERS)
@pytest.mark.parametrize("half_vit", [False, True], ids=["fp32", "mixed"])
@pytest.mark.parametrize(
    "prefixes",
    [{}, {"netG": "module.", "netD": "module.", "netC": "module."}, {"netG": "module."}],
    ids=["plain", "module", "module in netG"],
)
def test_a_file_comes_back_bit_for_bit(
    tmp_path: Path, clip: CLIPVisionModelWithProjection, prefixes: dict[str, str], half_vit: bool
) -> None:
    original = content(prefixes, half_vit)
    read = read_checkpoint(save(tmp_path, original))
    write_checkpoint(write_back(from_released(read, clip, TINY_PRESET), read), tmp_path / "back.pth")
    assert_same_bits(original, torch.load(tmp_path / "back.pth", weights_only=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back.pth", "tiny.pth"]


@pytest.mark.filterwarnings(VIT_DIFFERS)
def test_networks_come_back_bit_for_bit(tmp_path: Path, clip: CLIPVisionModelWithProjection) -> None:
    generator, discriminator = (
        tiny.scatter(network)
        for network in (
            tiny.generator(prompt_blocks=(1, 2, 3), block_sizes=(16, 32, 64), clip_input="released"),
            tiny.discriminator(tap_blocks=(0, 1, 3), dead_shortcuts=True),
        )
    )
    write_checkpoint(to_released(generator, discriminator, clip, preset=TINY_PRESET), tmp_path / "tiny.pth")
    back = from_released(read_checkpoint(tmp_path / "tiny.pth"), clip, TINY_PRESET)
    assert back.difference is None
    assert_same_bits(generator.state_dict(), back.generator.state_dict())
    assert_same_bits(discriminator.state_dict(), back.discriminator.state_dict())
    assert_same_bits(clip.state_dict(), back.vision.state_dict())
    for one, other in ((generator, back.generator), (discriminator, back.discriminator)):
        assert public(one.config) == public(other.config)


@pytest.mark.filterwarnings(VIT_DIFFERS)
def test_every_key_has_its_own_tensor(clip: CLIPVisionModelWithProjection) -> None:
    theirs = checkpoint().tensors
    model = from_released(checkpoint(), clip, TINY_PRESET)
    ours = [f"generator.{key}" for key in model.generator.state_dict()]
    ours += [f"discriminator.{key}" for key in model.discriminator.state_dict()]
    without_vit = [key for key in theirs if not key.startswith(VIT)]
    assert sorted(KEYS.theirs(key) or "" for key in ours) == sorted(without_vit)
    assert sorted(KEYS.ours(key) or "" for key in without_vit) == sorted(ours)


@pytest.mark.filterwarnings(VIT_DIFFERS)
def test_tensors_arrive_where_they_belong(clip: CLIPVisionModelWithProjection) -> None:
    tensors = checkpoint().tensors
    model = from_released(checkpoint(), clip, TINY_PRESET)
    g, d = model.generator, model.discriminator
    layer = model.vision.vision_model.encoder.layers[1]
    affine = g.image_generator.blocks[1].fuse2.affine0
    pairs = {
        "netG.fc_code.bias": g.bridge_predictor.linear.bias,
        "netG.mapping.FBlocks.1.fuse1.affine1.fc_beta.linear1.weight": (
            g.bridge_predictor.blocks[1].fuse1.affine1.beta[0].weight
        ),
        "netG.GBlocks.1.fuse2.affine0.fc_gamma.linear2.bias": affine.gamma[2].bias,
        "netG.GBlocks.1.c_sc.weight": g.image_generator.blocks[1].shortcut.weight,
        "netD.DBlocks.1.conv_s.weight": d.feature_extractor.blocks[1].dead_shortcut.weight,
        "netD.main.conv_s.bias": d.feature_extractor.final.shortcut.bias,
        "netC.joint_conv.2.weight": d.quality_assessor.conv2.weight,
        VIT + "transformer.resblocks.1.mlp.c_proj.weight": layer.mlp.fc2.weight,
        VIT + "positional_embedding": model.vision.vision_model.embeddings.position_embedding.weight,
    }
    for key, tensor in pairs.items():
        torch.testing.assert_close(tensor.detach(), tensors[key], rtol=0, atol=0)
    fused = tensors[VIT + "transformer.resblocks.1.attn.in_proj_weight"]
    for i, name in enumerate(("q_proj", "k_proj", "v_proj")):
        assert getattr(layer.self_attn, name).weight.equal(fused[32 * i : 32 * (i + 1)])
    assert model.vision.visual_projection.weight.equal(clip.visual_projection.weight)
    assert not any(p.requires_grad for p in model.vision.parameters())
    assert all(p.requires_grad for p in g.parameters())


@pytest.mark.filterwarnings(VIT_DIFFERS)
def test_sizes_come_from_the_tensors(clip: CLIPVisionModelWithProjection) -> None:
    """The preset's own sizes are quite others."""
    model = from_released(checkpoint(), clip, TINY_PRESET)
    config = model.generator.config
    assert (config.z_dim, config.cond_dim, config.vision_width, config.grid) == (8, 24, 32, 4)
    assert (config.bridge_channels, config.bridge_hidden, config.stem_channels) == (6, 4, 16)
    assert tuple(config.block_channels) == (16, 12, 8)
    assert (tuple(config.prompt_blocks), tuple(config.block_sizes)) == ((1, 2, 3), (16, 32, 64))
    assert model.discriminator.config.out_channels == 20
    assert model.discriminator.config.assessor_channels == 8
    assert tuple(model.discriminator.config.tap_blocks) == (0, 1, 3)


@pytest.mark.filterwarnings(VIT_DIFFERS)
def test_networks_do_not_share_memory_with_the_checkpoint(clip: CLIPVisionModelWithProjection) -> None:
    given = checkpoint()
    before = {key: tensor.clone() for key, tensor in given.tensors.items()}
    model = from_released(given, clip, TINY_PRESET)
    tiny.scatter(model.generator)
    tiny.scatter(model.discriminator)
    tiny.scatter(model.vision)
    assert_same_bits(before, given.tensors)


def test_openai_names_and_back(clip: CLIPVisionModelWithProjection) -> None:
    state = clip.state_dict()
    openai = to_openai(state)
    assert {k: tuple(t.shape) for k, t in openai.items()} == {
        key.removeprefix("mapping.CLIP_ViT."): shape
        for key, shape in networks(TINY)["netG"].items()
        if key.startswith("mapping.CLIP_ViT.")
    }
    back = from_openai(openai)
    head = ("vision_model.post_layernorm.weight", "vision_model.post_layernorm.bias", "visual_projection.weight")
    assert_same_bits({key: t for key, t in state.items() if key not in head}, back)
    for function in (from_openai, to_openai):
        with pytest.raises(ValueError, match="nonsense.weight: this is no tensor of a CLIP-ViT"):
            function({"nonsense.weight": torch.zeros(1)})


# ---- the CLIP-ViT inside


@pytest.mark.parametrize("half_vit", [False, True], ids=["fp32", "mixed"])
def test_the_same_vit_is_no_difference(clip: CLIPVisionModelWithProjection, half_vit: bool) -> None:
    like = content(half_vit=half_vit)["model"]["netG"]
    given = checkpoint()
    for key, tensor in to_openai(clip.state_dict()).items():
        given.tensors[VIT + key] = tensor.to(like[f"mapping.CLIP_ViT.{key}"].dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = from_released(given, clip, TINY_PRESET)
    assert model.difference is None
    half = torch.float16 if half_vit else torch.float32
    assert model.vision.vision_model.encoder.layers[0].mlp.fc1.weight.dtype == half
    assert model.vision.vision_model.pre_layrnorm.weight.dtype == torch.float32


def test_another_vit_is_told_and_the_checkpoints_is_kept(clip: CLIPVisionModelWithProjection) -> None:
    given = checkpoint()
    for key, tensor in to_openai(clip.state_dict()).items():
        given.tensors[VIT + key] = tensor
    moved = given.tensors[VIT + "ln_pre.bias"].clone()
    moved[3] += 0.5
    given.tensors[VIT + "ln_pre.bias"] = moved
    with pytest.warns(UserWarning, match=r"1 of 53 tensors differ, by up to 0\.5\. The checkpoint's is kept"):
        model = from_released(given, clip, TINY_PRESET)
    assert model.difference is not None
    assert (model.difference.differing, model.difference.total) == (1, 53)
    assert model.difference.largest == pytest.approx(0.5)
    assert model.vision.vision_model.pre_layrnorm.bias.equal(moved)
    assert not clip.vision_model.pre_layrnorm.bias.equal(moved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 16}, "has width 32, 4 blocks, patches of 8 px; the CLIP given has width 16, 4 blocks"),
        ({"num_hidden_layers": 3}, "has width 32, 4 blocks, patches of 8 px; the CLIP given has width 32, 3 blocks"),
        ({"patch_size": 4}, "patches of 8 px; the CLIP given has width 32, 4 blocks, patches of 4 px"),
        ({"projection_dim": 12}, "sentence vectors have length 24, those of the CLIP given 12"),
    ],
)
def test_a_clip_of_another_size(clip: CLIPVisionModelWithProjection, change: dict[str, int], message: str) -> None:
    config = CLIPVisionConfig(**(clip.config.to_dict() | change))
    with pytest.raises(CheckpointError, match=f"{message}.*Give the CLIP that it was trained with"):
        from_released(checkpoint(), CLIPVisionModelWithProjection(config), TINY_PRESET)


# ---- what is wrong is named

SOME_KEYS = [f"{network}.{key}" for network, shapes in networks(TINY).items() for key in list(shapes)[::23]] + [
    # what sizes are read from
    "netG.fc_code.weight",
    "netG.mapping.FBlocks.0.conv1.weight",
    "netG.mapping.fc_prompt.weight",
    "netG.mapping.conv.weight",
    "netG.GBlocks.2.c2.bias",
    "netD.main.conv_r.0.weight",
    "netC.joint_conv.0.weight",
    VIT + "positional_embedding",
    VIT + "conv1.weight",
    VIT + "transformer.resblocks.3.ln_1.weight",
]


@pytest.mark.parametrize("key", SOME_KEYS)
def test_a_misshapen_key_is_named(clip: CLIPVisionModelWithProjection, key: str) -> None:
    usual = {"z_dim": 8, "cond_dim": 24, "bridge_channels": 6, "bridge_hidden": 4, "stem_channels": 16}
    preset = replace(
        TINY_PRESET,
        generator=TINY_PRESET.generator | usual | {"block_channels": (16, 12, 8)},
        discriminator=TINY_PRESET.discriminator | {"out_channels": 20, "assessor_channels": 8},
    )
    for dim in range(checkpoint().tensors[key].ndim):
        given = checkpoint()
        shape = list(given.tensors[key].shape)
        shape[dim] += 1
        given.tensors[key] = torch.zeros(shape)
        with pytest.raises(CheckpointError, match="misshapen") as caught:
            from_released(given, clip, preset)
        assert caught.value.misshapen == (key,)
        assert f"1 misshapen: {key} is {shape}, not " in str(caught.value)


@pytest.mark.parametrize("key", SOME_KEYS)
def test_a_missing_key_is_named(clip: CLIPVisionModelWithProjection, key: str) -> None:
    given = checkpoint()
    del given.tensors[key]
    with pytest.raises(CheckpointError, match=f"1 missing: {key}") as caught:
        from_released(given, clip, TINY_PRESET)
    assert caught.value.missing == (key,)
    assert caught.value.unknown == caught.value.misshapen == ()


def test_an_unknown_key_is_named(clip: CLIPVisionModelWithProjection) -> None:
    given = checkpoint()
    given.tensors["netG.mapping.FBlocks.0.conv3.weight"] = torch.zeros(1)
    given.tensors["netE.main.weight"] = torch.zeros(1)
    given.name = "my.pth"
    with pytest.raises(CheckpointError) as caught:
        from_released(given, clip, TINY_PRESET)
    assert caught.value.unknown == ("netG.mapping.FBlocks.0.conv3.weight", "netE.main.weight")
    assert "my.pth: " in str(caught.value)
    assert "2 unknown: netG.mapping.FBlocks.0.conv3.weight, netE.main.weight" in str(caught.value)


def test_many_keys_are_counted_and_the_first_ones_shown(clip: CLIPVisionModelWithProjection) -> None:
    given = checkpoint()
    netc_and_d = [key for key in given.tensors if not key.startswith("netG.")]
    for key in netc_and_d:
        del given.tensors[key]
    with pytest.raises(
        CheckpointError, match=f"{len(netc_and_d)} missing: .* and {len(netc_and_d) - 5} more"
    ) as caught:
        from_released(given, clip, TINY_PRESET)
    assert set(caught.value.missing) == set(netc_and_d)


def test_a_missing_block_is_not_taken_for_a_smaller_model(clip: CLIPVisionModelWithProjection) -> None:
    given = checkpoint()
    for key in [key for key in given.tensors if key.startswith("netG.mapping.FBlocks.1.")]:
        del given.tensors[key]
    with pytest.raises(CheckpointError, match="36 missing: netG.mapping.FBlocks.1"):
        from_released(given, clip, TINY_PRESET)


def test_a_prefix_on_some_keys_only_is_no_prefix(tmp_path: Path, clip: CLIPVisionModelWithProjection) -> None:
    what = content()
    what["model"]["netC"]["module.joint_conv.0.weight"] = what["model"]["netC"].pop("joint_conv.0.weight")
    with pytest.raises(CheckpointError) as caught:
        from_released(read_checkpoint(save(tmp_path, what)), clip, TINY_PRESET)
    assert caught.value.unknown == ("netC.module.joint_conv.0.weight",)
    assert caught.value.missing == ("netC.joint_conv.0.weight",)


def test_an_entry_that_is_no_weight_is_named(tmp_path: Path) -> None:
    what = content()
    what["model"]["netD"]["main.counter"] = torch.tensor(3)
    what["model"]["netD"]["main.name"] = "main"
    with pytest.raises(CheckpointError, match=r"2 unknown: netD\.main\.counter, netD\.main\.name"):
        read_checkpoint(save(tmp_path, what))


# ---- files that are no checkpoints


@pytest.mark.parametrize("legacy", [False, True], ids=["archive", "torch before 1.6"])
def test_a_truncated_file(tmp_path: Path, legacy: bool) -> None:
    path = save(tmp_path, content(), _use_new_zipfile_serialization=not legacy)
    assert read_checkpoint(path).rest["epoch"] == 7
    whole = path.read_bytes()
    for length in (0, 3, 100, 5000, len(whole) // 2, len(whole) - 10):
        path.write_bytes(whole[:length])
        with pytest.raises(
            CheckpointError, match=rf"tiny\.pth: .*not the whole of one.*{length:,} bytes.*fetch it again"
        ):
            read_checkpoint(path)


@pytest.mark.parametrize("garbage", [b"<!DOCTYPE html>\n<html>", b"hello", b"\x89PNG\r\n\x1a\n" + bytes(range(256))])
def test_a_file_that_is_no_checkpoint(tmp_path: Path, garbage: bytes) -> None:
    (tmp_path / "page.pth").write_bytes(garbage)
    with pytest.raises(CheckpointError, match=r"page\.pth: this is no checkpoint"):
        read_checkpoint(tmp_path / "page.pth")


@pytest.mark.parametrize(
    ("what", "found"),
    [
        ([1, 2], "found list"),
        ({"state_dict": {}, "args": 1}, "found an object with state_dict, args"),
        ({"model": {"weight": torch.zeros(1)}, "epoch": 1}, "found an object with model, epoch"),
    ],
)
def test_another_programs_checkpoint(tmp_path: Path, what: Any, found: str) -> None:
    with pytest.raises(CheckpointError, match=f'no "model" with netG, netD, netC \\({found}\\)'):
        read_checkpoint(save(tmp_path, what))


class Malicious:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("kind", ["archive", "torch before 1.6", "bare pickle"])
def test_a_pickle_that_runs_code_does_not_run_it(tmp_path: Path, kind: str) -> None:
    path, mark = tmp_path / "evil.pth", tmp_path / "mark"
    what = content() | {"epoch": Malicious(mark)}
    if kind == "bare pickle":
        path.write_bytes(pickle.dumps(Malicious(mark), protocol=2))
    else:
        torch.save(what, path, _use_new_zipfile_serialization=kind == "archive")
    with pytest.raises(CheckpointError, match=r"evil\.pth: .*asks for \w+\.mkdir, which could run code.*not loaded"):
        read_checkpoint(path)
    assert not mark.exists()
    torch.load(path, weights_only=False) if kind == "archive" else None
    assert mark.exists() == (kind == "archive")  # it would have run


def test_a_folder_and_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="this is a folder"):
        read_checkpoint(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_checkpoint(tmp_path / "none.pth")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "old.pth").write_bytes(b"old")
    given = checkpoint()
    given.rest["epoch"] = lambda: None  # cannot be pickled
    with pytest.raises((AttributeError, pickle.PicklingError)):
        write_checkpoint(given, tmp_path / "old.pth")
    assert [path.name for path in tmp_path.iterdir()] == ["old.pth"]
    assert (tmp_path / "old.pth").read_bytes() == b"old"


# ---- models that were trained here


def test_dead_weights_are_zeros(clip: CLIPVisionModelWithProjection) -> None:
    generator = tiny.generator(prompt_blocks=(1, 2, 3), block_sizes=(16, 32, 64))
    written = to_released(generator, tiny.discriminator(tap_blocks=(0, 1, 3)), clip, preset=TINY_PRESET)
    assert set(written.tensors) == set(checkpoint().tensors)
    for i in (0, 1):
        assert written.tensors[f"netD.DBlocks.{i}.conv_s.weight"].equal(torch.zeros(32, 32, 1, 1))
        assert written.tensors[f"netD.DBlocks.{i}.conv_s.bias"].equal(torch.zeros(32))
    assert from_released(written, clip, TINY_PRESET).discriminator.config.dead_shortcuts


@pytest.mark.parametrize(
    ("generator", "discriminator", "named"),
    [
        ({"prompt_blocks": (0, 1, 2)}, {}, r"prompt_blocks is \(0, 1, 2\), not \(1, 2, 3\)"),
        ({"concept_scale": 0.2}, {}, r"concept_scale is 0\.2, not 0\.1"),
        ({"block_sizes": (8, 16, 32)}, {}, r"block_sizes is \(8, 16, 32\), not \(16, 32, 64\)"),
        ({"bridge_blocks": 3}, {}, "bridge_blocks is 3, not 2"),
        ({"bridge_input": "condition"}, {}, "bridge_input is condition, not noise"),
        ({}, {"tap_blocks": (0, 1, 2)}, r"tap_blocks is \(0, 1, 2\), not \(0, 1, 3\)"),
    ],
)
def test_what_the_file_cannot_tell_is_refused(
    clip: CLIPVisionModelWithProjection, generator: dict[str, Any], discriminator: dict[str, Any], named: str
) -> None:
    g = tiny.generator(**({"prompt_blocks": (1, 2, 3), "block_sizes": (16, 32, 64)} | generator))
    d = tiny.discriminator(**({"tap_blocks": (0, 1, 3)} | discriminator))
    with pytest.raises(CheckpointError, match=f"numbers of tiny for granted, but here {named}"):
        to_released(g, d, clip, preset=TINY_PRESET)


def test_the_published_layout_has_the_published_counts() -> None:
    counts = {
        network: sum(torch.Size(shape).numel() for key, shape in shapes.items() if "CLIP_ViT" not in key)
        for network, shapes in networks(Layout()).items()
    }
    assert counts == {"netG": 51_830_211, "netD": 28_706_821, "netC": 2_099_200}
