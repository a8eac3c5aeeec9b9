"""`galip train` as a user types it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from cli.running import run
from training import toy


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A run of two steps on the toy data, with its tiny CLIP."""
    settings = toy.config(toy.pictures(tmp_path / "data"), toy.clip(tmp_path / "clip"), images=8)
    path = tmp_path / "toy.yaml"
    path.write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    return path


def test_train_then_resume_then_draw(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    first = run(capsys, "train", config, "run.seed=3", "--out", out)
    assert first.code == 0
    assert "seed: 3" in first.out and f"8 images seen; model: {out / 'model'}" in first.out
    again = run(capsys, "train", config, "run.seed=3", "run.images=12", "-o", out, "--resume", "latest")
    assert again.code == 0
    assert "differs from the checkpoint's configuration: run.images: 8 -> 12" in again.err
    drawn = run(capsys, "generate", "red heart", "--model", out / "model", "-o", tmp_path / "pictures", "--seed", "0")
    assert drawn.code == 0
    assert list((tmp_path / "pictures").glob("red-heart*.png"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run.bacth=3"], "unknown field run.bacth; did you mean batch?"),
        (["--data", "nowhere"], "nowhere: no such folder"),
        (["model.clip=nowhere"], "nowhere: no CLIP could be loaded"),
        (["--resume", "latest"], "no checkpoint to resume from"),
        (["run.device=gpu"], "run.device is 'gpu'"),
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
