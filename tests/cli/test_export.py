"""`galip export`, run as a user runs it, with a tiny real model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
from cli.running import run

from galip.evaluation.likeness import compare
from galip.export.exporting import Source
from galip.export.exporting import export as write
from galip.generation.load import load
from galip.generation.onnx_backend import ONNXBackend
from galip.generation.pipeline import TextToImage
from galip.torch_backend.pipeline import GALIPPipeline

pytestmark = pytest.mark.engines


def pixels(pipe: TextToImage) -> np.ndarray:
    images: np.ndarray = pipe(["a red heart", "a sleepy cat"], seed=3, output_type="np").images
    return images


@pytest.mark.parametrize(
    ("kind", "precision", "most"),
    [
        ("openvino", "fp32", 1e-4),
        ("openvino", "fp16", 0.1),
        ("onnx", "fp32", 1e-4),
        ("onnx", "fp16", 0.1),
        ("torch", "fp32", 1e-5),
        ("torch", "fp16", 0.1),
    ],
)
def test_what_is_written_loads_and_draws(
    model: Path, kind: str, precision: str, most: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    ended = run(capsys, "export", model, "-o", out, "--format", kind, "--precision", precision)
    assert ended.code == 0
    assert ended.out.splitlines()[-1].startswith(f"{out}: {kind}, {precision}, ")
    pipe = load(out, device="cpu")
    assert isinstance(pipe, GALIPPipeline if kind == "torch" else TextToImage)
    assert np.abs(pixels(pipe) - pixels(tiny.pipeline())).max() <= most


def test_openvino_in_fp32_unless_told_otherwise(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "export", model, tmp_path / "out").code == 0
    manifest = json.loads((tmp_path / "out" / "export.json").read_text())
    assert (manifest["kind"], manifest["precision"]) == ("openvino", "fp32")
    assert manifest["source"]["name"] == "tiny-32"


def test_captions_measure_what_a_precision_costs(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    captions = tmp_path / "captions.txt"
    captions.write_text("a red heart\n\na sleepy cat\ntwo birds\n")
    ended = run(capsys, "export", model, "-o", tmp_path / "out", "--precision", "fp16", "--captions", captions)
    assert ended.code == 0
    assert "against fp32, over 3 captions: PSNR " in ended.out
    quality = json.loads((tmp_path / "out" / "export.json").read_text())["quality"]
    assert quality["captions"] == 3
    # 86 seeds for each of 3 captions. In half the weights' bits pictures hardly change, other seeds' do.
    assert quality["pictures"] == 258
    assert quality["clip_score"] == pytest.approx(quality["clip_score_fp32"], abs=1e-3)
    assert 0 <= quality["frechet"] < 0.005 * quality["frechet_seeds"]
    assert f"CLIP score {quality['clip_score']}, in fp32" in ended.out
    assert f"of other seeds to these {quality['frechet_seeds']} |" in (tmp_path / "out" / "README.md").read_text()


def test_a_model_that_draws_otherwise_is_far(model: Path, tmp_path: Path) -> None:
    write(tiny.pipeline(), Source("tiny", model), tmp_path / "out", "openvino")
    found = compare(
        tiny.pipeline(seed=5), TextToImage(ONNXBackend(tmp_path / "out", threads=1)), ["a red heart", "two birds"]
    )
    assert found["pictures"] == 256
    assert found["frechet"] > 10 * found["frechet_seeds"]
    assert abs(found["clip_score"] - found["clip_score_fp32"]) > 0.1


def test_int8_with_a_file_of_captions(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    captions = tmp_path / "captions.txt"
    captions.write_text("".join(f"a {word} number {i}\n" for word in ("red heart", "cat") for i in range(10)))
    ended = run(capsys, "export", model, "-o", tmp_path / "out", "--precision", "int8", "--captions", captions)
    assert ended.code == 0
    assert "over 5 captions: PSNR " in ended.out
    assert load(tmp_path / "out")("a cat", seed=0).images[0].size == (32, 32)


def test_a_folder_is_replaced_only_when_asked(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    ended = run(capsys, "export", model, out)
    assert ended.code == 2
    assert "the folder is not empty; name another one, or add --overwrite" in ended.err
    assert run(capsys, "export", model, "-o", out, "--overwrite", "--format", "onnx").code == 0
    assert not (out / "mine.txt").exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--format", "coreml"], "'coreml' is not one of 'openvino', 'onnx', 'torch'"),
        (["--precision", "fp8"], "'fp8' is not one of 'fp32', 'fp16', 'int8'"),
        (["--format", "torch", "--precision", "int8"], "for the format torch there are fp32, fp16"),
        (["--precision", "int8"], "give --captions FILE"),
        (["--precision", "int8", "--captions", "no-such.txt"], "no-such.txt: No such file or directory"),
    ],
)
def test_a_mistake_is_one_clean_line(
    model: Path, argv: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = run(capsys, "export", model, tmp_path / "out", *argv)
    assert ended.code == 2
    *usage, last = ended.err.splitlines()
    assert message in last
    assert usage == [] or (usage[0].startswith("Usage: galip export") and len(usage) == 3)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_exported(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "export", model, tmp_path / "once").code == 0
    assert "exported already" in run(capsys, "export", tmp_path / "once", tmp_path / "twice").err
    few = tmp_path / "few.txt"
    few.write_text("a cat\n")
    ended = run(capsys, "export", model, "-o", tmp_path / "out", "--precision", "int8", "--captions", few)
    assert ended.code == 2
    assert "at least 16 different ones" in ended.err
    few.write_bytes(b"\xff\xfe\x00")
    assert "no UTF-8 text" in run(capsys, "export", model, tmp_path / "out", "--captions", few).err
    few.write_text("\n")
    assert "holds no captions" in run(capsys, "export", model, tmp_path / "out", "--captions", few).err
    assert "there is no such folder" in run(capsys, "export", "no-such-model", tmp_path / "out").err
