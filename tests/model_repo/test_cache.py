"""Converted models in the user's cache: once, whole, and for these very weights."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from pathlib import Path

import pytest
import tiny

from galip.errors import GalipError
from galip.export.exporting import Source, export
from galip.model_repo.cache import cache_folder, cached, is_cached

pytestmark = pytest.mark.engines


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GALIP_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny.save(tmp_path / "model")


class Converter:
    def __init__(self, model: Path) -> None:
        self.model, self.calls = model, 0

    def __call__(self, out: Path) -> None:
        self.calls += 1
        export(tiny.pipeline(), Source("tiny", self.model), out, "onnx")


def test_it_is_made_once_for_what_the_folder_holds(model: Path, tmp_path: Path) -> None:
    convert = Converter(model)
    assert not is_cached(model, "onnx")
    first = cached(model, "onnx", convert)
    assert is_cached(model, "onnx")
    assert not is_cached(model, "openvino")
    moved = Path(shutil.copytree(model, tmp_path / "moved"))
    assert cached(moved, "onnx", convert) == first
    assert convert.calls == 1
    other = tiny.save(tmp_path / "other", seed=1)
    assert cached(other, "onnx", convert) != first
    assert convert.calls == 2


def test_what_is_damaged_is_made_anew(model: Path) -> None:
    convert = Converter(model)
    folder = cached(model, "onnx", convert)
    (folder / "generator.onnx").write_bytes(b"half")
    assert cached(model, "onnx", convert) == folder
    assert convert.calls == 2
    assert is_cached(model, "onnx")


def test_a_second_one_waits_for_the_first(model: Path) -> None:
    class Slow(Converter):
        def __call__(self, out: Path) -> None:
            time.sleep(0.3)
            super().__call__(out)

    convert, found = Slow(model), []
    threads = [threading.Thread(target=lambda: found.append(cached(model, "onnx", convert))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert convert.calls == 1
    assert len(found) == 3 and len(set(found)) == 1


def test_a_conversion_that_fails_leaves_nothing(model: Path) -> None:
    def fail(_out: Path) -> None:
        raise GalipError("no")

    with pytest.raises(GalipError, match="no"):
        cached(model, "onnx", fail)
    assert not is_cached(model, "onnx")
    assert cached(model, "onnx", Converter(model)).is_dir()


def test_the_cache_does_not_grow_for_ever(model: Path) -> None:
    convert = Converter(model)
    place = cache_folder() / "engines"
    for i in range(10):
        (place / f"old-{i}").mkdir(parents=True)
    folder = cached(model, "onnx", convert)
    kept = [path for path in place.iterdir() if path.is_dir()]
    assert len(kept) == 8
    assert folder in kept


def test_a_cache_that_cannot_be_written(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GALIP_CACHE", str(tmp_path / "file"))
    with pytest.raises(GalipError, match="set GALIP_CACHE to a folder that can be written"):
        cached(model, "onnx", Converter(model))


@pytest.mark.parametrize(
    ("platform", "variable", "rest"),
    [("linux", "XDG_CACHE_HOME", ("galip",)), ("win32", "LOCALAPPDATA", ("galip",))],
)
def test_where_it_is(
    platform: str, variable: str, rest: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GALIP_CACHE")
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv(variable, str(tmp_path))
    assert cache_folder() == tmp_path.joinpath(*rest)
