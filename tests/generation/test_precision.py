"""Precisions: how far images may be from fp32, what a machine lacks, and what `auto` comes to."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from generation.linear_backend import LinearBackend

import galip
from galip.errors import InputError
from galip.export.exporting import Source, export
from galip.generation.engines import openvino_precisions
from galip.generation.fastest import fastest_precision, measured_precisions
from galip.generation.load import digest_of
from galip.generation.pipeline import TextToImage
from galip.generation.precision import MAX_LEVELS, PROMPTS, images_to_compare, lacking, levels_apart
from galip.utils.arrays import FloatArray

pytestmark = pytest.mark.engines

PROMPT = ["a red heart", "a sleepy cat in the rain", "two birds"]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GALIP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("model") / "tiny-32", graphs=True)


def images(pipe: TextToImage, **how: int) -> FloatArray:
    return pipe(PROMPT, seed=3, output_type="np", **how).images


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_by_torch(precision: str, caplog: pytest.LogCaptureFixture) -> None:
    found = galip.load("emoji-64", engine="torch", device="cpu", precision=precision, threads=1)
    expected = galip.load("emoji-64", engine="torch", device="cpu", precision="fp32", threads=1)
    assert (found.backend.precision, expected.backend.precision) == (precision, "fp32")
    assert np.array_equal(found.embed(PROMPT), expected.embed(PROMPT))  # prompts are encoded in fp32
    apart = levels_apart(images(found), images(expected))
    # bf16 has 8 bits of a number; fp16 has 11.
    assert 0 < apart <= (16 if precision == "bf16" else 2)
    assert levels_apart(images(found, batch_size=1), images(found)) <= (16 if precision == "bf16" else 2)


def test_openvino_computes_in_what_the_processor_has(folder: Path) -> None:
    expected = images(galip.load(folder, engine="openvino", threads=1))
    assert {"fp32", "int8"} <= set(openvino_precisions())
    for precision in ("bf16", "fp16"):
        if precision in openvino_precisions():
            found = galip.load(folder, engine="openvino", precision=precision, threads=1)
            assert found.backend.precision == precision
            assert 0 < levels_apart(images(found), expected) <= 8
        else:
            with pytest.raises(InputError, match=f"precision {precision}: openvino computes in .* on this processor"):
                galip.load(folder, engine="openvino", precision=precision)


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_int8_is_quantised_once(engine: str, folder: Path, cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    found = galip.load(folder, engine=engine, precision="int8", threads=1)
    assert capfd.readouterr().out == ""  # standard output is for what a command has to say
    (place,) = (path for path in (cache / "int8").iterdir() if path.is_dir())
    made = place.stat().st_mtime_ns, sorted(path.stat().st_mtime_ns for path in place.iterdir())
    assert found.backend.precision == "int8"
    expected = galip.load(folder, engine=engine, threads=1)
    assert np.array_equal(found.embed(PROMPT), expected.embed(PROMPT))
    assert found.backend.has_image_encoder
    error = np.mean((images(found) - images(expected)) ** 2)
    assert 1e-8 < error < 10**-1.5  # random weights amplify what rounding does
    assert json.loads((place / "export.json").read_text())["quality"]["psnr_mean"] > 15
    again = galip.load(folder, engine=engine, precision="int8", threads=1)
    assert np.array_equal(images(again), images(found))
    assert made[1] == sorted(path.stat().st_mtime_ns for path in place.iterdir())


def test_auto_takes_what_is_faster_and_near(folder: Path, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    pipe = galip.load(folder, engine="openvino", precision="auto", threads=1)
    (known,) = measured_precisions(digest_of(folder))
    assert pipe.backend.precision == known["auto"]
    assert known["engine"] == "openvino"
    assert known["threads"] == 1
    assert list(known["measured"]) == [name for name in openvino_precisions() if name != "int8"]
    assert known["measured"]["fp32"]["levels"] == 0
    assert known["measured"][known["auto"]]["levels"] <= MAX_LEVELS
    before = [path.stat().st_mtime_ns for path in (cache / "precision").glob("*.json")]
    galip.load(folder, engine="openvino", precision="auto", threads=1)
    assert before == [path.stat().st_mtime_ns for path in (cache / "precision").glob("*.json")]
    galip.load(folder, engine="openvino", precision="int8", threads=1)
    caplog.clear()
    galip.load(folder, engine="openvino", precision="auto", threads=1)  # int8 is there now, and is compared too
    assert "int8" in caplog.text
    assert len(measured_precisions(digest_of(folder))) == 1
    assert "int8" in measured_precisions(digest_of(folder))[0]["measured"]


class SlowedBackend(LinearBackend):
    """A backend that takes its time, and whose images are brighter by some levels of 255."""

    def __init__(self, seconds: float, levels: float) -> None:
        super().__init__()
        self.seconds, self.brighter = seconds, levels / 255 * 2

    def generate(self, z: FloatArray, e: FloatArray) -> FloatArray:
        time.sleep(self.seconds)
        return np.clip(super().generate(z, e), -0.9, 0.9) + np.float32(self.brighter)


@pytest.mark.parametrize(
    ("seconds", "levels", "chosen"),
    [(0.002, 1.5, "bf16"), (0.002, 2.5, "fp32"), (0.02, 1.5, "fp32")],
)
def test_what_auto_means(seconds: float, levels: float, chosen: str, cache: Path) -> None:
    opened = []

    def open_at(precision: str) -> TextToImage:
        opened.append(precision)
        return TextToImage(SlowedBackend(*((0.02, 0) if precision == "fp32" else (seconds, levels))))

    for _ in range(2):
        assert fastest_precision("0" * 32, {"engine": "linear"}, ("fp32", "bf16"), open_at) == chosen
    assert opened == ["fp32", "bf16"]
    (known,) = measured_precisions("0" * 32)
    assert known["measured"]["bf16"]["levels"] == pytest.approx(levels, abs=0.02)
    assert measured_precisions("1" * 32) == []


def test_a_damaged_or_forbidden_cache_is_measured_anew(cache: Path) -> None:
    def open_at(precision: str) -> TextToImage:
        return TextToImage(SlowedBackend(0, 0))

    machine = {"engine": "linear"}
    fastest_precision("0" * 32, machine, ("fp32",), open_at)
    (file,) = (cache / "precision").glob("*.json")
    file.write_text("{")
    assert fastest_precision("0" * 32, machine, ("fp32",), open_at) == "fp32"
    assert json.loads(file.read_text())["auto"] == "fp32"
    file.unlink()
    for path in (cache / "precision").iterdir():
        path.unlink()
    (cache / "precision").rmdir()
    (cache / "precision").write_text("in the way")
    assert fastest_precision("0" * 32, machine, ("fp32",), open_at) == "fp32"


def test_what_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="precision 'fp8': there is no such precision, use one of fp32, bf16"):
        galip.load(folder, precision="fp8")
    with pytest.raises(InputError, match="precision and dtype are given"):
        galip.load(folder, precision="bf16", dtype="bfloat16")
    with pytest.raises(InputError, match="precision int8: torch computes in fp32 and bf16 and fp16; use one of these"):
        galip.load(folder, engine="torch", precision="int8")
    with pytest.raises(InputError, match="precision bf16: onnxruntime computes in fp32 and int8"):
        galip.load(folder, engine="onnxruntime", precision="bf16")
    export(tiny.pipeline(), Source("tiny-32", folder), tmp_path / "fp32", "openvino")
    with pytest.raises(InputError, match="exported for floating point; give the one that it was made from"):
        galip.load(tmp_path / "fp32", precision="int8")
    export(tiny.pipeline(), Source("tiny-32", folder), tmp_path / "int8", "openvino", "int8", PROMPTS)
    with pytest.raises(InputError, match="exported for int8"):
        galip.load(tmp_path / "int8", precision="fp32")
    for asked in (None, "auto", "int8"):
        assert galip.load(tmp_path / "int8", precision=asked, threads=1).backend.precision == "int8"


def test_the_fixed_prompts_are_distinct() -> None:
    assert len(set(PROMPTS)) == len(PROMPTS) == 64
    assert lacking("torch", "bf16") is lacking("onnxruntime", "int8") is None
    pipe = TextToImage(LinearBackend(text_encoder=None))
    assert images_to_compare(pipe).shape == (16, 4, 4, 3)
