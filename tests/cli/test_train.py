"""`galip train` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from cli.running import run
from training import toy


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A run of two steps on the toy data, with its tiny CLIP."""
    settings = toy.config(toy.pictures(tmp_path / "data"), toy.clip(tmp_path / "clip"), schedule={"images": 8})
    path = tmp_path / "toy.yaml"
    path.write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    return path


def test_train_then_resume_then_draw(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    first = run(capsys, "train", config, "seed=3", "--out", out)
    assert first.code == 0
    assert "seed: 3" in first.out and f"8 images seen; model: {out / 'model'}" in first.out
    again = run(capsys, "train", config, "seed=3", "schedule.images=12", "-o", out, "--resume", "latest")
    assert again.code == 0
    assert "differs from the checkpoint's configuration: schedule.images: 8 -> 12" in again.err
    drawn = run(capsys, "generate", "red heart", "--model", out / "model", "-o", tmp_path / "pictures", "--seed", "0")
    assert drawn.code == 0
    assert list((tmp_path / "pictures").glob("red-heart*.png"))


def test_a_dry_run_prints_the_plan_and_writes_nothing(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = run(capsys, "train", config, "schedule.images=4000", "--out", tmp_path / "run", "--dry-run")
    assert ended.code == 0
    assert "1,000 steps to 4,000 images" in ended.out and "images/s" in ended.out and "GiB" in ended.out
    assert not (tmp_path / "run").exists()


def test_a_recipe_is_told_before_it_is_begun(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, out = toy.pictures(tmp_path / "icons"), tmp_path / "run"
    ended = run(capsys, "train", images, "eye.width=8", "--recipe", "small", "--out", out, "--dry-run")
    assert ended.code == 0
    told = yaml.safe_load(ended.out)
    assert (told["data"]["source"], told["eye"]["width"]) == (str(images), 8)
    assert [stage["name"] for stage in told["stages"]] == ["reconstruct", "sharpen"]
    assert not out.exists()
    wrong = run(capsys, "train", images, "--recipe", "large")
    assert wrong.code == 2 and "there is no such recipe; known: small" in wrong.err


def test_a_folder_alone_is_enough(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The settings are printed and saved, and only what is given on the command line is otherwise."""
    given = yaml.safe_load(config.read_text())
    sections = [f"{name}={json.dumps(given[name])}" for name in ("model", "generator", "discriminator", "performance")]
    out = tmp_path / "run"
    ended = run(capsys, "train", tmp_path / "data", *sections, "schedule.images=8", "--no-graphs", "-o", out)
    assert ended.code == 0, ended.err
    assert "name: data" in ended.out and "shift: 0.1" in ended.out
    assert yaml.safe_load((out / "config.yaml").read_text())["augmentation"]["shift"] == 0.1
    assert (out / "model" / "model_index.json").is_file() and not (out / "model" / "graphs.json").exists()


def test_config_as_an_option(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for argv in (["train", "--config", config, "seed=3"], ["train", tmp_path / "data", "--config", config, "seed=3"]):
        ended = run(capsys, *argv, "--dry-run")
        assert ended.code == 0 and "seed: 3" in ended.out, ended.err
    ended = run(capsys, "train", other, "--config", config, "--dry-run")
    assert ended.code == 2 and f"{other}: no captioned image" in ended.err
    ended = run(capsys, "train")
    assert ended.code == 2 and "name a folder of captioned images, or a configuration" in ended.err


def test_finetune(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = run(capsys, "train", config, "-o", tmp_path / "first", "--no-graphs")
    assert first.code == 0, first.err
    model, options = tmp_path / "first" / "model", ["schedule.images=8", "performance.device=cpu", "--no-graphs"]
    ended = run(capsys, "finetune", model, tmp_path / "data", *options, "-o", tmp_path / "second")
    assert ended.code == 0, ended.err
    assert "lr_generator: 5.0e-05" in ended.out and "name: model-data" in ended.out
    assert "Trained on from `model`" in (tmp_path / "second" / "model" / "README.md").read_text()
    assert str(tmp_path) not in (tmp_path / "second" / "model" / "README.md").read_text()


def test_a_broken_picture_is_named_and_the_run_goes_on(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    next((tmp_path / "data").glob("rain-0.png")).write_bytes(b"no picture")
    ended = run(capsys, "train", config, "schedule.images=24", "data.max_broken=0.5", "--out", tmp_path / "run")
    assert ended.code == 0
    assert ended.err.count("passed over") == 1 and "rain-0.png" in ended.err
    last = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])
    assert last["broken_records"] >= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["schedule.bacth=3"], "unknown field schedule.bacth; did you mean batch?"),
        (["--data", "nowhere"], "nowhere: no such folder"),
        (["--data", f"{'a long name with spaces ' * 6}: and a colon"], ": and a colon: no such folder"),
        (["model.clip=nowhere"], "nowhere: no CLIP could be loaded"),
        (["--resume", "latest"], "no checkpoint to resume from"),
        (["performance.device=gpu"], "performance.device is 'gpu'"),
    ],
)
def test_mistakes_are_one_clean_line(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    ended = run(capsys, "train", config, "--out", tmp_path / "run", *arguments)
    assert ended.code == 2
    assert message in ended.err
    assert "Traceback" not in ended.err and ended.err.strip().count("\n") == 0
    assert not (tmp_path / "run").exists()
