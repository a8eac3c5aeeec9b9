"""The configurations that train as GALIP's authors did: values, two steps, and the way into their layout."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from cli.running import run as command
from conversion.released_layout import TINY, TINY_PRESET, networks
from evaluation import random_inception
from models import tiny as parts
from training.toy import open_run

import galip
from galip.conversion.optimizers import in_their_order
from galip.errors import GalipError
from galip.models.presets import PRESETS
from galip.training.checkpoint import list_checkpoints, read_info
from galip.training.config import TrainConfig
from galip.training.config_file import load_config, named_configs
from galip.training.export import export_checkpoint

NAMES = ("coco", "cub", "cc12m")
EPOCHS = {"coco": (82_783, 3005, 5), "cub": (8_855, 1502, 20)}


@pytest.mark.parametrize("name", NAMES)
def test_the_values_are_the_authors(name: str) -> None:
    config = load_config(f"released/{name}")
    assert config.name == f"released-{name}" and config.model.preset == "released-b32-224" and config.seed == 100
    assert config.generator.clip_input == "released" and config.discriminator.dead_shortcuts
    assert (config.data.view, config.data.flip, config.data.shorter_side) == ("released", True, None)
    assert (config.schedule.batch, config.performance.micro_batch) == (8 * 64, 64)
    assert (config.performance.precision, config.performance.loss_scale) == ("fp16", "released")
    assert (config.ema.half_life, config.schedule.warmup, config.schedule.decay) == (0, 0, "none")
    loss, optimizer = config.loss, config.optimizer
    assert (loss.similarity, loss.penalty_k, loss.penalty_p, loss.penalty_form) == (4, 2, 6, "released")
    assert (optimizer.lr_generator, optimizer.lr_discriminator, optimizer.betas) == (1e-4, 4e-4, (0, 0.9))
    assert config.evaluation.keep_best == "fid_released"
    if name in EPOCHS:
        images, epochs, interval = EPOCHS[name]
        assert config.schedule.images == images * epochs
        assert config.checkpoints.every == config.evaluation.every == images * interval


def shrunk(name: str, source: Path, clip: Path, **sections: Any) -> TrainConfig:
    """The configuration on toy data and with the tiny CLIP; all but sizes and lengths is as committed."""
    config = load_config(f"released/{name}")
    tree = config.model_dump(mode="json")
    tree["model"] |= {"preset": "mini-64", "clip": str(clip)}
    numbers = {"prompt_blocks": [1, 2, 3], "block_sizes": [16, 32, 64], "block_channels": list(TINY.ups)}
    tree["generator"] = tiny_arguments(parts.generator(**numbers, clip_input="released"))
    tree["discriminator"] = tiny_arguments(parts.discriminator(tap_blocks=[0, 1, 3], dead_shortcuts=True))
    tree["data"] |= {"source": str(source), "workers": 0}
    tree["schedule"] |= {"images": 8, "batch": 4}
    tree["checkpoints"] |= {"every": 4, "keep": 5}
    tree["logging"] |= {"every": 4, "grid_every": 100, "trackers": []}
    tree["performance"] |= {"device": "cpu", "micro_batch": 2, "threads": 1}
    tree["evaluation"] |= {"every": 0, "keep_best": "", "source": str(source), "images": 8}
    for section, values in sections.items():
        tree[section] |= values
    return TrainConfig.model_validate(tree)


def tiny_arguments(network: Any) -> dict[str, Any]:
    return {key: value for key, value in network.config.items() if not key.startswith("_")}


@pytest.mark.parametrize("name", NAMES)
def test_two_steps_then_into_the_authors_layout(
    name: str,
    toy_data: Path,
    toy_clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    open_run(shrunk(name, toy_data, toy_clip), run).fit()
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [row["images"] for row in rows] == [4, 8] and all(row["loss_d"] > 0 for row in rows)
    monkeypatch.setitem(PRESETS, "tiny", TINY_PRESET)
    checkpoint, out = list_checkpoints(run / "checkpoints")[-1], tmp_path / "state_epoch_001.pth"
    ended = command(
        capsys, "convert", checkpoint, "-o", out, "--to-released", "--preset", "tiny", "--raw", "--with-optimizers"
    )
    assert ended.code == 0, ended.err
    written = torch.load(out, weights_only=True)
    layout = networks(TINY)
    shapes = {part: {key: tuple(t.shape) for key, t in tensors.items()} for part, tensors in written["model"].items()}
    assert shapes == layout
    their_adam_goes_on(written)


def their_adam_goes_on(written: dict[str, Any]) -> None:
    """As the authors' script makes its optimisers and loads the states: of all of netG, and of netD with netC."""
    for name, kinds in (("optimizer_G", ("netG",)), ("optimizer_D", ("netD", "netC"))):
        keys = in_their_order(f"{kind}.{key}" for kind in kinds for key in written["model"][kind])
        weights = [torch.nn.Parameter(written["model"][key.split(".")[0]][key.partition(".")[2]]) for key in keys]
        adam = torch.optim.Adam(weights, lr=1.0)
        adam.load_state_dict(written["optimizers"][name])
        assert adam.param_groups[0]["betas"] == (0.0, 0.9)
        assert adam.param_groups[0]["lr"] == (1e-4 if name == "optimizer_G" else 4e-4)
        for key, weight in zip(keys, weights, strict=True):
            learns = ".CLIP_ViT." not in key and not (".conv_s." in key and "DBlocks" in key)
            assert (weight in adam.state) == learns, key
            if learns:
                assert adam.state[weight]["exp_avg"].shape == weight.shape and adam.state[weight]["step"] == 2


