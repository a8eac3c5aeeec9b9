"""What `auto` means."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import tiny

from galip.errors import GalipError, InputError
from galip.generation import select
from galip.generation.select import DEFAULT_ENGINE, ENGINES, check_engine, choose, engine_for, has_gpu, require_engine

pytestmark = pytest.mark.engines


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Which engines' packages this machine has, as far as the choice can see; and no GPU."""
    there = {"torch", "openvino", "onnxruntime"}
    monkeypatch.setattr(select, "is_installed", there.__contains__)
    monkeypatch.setattr(select, "_may_have_gpu", lambda: False)
    return there


def test_the_fastest_that_is_installed(packages: set[str], tmp_path: Path) -> None:
    assert choose(tmp_path).engine == "openvino"
    assert choose(tmp_path, "cpu").engine == "openvino"
    packages.remove("openvino")
    assert choose(tmp_path).engine == "onnxruntime"
    assert "openvino is faster" in choose(tmp_path).reason


def test_a_gpu_is_torchs(packages: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose(tmp_path, "cuda:1").engine == "torch"
    monkeypatch.setattr(select, "has_gpu", lambda: True)
    assert choose(tmp_path).engine == "torch"
    assert choose(tmp_path, "cpu").engine == "openvino"


def test_torch_is_asked_about_gpus_only_where_there_may_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(select, "_may_have_gpu", lambda: False)
    assert not has_gpu()
    monkeypatch.setattr(select, "_may_have_gpu", lambda: True)
    assert has_gpu()


def test_an_exported_model_has_its_engine(packages: set[str], tmp_path: Path) -> None:
    from galip.export.exporting import Source, export

    folder = tiny.save(tmp_path / "model")
    for kind, engine in (("openvino", "openvino"), ("onnx", "onnxruntime")):
        export(tiny.pipeline(), Source("tiny", folder), tmp_path / kind, kind)
        assert choose(tmp_path / kind).engine == engine
        assert choose(tmp_path / kind, "cuda").engine == engine


def test_engines_that_do_not_exist() -> None:
    for engine in (None, "auto", *ENGINES):
        check_engine(engine)
    with pytest.raises(InputError, match="engine 'warp': .*use one of onnxruntime, openvino, torch, compile, auto"):
        check_engine("warp")


def test_an_engine_is_what_is_asked_for(packages: set[str], tmp_path: Path) -> None:
    assert engine_for(tmp_path, None) == engine_for(tmp_path, None, "cpu") == DEFAULT_ENGINE
    assert engine_for(tmp_path, None, "cuda") == engine_for(tmp_path, None, None, "float16") == "torch"
    assert engine_for(tmp_path, "auto", None, "float16") == engine_for(tmp_path, "auto", "cuda") == "torch"
    assert engine_for(tmp_path, "auto") == "openvino"
    assert engine_for(tmp_path, "onnxruntime", "cuda") == "onnxruntime"  # which check_fits refuses


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    require_engine("openvino")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(GalipError, match=r"engine openvino needs openvino, .* pip install '\.\[openvino\]'"):
        require_engine("openvino")


def test_looking_for_packages_imports_none() -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom galip.generation.select import choose\nchoose(Path('.'), 'cpu')\n"
        "print([m for m in ('torch', 'openvino', 'onnx', 'onnxruntime') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
