"""Several processes over gloo, launched as a user does: the same numbers, exact resume, clean ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import timm
import torch
import yaml
from safetensors.torch import load_file
from training import toy
from training.toy import open_run

from galip.distributed import Distributed
from galip.errors import InputError
from galip.training.checkpoint import find_checkpoint, forget_beyond, list_checkpoints
from galip.training.config_file import load_config
from galip.training.evaluating import QuickScores

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "galip"]
ACCELERATE = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
ACCELERATE += ["--main_process_port", "0", "-m", "galip"]


@pytest.fixture(scope="module")
def config(toy_data: Path, toy_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = toy.config(toy_data, toy_clip, schedule={"images": 32, "batch": 4}, checkpoints={"every": 4, "keep": 20})
    path = tmp_path_factory.mktemp("config") / "toy.yaml"
    path.write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    return path


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


def start(launcher: list[str], config: Path, out: Path, *overrides: str) -> subprocess.Popen[str]:
    command = [sys.executable, *launcher, "train", str(config), *overrides, "--out", str(out)]
    return subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def kill(launcher: subprocess.Popen[str]) -> None:
    """Kill -9 the launcher and the processes that it launched, which have sessions of their own."""
    family = [psutil.Process(launcher.pid), *psutil.Process(launcher.pid).children(recursive=True)]
    for process in family:
        process.kill()
    psutil.wait_procs(family)
    launcher.communicate()


def launch(launcher: list[str], config: Path, out: Path, *overrides: str) -> str:
    running = start(launcher, config, out, *overrides)
    try:
        said, _ = running.communicate(timeout=240)
    except subprocess.TimeoutExpired:
        kill(running)
        raise
    assert running.returncode == 0, said
    return said


def log(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def weights(run: Path, images: int) -> dict[str, torch.Tensor]:
    folder = run / "checkpoints" / f"images-{images:09d}"
    return {
        f"{path.stem}.{key}": tensor for path in folder.glob("*.safetensors") for key, tensor in load_file(path).items()
    }


@pytest.fixture(scope="module")
def two(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight steps on two processes."""
    out = tmp_path_factory.mktemp("two") / "run"
    launch(TORCHRUN, config, out)
    return out


def test_two_processes_equal_one_with_the_same_global_batch(config: Path, two: Path, tmp_path: Path) -> None:
    launch(["-m", "galip"], config, tmp_path / "one")
    ours, theirs = log(two), log(tmp_path / "one")
    assert [row["images"] for row in ours] == [row["images"] for row in theirs] == list(range(4, 36, 4))
    speed = {"images_per_second"}
    for step, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        tolerance = 1e-5 if step < 3 else 1e-3
        assert {k: v for k, v in a.items() if k not in speed} == pytest.approx(
            {k: v for k, v in b.items() if k not in speed}, rel=tolerance, abs=tolerance
        )
    assert json.loads((two / "environment.json").read_text())["processes"] == 2


def test_two_processes_in_micro_batches_equal_them_too(config: Path, two: Path, tmp_path: Path) -> None:
    launch(TORCHRUN, config, tmp_path / "run", "performance.micro_batch=1", "schedule.images=12", "evaluation.every=12")
    for a, b in zip(log(tmp_path / "run")[:3], log(two)[:3], strict=True):
        assert {k: v for k, v in a.items() if k != "images_per_second"} == pytest.approx(
            {k: v for k, v in b.items() if k != "images_per_second"}, rel=1e-4, abs=1e-4
        )
    scores = log(tmp_path / "run")[3]
    one = open_run(load_config(config, ["evaluation.every=12"]), tmp_path / "run", resume="latest")
    again = QuickScores(one.state.networks, one.data.captions(256), one.distributed)(one.state.average)
    assert {name: scores[name] for name in again} == pytest.approx(again, abs=1e-5)


def test_two_processes_in_micro_batches_equal_one_with_heads_on_a_feature_network(config: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, file = "test_efficientnet", tmp_path / "weights.pth"
    torch.save(timm.create_model(network).state_dict(), file)
    asked = json.dumps([{"name": f"timm:{network}", "weights": str(file)}])
    options = [f"model.feature_networks={asked}", "schedule.images=8", "augmentation.features.blur_images=8"]
    launch(["-m", "galip"], config, tmp_path / "one", *options)
    launch(TORCHRUN, config, tmp_path / "two", *options, "performance.micro_batch=1")
    for a, b in zip(log(tmp_path / "one"), log(tmp_path / "two"), strict=True):
        assert "d_heads" in a and {k: v for k, v in a.items() if k != "images_per_second"} == pytest.approx(
            {k: v for k, v in b.items() if k != "images_per_second"}, rel=1e-4, abs=1e-4
        )


def test_killed_in_the_middle_two_processes_go_on_bit_for_bit(config: Path, two: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    running = start(TORCHRUN, config, out, "schedule.images=4000000")
    try:
        deadline = time.monotonic() + 200
        while len(list_checkpoints(out / "checkpoints")) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        kill(running)
    found = find_checkpoint(out, "latest")
    fourth = out / "checkpoints" / "images-000000016"
    assert fourth.exists() and found.name >= fourth.name
    # As if the kill had come right after the fourth step: later checkpoints of the endless run go.
    forget_beyond(out / "checkpoints", 16)
    launch(TORCHRUN, config, out, "--resume", "latest")
    a, b = weights(two, 32), weights(out, 32)
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_accelerate_launches_it_and_a_checkpoint_changes_hands(config: Path, two: Path, tmp_path: Path) -> None:
    """Four steps by accelerate's launcher on two processes, the other four on one: equal but for the order of sums."""
    out = tmp_path / "run"
    launch(ACCELERATE, config, out, "schedule.images=16")
    launch(["-m", "galip"], config, out, "--resume", "latest")
    a, b = weights(two, 32), weights(out, 32)
    assert all(torch.equal(value, weights(two, 16)[key]) for key, value in weights(out, 16).items())
    for key in a:
        torch.testing.assert_close(a[key], b[key], rtol=1e-2, atol=1e-3)


def test_sigterm_to_the_launcher_ends_all_processes_with_a_checkpoint(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    running = start(TORCHRUN, config, out, "schedule.images=4000000")
    try:
        deadline = time.monotonic() + 200
        while not list_checkpoints(out / "checkpoints") and time.monotonic() < deadline:
            time.sleep(0.05)
        running.terminate()
        said, _ = running.communicate(timeout=120)
    finally:
        if running.poll() is None:
            kill(running)
    assert "go on with --resume latest" in said
    assert (out / "model" / "model_index.json").exists()
    seen = json.loads((find_checkpoint(out, "latest") / "state.json").read_text())["images"]
    assert f"stopped at {seen} of" in said


@pytest.mark.parametrize("device", ["mps", "xpu", "meta", "cuda:7"])
def test_a_device_that_is_not_there_is_an_error(device: str) -> None:
    count = {"mps": torch.mps.device_count, "xpu": torch.xpu.device_count}.get(device, lambda: 0)()
    if count:
        pytest.skip("this machine has one")
    with pytest.raises(InputError, match=rf"performance\.device is {device}, but torch finds no .* use auto or cpu"):
        Distributed(device, "performance.device")
