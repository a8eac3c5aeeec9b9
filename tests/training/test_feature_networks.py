"""Discriminators on feature networks: opened from files, off unless asked for, warmed up, saved and resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from training import toy
from training.toy import open_run
from transformers import ConvNextConfig, ConvNextModel, Dinov2Config, Dinov2Model

from galip.errors import GalipError, InputError
from galip.training.checkpoint import forget_beyond, list_checkpoints
from galip.training.config import TrainConfig
from galip.training.config_file import load_config, named_configs
from galip.training.feature_config import FeatureNetworkConfig
from galip.training.feature_networks import open_feature_network
from galip.training.loop import Trainer
from galip.training.ramps import Ramps, blurred, ramps_at

CONVOLUTIONS, TRANSFORMER = "test_efficientnet", "test_vit"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A file of each architecture: a state dict of torch, and safetensors."""
    folder = tmp_path_factory.mktemp("timm")
    torch.manual_seed(0)
    torch.save(timm.create_model(CONVOLUTIONS).state_dict(), folder / "a.pth")
    save_file(timm.create_model(TRANSFORMER).state_dict(), folder / "b.safetensors")
    return {CONVOLUTIONS: str(folder / "a.pth"), TRANSFORMER: str(folder / "b.safetensors")}


def asked(weights: dict[str, str], name: str = CONVOLUTIONS, **options: Any) -> dict[str, Any]:
    return {"name": f"timm:{name}", "weights": weights[name], **options}


def run(data: Path, clip: Path, weights: dict[str, str], **sections: Any) -> TrainConfig:
    model = {"feature_networks": [asked(weights)], "head_channels": 8}
    return toy.config(data, clip, **({"model": model} | sections))


def saved(folder: Path) -> dict[str, torch.Tensor]:
    last = list_checkpoints(folder / "checkpoints")[-1]
    return {f"{p.stem}.{k}": t for p in last.glob("*.safetensors") for k, t in load_file(p).items()}


def steps(trainer: Trainer, count: int = 3) -> None:
    vectors = toy.caption_vectors(trainer)
    for _, batch in zip(range(count), toy.batches(trainer), strict=False):
        trainer.state.advance(batch, vectors(batch.captions))


# ---- the networks


@pytest.mark.parametrize(
    ("name", "depths", "shapes"),
    [
        (CONVOLUTIONS, [], [(32, 32), (16, 16), (8, 8), (4, 4)]),
        (CONVOLUTIONS, [0, 4], [(64, 64), (4, 4)]),
        (TRANSFORMER, [], [(10, 10)] * 4),
    ],
)
def test_timms_networks_give_maps(
    weights: dict[str, str], name: str, depths: list[int], shapes: list[tuple[int, int]]
) -> None:
    network = open_feature_network(FeatureNetworkConfig(**asked(weights, name, depths=depths)))
    images = torch.rand(2, 3, 64, 64, requires_grad=True)
    found = network(images)
    assert [maps.shape[2:] for maps in found] == shapes, "64 px are shown as 128, unless the network has one size"
    assert [maps.shape[1] for maps in found] == network.channels()
    torch.stack([maps.square().mean() for maps in found]).sum().backward()
    assert images.grad is not None and images.grad.abs().max() > 0
    assert not any(p.requires_grad for p in network.parameters()) and not network.train().training


def test_transformers_networks_give_maps(tmp_path: Path, toy_clip: Path) -> None:
    torch.manual_seed(0)
    tokens = Dinov2Config(hidden_size=16, num_hidden_layers=3, num_attention_heads=2, image_size=32, patch_size=8)
    Dinov2Model(tokens).save_pretrained(tmp_path / "dino")
    ConvNextModel(ConvNextConfig(hidden_sizes=[4, 8], depths=[1, 1], num_stages=2, image_size=64)).save_pretrained(
        tmp_path / "convnext"
    )
    for name, shapes in (
        ("dino", [(16, 4, 4)] * 3),
        ("convnext", [(4, 16, 16), (8, 8, 8)]),
    ):
        network = open_feature_network(FeatureNetworkConfig(name=str(tmp_path / name)))
        assert [tuple(maps.shape[1:]) for maps in network(torch.zeros(1, 3, 64, 64))] == shapes
    clip = open_feature_network(FeatureNetworkConfig(name=str(toy_clip / "vision_encoder")))
    assert all(maps.shape[2] == maps.shape[3] > 1 for maps in clip(torch.zeros(1, 3, 32, 32)))