def test_the_order_of_the_authors_modules() -> None:
    """Written down by hand from how their classes hold their parts."""
    block = [f"{part}.{leaf}" for part in ("conv1", "conv2") for leaf in ("weight", "bias")]
    affine = [
        f"affine{i}.{head}.{layer}.{leaf}"
        for i in (0, 1)
        for head in ("fc_gamma", "fc_beta")
        for layer in ("linear1", "linear2")
        for leaf in ("weight", "bias")
    ]
    fuse1, fuse2 = ([f"fuse{i}.{name}" for name in affine] for i in (1, 2))
    mapping = [f"FBlocks.{i}.{key}" for i in (0, 10) for key in (*block[:2], *fuse1, *block[2:], *fuse2)]
    mapping += ["conv_fuse.weight", "conv_fuse.bias"]
    vit = ["class_embedding", "positional_embedding", "conv1.weight", "ln_pre.weight", "ln_pre.bias"]
    resblock = ["attn.in_proj_weight", "attn.in_proj_bias", "attn.out_proj.weight", "attn.out_proj.bias"]
    resblock += ["ln_1.weight", "ln_1.bias", "mlp.c_fc.weight", "mlp.c_fc.bias", "mlp.c_proj.weight", "mlp.c_proj.bias"]
    vit += [f"transformer.resblocks.0.{key}" for key in (*resblock, "ln_2.weight", "ln_2.bias")]
    mapping += [f"CLIP_ViT.{key}" for key in vit]
    mapping += ["conv.weight", "conv.bias", "fc_prompt.weight", "fc_prompt.bias"]
    up = [f"{part}.{leaf}" for part in ("c1", "c2") for leaf in ("weight", "bias")]
    up += [*fuse1, *fuse2, "c_sc.weight", "c_sc.bias"]
    order = ["netG.fc_code.weight", "netG.fc_code.bias", *(f"netG.mapping.{key}" for key in mapping)]
    order += [f"netG.GBlocks.0.{key}" for key in up] + ["netG.to_rgb.1.weight", "netG.to_rgb.1.bias"]
    order += [f"netD.DBlocks.0.{key}" for key in ("gamma", "beta", "conv_r.0.weight", "conv_r.2.weight")]
    order += ["netD.DBlocks.0.conv_s.weight", "netD.DBlocks.0.conv_s.bias", "netD.main.gamma"]
    order += ["netD.main.conv_r.0.weight", "netD.main.conv_s.bias", "netC.joint_conv.0.weight"]
    order += ["netC.joint_conv.2.weight"]
    shuffled = list(order)
    random.Random(0).shuffle(shuffled)
    assert shuffled != order and in_their_order(shuffled) == order


def test_fid_the_released_way_chooses_the_best_checkpoint(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    weights = random_inception.save(tmp_path / "inception.pth", random_inception.IMAGENET_CLASSES, auxiliary=True)
    evaluation = {"every": 4, "keep_best": "fid_released", "weights": {"inception-torchvision": str(weights)}}
    config = shrunk("coco", toy_data, toy_clip, evaluation=evaluation | {"captions": 4})
    open_run(config, tmp_path / "run").fit()
    best = json.loads((tmp_path / "run" / "checkpoints" / "best.json").read_text())
    scores = [read_info(path).scores["fid_released"] for path in list_checkpoints(tmp_path / "run" / "checkpoints")]
    assert best["metric"] == "fid_released" and best["value"] == min(scores)


def test_without_an_average_users_get_the_weights_as_they_are(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    trainer = open_run(shrunk("coco", toy_data, toy_clip), tmp_path / "run")
    trainer.fit()
    raw, average = trainer.state.networks.generator.state_dict(), trainer.state.average.state_dict()
    assert all(torch.equal(raw[key], average[key]) for key in raw)


def test_the_raw_generator_is_exported(
    toy_data: Path, toy_clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = open_run(shrunk("coco", toy_data, toy_clip, ema={"half_life": 100}), tmp_path / "run")
    trainer.fit()
    checkpoint = list_checkpoints(tmp_path / "run" / "checkpoints")[-1]
    for words, network in (("--raw", trainer.state.networks.generator), ("", trainer.state.average)):
        out = tmp_path / f"model{words}"
        ended = command(capsys, "export", checkpoint, "-o", out, "--format", "torch", *words.split())
        assert ended.code == 0, ended.err
        exported = galip.load(out, engine="torch").generator.state_dict()
        assert all(torch.equal(tensor, exported[key]) for key, tensor in network.state_dict().items())
    with pytest.raises(GalipError, match="the optimisers' states belong to the raw generator"):
        export_checkpoint(checkpoint, tmp_path / "x", with_optimizers=True)


def test_every_named_configuration_is_found() -> None:
    assert {f"released/{name}" for name in NAMES} <= named_configs().keys()
