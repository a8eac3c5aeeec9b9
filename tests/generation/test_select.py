"""What `auto` means."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import tiny

from galip.errors import GalipError, InputError
from galip.generation import select
from galip.generation.engines import installed
from galip.generation.select import ENGINES, check_engine, choose, has_gpu, require_engine

pytestmark = pytest.mark.engines


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Which engines' packages this machine has, as far as the choice can see; and no GPU."""
    there = {"onnx", "openvino", "onnxruntime"}
    monkeypatch.setattr(select, "installed", there.__contains__)
    monkeypatch.setattr(select, "_may_have_gpu", lambda: False)
    return there


def test_the_fastest_that_is_installed(packages: set[str], tmp_path: Path) -> None:
    assert choose(tmp_path).engine == "openvino"
    assert choose(tmp_path, "cpu").engine == "openvino"
    packages.remove("openvino")
    assert choose(tmp_path).engine == "onnxruntime"
    packages.remove("onnxruntime")
    assert choose(tmp_path).engine == "torch"
    assert "galip[export]" in choose(tmp_path).reason
    packages.add("openvino")
    packages.remove("onnx")  # which conversion needs
    assert choose(tmp_path).engine == "torch"


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
    with pytest.raises(InputError, match="engine 'warp': .*use one of torch, compile, openvino, onnxruntime, auto"):
        check_engine("warp")


def test_what_is_missing_is_named(packages: set[str]) -> None:
    require_engine("openvino")
    packages.clear()
    with pytest.raises(
        GalipError, match=r"engine openvino: openvino and onnx not installed; pip install 'galip\[export\]'"
    ):
        require_engine("openvino")


def test_looking_for_packages_imports_none() -> None:
    assert not installed("no_such_package_anywhere")
    code = (
        "import sys\nfrom pathlib import Path\nfrom galip.generation.select import choose\nchoose(Path('.'), 'cpu')\n"
        "print([m for m in ('torch', 'openvino', 'onnx', 'onnxruntime') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
