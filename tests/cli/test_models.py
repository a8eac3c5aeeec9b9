"""`galip models`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny
from cli.running import run


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache with a model of ours, another library's, and a download that was cut off."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    tiny.save(tmp_path / "models--someone--my--birds" / "snapshots" / "abc")
    other = tmp_path / "models--someone--diffusion" / "snapshots" / "abc"
    other.mkdir(parents=True)
    (other / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "U"]}')
    (tmp_path / "models--someone--cut" / "snapshots" / "abc").mkdir(parents=True)
    (tmp_path / "models--someone--cut" / "snapshots" / "abc" / "model_index.json").write_text("{")
    return tmp_path


def test_bundled_and_downloaded_models_are_listed(hub: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = run(capsys, "models")
    assert ended.code == 0
    lines = [line.split() for line in ended.out.splitlines() if line.strip()]
    assert ["emoji-64", "bundled", "64"] in [line[:3] for line in lines]
    assert ["someone/my--birds", "hub", "32"] in [line[:3] for line in lines]
    assert "diffusion" not in ended.out and "cut" not in ended.out
    found = {model["name"]: model for model in json.loads(run(capsys, "models", "--json").out)}
    assert set(found) == {"emoji-64", "someone/my--birds"}
    assert found["emoji-64"]["license"] == "cc-by-4.0"
    assert Path(found["someone/my--birds"]["folder"]).is_relative_to(hub)


def test_the_shell_completes_the_names(hub: Path) -> None:
    from galip.cli.options import _known_models

    assert _known_models("") == ["emoji-64", "someone/my--birds"]
    assert _known_models("some") == ["someone/my--birds"]


def test_a_model_that_is_damaged_is_passed_over(hub: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (hub / "models--someone--my--birds" / "snapshots" / "abc" / "generator" / "config.json").unlink()
    ended = run(capsys, "models")
    assert ended.code == 0
    assert "emoji-64" in ended.out and "my--birds" not in ended.out
    assert "someone/my--birds" in ended.err
