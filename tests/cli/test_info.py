"""`galip info`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from cli.running import run

from galip.export.exporting import Source, export
from galip.generation import select
from galip.model_repo.cache import cached
from galip.model_repo.graphs import copy_graphs


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny.save(tmp_path_factory.mktemp("models") / "tiny-32")
    (folder / "README.md").write_text("---\nlicense: cc-by-4.0\ndatasets: [emoji, '[a box]']\n---\n# Tiny\n")
    (folder / "training.json").write_text(json.dumps({"images": 150000, "version": "0.1.0", "config": {"name": "x"}}))
    return folder


def test_the_table_tells_it_all(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipe = tiny.pipeline()
    ended = run(capsys, "info", model)
    assert ended.code == 0
    assert ended.err == ""
    shown = " ".join(ended.out.split())
    for name in ("generator", "vision_encoder", "text_encoder"):
        assert f"{sum(p.numel() for p in getattr(pipe, name).parameters()):,}" in shown
    trainable = sum(p.numel() for p in pipe.generator.parameters())
    for words in (
        "generator MateGenerator",
        f"{trainable:,} trained float32",
        f"parameters {trainable:,} trainable,",
        "images 32 x 32 pixels",
        "licence cc-by-4.0",
        "trained on emoji, [a box]",
        "images 150,000",
        "size on disk",
    ):
        assert words in shown


def test_json_says_the_same(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = json.loads(run(capsys, "info", model, "--json").out)
    assert facts["image_size"] == 32
    assert facts["license"] == "cc-by-4.0"
    assert facts["trained_on"] == ["emoji", "[a box]"]
    assert facts["training"]["images"] == 150000
    generator = facts["parts"][0]
    assert generator["class"] == "MateGenerator"
    assert generator["dtypes"] == ["float32"]
    assert facts["parameters"]["trainable"] == generator["parameters"]
    assert facts["parameters"]["all"] == sum(part["parameters"] for part in facts["parts"])
    assert facts["bytes"] == sum(file.stat().st_size for file in model.rglob("*") if file.is_file())


@pytest.mark.engines
def test_it_says_what_runs_the_model(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GALIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(select, "_may_have_gpu", lambda: False)
    assert "engine auto means openvino: the fastest" in " ".join(run(capsys, "info", model).out.split())
    assert "its graphs are exported at the first use" in " ".join(run(capsys, "info", model).out.split())
    made = tiny.save(tmp_path / "made", graphs=True)
    assert "on a CPU; its graphs are there licence" in " ".join(run(capsys, "info", made).out.split())
    cached(model, lambda folder: copy_graphs(made, folder))
    assert "its graphs are in the cache" in " ".join(run(capsys, "info", model).out.split())
    assert json.loads(run(capsys, "info", model, "--json").out)["auto_engine"] == "openvino"


@pytest.mark.engines
def test_an_exported_model(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(tiny.pipeline(), Source("tiny-32", model), tmp_path / "out", "onnx", "fp16", ["a cat"])
    shown = " ".join(run(capsys, "info", tmp_path / "out").out.split())
    for words in (
        "model tiny-32, exported for onnx by galip",
        "precision fp16",
        "against fp32 PSNR",
        "images 32 x 32 pixels",
        "prompts up to 16 tokens",
        "engine onnxruntime: the model is exported for onnx",
    ):
        assert words in shown
    facts = json.loads(run(capsys, "info", tmp_path / "out", "--json").out)
    assert facts["precision"] == "fp16"
    assert facts["auto_engine"] == "onnxruntime"


def test_a_model_that_says_nothing_of_itself(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(model, bare)
    (bare / "README.md").unlink()
    (bare / "training.json").unlink()
    shown = run(capsys, "info", bare).out
    assert shown.count("the model card does not say") == 2


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("no-such-model", "there is no such folder"),
        ("someone/no-model", "the hub cannot be reached"),
        (".", "no model"),
    ],
)
def test_a_missing_model_is_one_clean_line(
    word: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = run(capsys, "info", word)
    assert ended.code == 2
    assert message in ended.err
    assert len(ended.err.splitlines()) == 1


def test_no_weights_are_loaded(model: Path) -> None:
    code = (
        f"import sys\nfrom galip.cli import main\ntry: main(['info', {str(model)!r}])\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'transformers', 'diffusers') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