def test_what_cannot_be_opened_is_named(weights: dict[str, str], tmp_path: Path, toy_clip: Path) -> None:
    for options, error, message in (
        ({"name": "timm:resnet_of_mine"}, InputError, "timm has no such network"),
        (asked(weights, depths=[9]), InputError, "has no map 9; depths are from 0 to 4"),
        ({"name": f"timm:{TRANSFORMER}", "weights": weights[CONVOLUTIONS]}, GalipError, "are not the weights of"),
        ({"name": str(tmp_path)}, GalipError, "no vision network could be loaded from it; give timm:ARCHITECTURE"),
        ({"name": str(toy_clip), "weights": "x"}, InputError, "brings its weights; leave out weights"),
    ):
        with pytest.raises(error, match=message):
            open_feature_network(FeatureNetworkConfig(**options))


# ---- the objective


def test_no_named_configuration_has_them_and_without_them_their_options_do_nothing(
    toy_data: Path, toy_clip: Path, tmp_path: Path
) -> None:
    for name in named_configs():
        assert load_config(name, ["data.source=x"]).model.feature_networks == ()
    plain = open_run(toy.config(toy_data, toy_clip), tmp_path / "a")
    options = {"loss": {"heads": 7.0, "heads_warmup": 8}, "augmentation": {"features": {"blur_images": 9}}}
    told = open_run(toy.config(toy_data, toy_clip, **options), tmp_path / "b")
    batch = next(iter(toy.batches(told)))
    assert batch.extra.features_real is None and told.state.step.sample_rng([0]).features_fake is None
    steps(plain)
    steps(told)
    for name in ("generator", "discriminator"):
        ours, theirs = (getattr(trainer.state.networks, name).state_dict() for trainer in (plain, told))
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert plain.state.networks.heads is None and "heads" not in plain.state._saved_networks()


def test_heads_learn_and_g_listens_after_their_warm_up(
    toy_data: Path, toy_clip: Path, weights: dict[str, str], tmp_path: Path
) -> None:
    """Until then G moves as if there were no heads."""
    plain = open_run(toy.config(toy_data, toy_clip), tmp_path / "plain")
    warming = open_run(run(toy_data, toy_clip, weights, loss={"heads_warmup": 8, "heads": 3.0}), tmp_path / "warming")
    assert warming.state.networks.heads is not None
    before = {key: value.clone() for key, value in warming.state.networks.heads.named_parameters()}
    generators = [t.state.networks.generator for t in (plain, warming)]

    def apart() -> float:
        ours, theirs = (torch.cat([p.detach().flatten() for p in g.parameters()]) for g in generators)
        return float((ours - theirs).abs().max())

    assert apart() == 0
    steps(plain, 2), steps(warming, 2)
    assert apart() < 1e-7
    moved = [not torch.equal(before[key], value) for key, value in warming.state.networks.heads.named_parameters()]
    assert all(moved)
    steps(plain, 1), steps(warming, 1)
    assert apart() > 1e-6


def test_heads_tell_real_from_generated_and_matching_from_mismatched(
    toy_data: Path, toy_clip: Path, weights: dict[str, str], tmp_path: Path
) -> None:
    """Their loss begins at 2 and falls, with G held still."""
    quiet = {"shift": 0.0, "colour": 0.0, "cutout": 0.0}
    config = run(
        toy_data,
        toy_clip,
        weights,
        optimizer={"lr_generator": 1e-9, "lr_discriminator": 3e-3},
        augmentation={"shift": 0.0, "features": quiet},
        schedule={"images": 10_000, "batch": 8},
    )
    trainer = open_run(config, tmp_path / "run")
    vectors, losses = toy.caption_vectors(trainer), []
    for _, batch in zip(range(60), toy.batches(trainer), strict=False):
        stats = trainer.state.advance(batch, vectors(batch.captions))
        assert stats.d_heads is not None and stats.heads is not None and stats.loss_d is not None
        losses.append(stats.d_heads)
    assert losses[0] == pytest.approx(2.0, abs=0.7) and sum(losses[-5:]) / 5 < 0.6 * losses[0]


