"""--precision of the commands that generate, and what `galip info` says of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny
from cli.running import run
from PIL import Image

from galip.evaluation.runner import open_model
from galip.generation.fastest import measured_precisions
from galip.generation.load import digest_of
from galip.utils.image_io import read_texts

pytestmark = pytest.mark.engines


@pytest.fixture(scope="module")
def with_graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("models") / "tiny-32", graphs=True)


def test_generate_keeps_precisions_apart(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    command = ("generate", "a red heart", "--seed", 1, "-o", out, "--model", model, "--engine", "torch", "--no-sheet")
    for options in ((), ("--precision", "fp32"), ("--precision", "bf16"), ("--precision", "bf16")):
        assert run(capsys, *command, *options).code == 0
    files = {read_texts(path).get("precision", "fp32"): path for path in out.glob("*.png")}
    assert len(list(out.glob("*.png"))) == len(files) == 2
    with Image.open(files["fp32"]) as plain, Image.open(files["bf16"]) as other:
        assert plain.tobytes() != other.tobytes()


@pytest.mark.parametrize("name", ["walk", "grid"])
def test_walks_and_grids_say_their_precision(
    name: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / ("sheet.png" if name == "grid" else "walk.gif")
    options = ("--frames", 4) if name == "walk" else ()
    texts = ("a red heart", "a sleepy cat", "--seed", 1, "--model", model, "--engine", "torch", "--precision", "bf16")
    assert run(capsys, name, *texts, *options, "-o", out).code == 0
    if name == "grid":
        assert read_texts(out)["precision"] == "bf16"


def test_info_says_what_auto_means(
    with_graphs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GALIP_CACHE", str(tmp_path / "cache"))
    assert "precision auto not measured yet" in " ".join(run(capsys, "info", with_graphs).out.split())
    command = ("generate", "a red heart", "--seed", 1, "-o", tmp_path, "--model", with_graphs, "--engine", "openvino")
    assert run(capsys, *command, "--precision", "auto", "--threads", 1).code == 0
    (known,) = measured_precisions(digest_of(with_graphs))
    shown = " ".join(run(capsys, "info", with_graphs).out.split())
    assert f"precision auto {known['auto']} by openvino, --threads 1; an image: fp32" in shown
    assert json.loads(run(capsys, "info", with_graphs, "--json").out)["precisions"] == [known]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--precision", "fp8"], "'fp8' is not one of 'fp32', 'bf16', 'fp16', 'int8', 'auto'"),
        (["--precision", "bf16", "--dtype", "bfloat16"], "give --precision alone"),
        (["--precision", "bf16", "--refine", "2"], "gradients are taken in fp32"),
        (["--precision", "int8", "--engine", "torch"], "torch computes in fp32 and bf16 and fp16"),
        (["--precision", "bf16", "--engine", "onnxruntime"], "onnxruntime computes in fp32 and int8"),
    ],
)
def test_what_is_refused(
    argv: list[str], message: str, with_graphs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = run(capsys, "generate", "a red heart", "--model", with_graphs, "-o", tmp_path / "out", *argv)
    assert ended.code == 2
    assert message in " ".join(ended.err.replace("│", " ").split())
    assert not (tmp_path / "out").exists()


def test_a_number_has_a_precision_of_its_own(model: Path) -> None:
    plain, other = (open_model(model, device="cpu", precision=name) for name in ("fp32", "bf16"))
    assert plain.pipe is plain.networks
    assert other.pipe.backend.precision == "bf16"
    assert other.networks is not None and other.networks.backend.precision == "fp32"
    assert other.digest == f"{plain.digest}-bf16"
    with pytest.raises(Exception, match="precision auto: what it means depends on the machine"):
        open_model(model, device="cpu", precision="auto")
