"""Training that goes on with the optimiser states of the authors' checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from cli.running import run as command
from conversion.released_layout import TINY_PRESET, content
from training import toy
from training.toy import open_run

from galip.conversion.optimizers import in_their_order
from galip.errors import GalipError
from galip.models.presets import PRESETS
from galip.training.config import TrainConfig

pytestmark = pytest.mark.filterwarnings("ignore:.*CLIP-ViT is not that of the CLIP given")


def with_states(spare: str = "") -> dict[str, Any]:
    """A tiny checkpoint with the states of an Adam that has taken seven steps over all weights but the frozen."""
    found = content()
    flat = {f"{part}.{key}": t for part, tensors in found["model"].items() for key, t in tensors.items()}
    found["optimizers"] = {}
    for name, kinds in (("optimizer_G", ("netG",)), ("optimizer_D", ("netD", "netC"))):
        keys = in_their_order(key for key in flat if key.split(".")[0] in kinds)
        state = {
            index: {"step": 7, "exp_avg": flat[key] * 2, "exp_avg_sq": flat[key] ** 2}
            for index, key in enumerate(keys)
            if ".CLIP_ViT." not in key and not (".conv_s." in key and "DBlocks" in key) and key != spare
        }
        found["optimizers"][name] = {"state": state, "param_groups": [{"params": list(range(len(keys)))}]}
    return found


@pytest.fixture
def converted(
    toy_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Path:
    monkeypatch.setitem(PRESETS, "tiny", TINY_PRESET)
    torch.save(with_states(), tmp_path / "tiny.pth")
    words = ("--clip", toy_clip, "--preset", "tiny", "--no-graphs", "--with-optimizers")
    ended = command(capsys, "convert", tmp_path / "tiny.pth", "-o", tmp_path / "model", *words)
    assert ended.code == 0, ended.err
    return tmp_path / "model"


def config_from(model: Path, data: Path, clip: Path) -> TrainConfig:
    tuned = toy.trained_on_from(toy.config(data, clip, schedule={"images": 4}), model)
    return toy.change(tuned, model={"with_optimizers": True})


def test_adam_begins_with_the_authors_moments(converted: Path, toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    trainer = open_run(config_from(converted, toy_data, toy_clip), tmp_path / "run")
    networks, optimizers = trainer.state.networks, trainer.state.step.optimizers
    for kind in ("generator", "discriminator"):
        for name, parameter in getattr(networks, kind).named_parameters():
            if parameter.requires_grad:
                state = optimizers[kind].state[parameter]
                torch.testing.assert_close(state["exp_avg"], parameter.detach() * 2, msg=name)
                torch.testing.assert_close(state["exp_avg_sq"], parameter.detach() ** 2, msg=name)
                assert state["step"] == 7
    assert optimizers["generator"].param_groups[0]["lr"] == pytest.approx(1e-4)


def test_they_come_back_as_they_were(converted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (converted / "released.json").unlink()  # as of a model that was never a .pth
    out = tmp_path / "again.pth"
    ended = command(capsys, "convert", converted, "-o", out, "--to-released", "--preset", "tiny", "--with-optimizers")
    assert ended.code == 0, ended.err
    there, here = torch.load(out, weights_only=True)["optimizers"], with_states()["optimizers"]
    for name in here:
        assert there[name]["state"].keys() == here[name]["state"].keys()
        assert there[name]["param_groups"][0]["params"] == here[name]["param_groups"][0]["params"]
        for index, state in here[name]["state"].items():
            assert all(
                torch.equal(
                    torch.as_tensor(there[name]["state"][index][part]), torch.as_tensor(value, dtype=torch.float32)
                )
                for part, value in state.items()
            )


@pytest.mark.parametrize("kind", ["none", "shape"])
def test_states_that_do_not_fit_are_refused(
    kind: str,
    toy_clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(PRESETS, "tiny", TINY_PRESET)
    what = with_states()
    if kind == "none":
        del what["optimizers"]
    else:
        what["optimizers"]["optimizer_G"]["state"][0]["exp_avg"] = torch.zeros(3)
    torch.save(what, tmp_path / "tiny.pth")
    words = ("--clip", toy_clip, "--preset", "tiny", "--no-graphs", "--with-optimizers")
    ended = command(capsys, "convert", tmp_path / "tiny.pth", "-o", tmp_path / "model", *words)
    assert ended.code == 2 and "leave --with-optimizers out" in ended.err
    assert ("holds no states of optimizer_G" if kind == "none" else "netG.fc_code.weight") in ended.err
    assert not (tmp_path / "model").exists()


def test_a_model_without_states_is_refused(toy_data: Path, toy_clip: Path, converted: Path, tmp_path: Path) -> None:
    (converted / "optimizers.safetensors").unlink()
    with pytest.raises(GalipError, match="it has no optimizers.safetensors; convert its .pth again"):
        open_run(config_from(converted, toy_data, toy_clip), tmp_path / "run")
    with pytest.raises(GalipError, match="model.with_optimizers goes on with the optimisers of model.start_from"):
        toy.config(toy_data, toy_clip, model={"with_optimizers": True})