def test_a_batch_in_parts_has_the_same_loss(
    toy_data: Path, toy_clip: Path, weights: dict[str, str], tmp_path: Path
) -> None:
    config = run(toy_data, toy_clip, weights)
    whole = open_run(config, tmp_path / "whole")
    parts = open_run(toy.change(config, performance={"micro_batch": 2}), tmp_path / "parts")
    vectors = toy.caption_vectors(whole)
    batch = next(iter(toy.batches(whole)))
    ours, theirs = (t.state.advance(batch, vectors(batch.captions)) for t in (whole, parts))
    assert ours.d_heads == pytest.approx(theirs.d_heads, rel=1e-5) and ours.heads == pytest.approx(
        theirs.heads, rel=1e-4
    )


def test_a_run_with_heads_is_resumed_bit_for_bit(
    toy_data: Path, toy_clip: Path, weights: dict[str, str], tmp_path: Path
) -> None:
    ramps = {"loss": {"similarity_ramp": 16, "heads_warmup": 8}, "augmentation": {"features": {"blur_images": 16}}}
    stages = [
        {"name": "a", "schedule": {"images": 8}, "loss": {"objective": "reconstruct"}},
        {"name": "b", "schedule": {"images": 16}},
    ]
    config = run(toy_data, toy_clip, weights, stages=stages, checkpoints={"every": 4, "keep": 9}, **ramps)
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    open_run(config, whole).fit()
    open_run(config, parted).fit()
    forget_beyond(parted / "checkpoints", 16)
    open_run(config, parted, resume="latest").fit()
    ours, theirs = saved(parted), saved(whole)
    assert any(key.startswith("heads.") for key in ours) and ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    (list_checkpoints(whole / "checkpoints")[-1] / "heads.safetensors").unlink()
    bare = toy.config(toy_data, toy_clip)
    open_run(bare, tmp_path / "bare").fit()
    with pytest.raises(GalipError, match="heads.safetensors: this checkpoint has no such network"):
        open_run(run(toy_data, toy_clip, weights), tmp_path / "bare", resume="latest")


# ---- what grows or fades


def test_ramps_rise_and_fade_over_the_stage(toy_data: Path, toy_clip: Path, weights: dict[str, str]) -> None:
    device = torch.device("cpu")
    assert ramps_at(toy.config(toy_data, toy_clip), 0, 64, device) is None
    loss = {"similarity_ramp": 100, "heads_warmup": 50}
    config = run(toy_data, toy_clip, weights, loss=loss, augmentation={"features": {"blur": 0.05, "blur_images": 40}})
    for seen, heads, similarity, blur in ((0, 0, 0, 3.2), (10, 0, 0.1, 2.4), (50, 1, 0.5, None), (200, 1, 1, None)):
        found = ramps_at(config, seen, 64, device)
        assert found is not None and (found.heads.item(), found.similarity.item()) == pytest.approx((heads, similarity))
        assert (found.blur is None) if blur is None else found.blur.item() == pytest.approx(blur)
        assert found.reach == (0 if blur is None else 10), "one kernel for the whole stage, so that a graph can hold it"


def test_blur_is_a_gaussians() -> None:
    dot = torch.zeros(1, 3, 41, 41)
    dot[..., 20, 20] = 1
    spread = blurred(dot, Ramps(torch.ones(()), torch.ones(()), torch.tensor(3.0), 12))[0, 0]
    places = torch.arange(41.0) - 20
    assert spread.sum() == pytest.approx(1, abs=1e-4)
    assert (spread.sum(0) * places**2).sum().sqrt() == pytest.approx(3.0, abs=0.05)
    sharp = blurred(dot, Ramps(torch.ones(()), torch.ones(()), torch.tensor(0.0), 12))
    torch.testing.assert_close(sharp, dot)
    assert blurred(dot, None) is dot
