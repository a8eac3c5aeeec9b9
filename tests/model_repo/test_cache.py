"""Graphs in the user's cache: once, whole, and for these very weights."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from pathlib import Path

import pytest
import tiny

from galip.errors import GalipError
from galip.model_repo.cache import cache_folder, cached, is_cached
from galip.model_repo.graphs import copy_graphs

pytestmark = pytest.mark.engines


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with graphs, which are those of every model of its structure."""
    return tiny.save(tmp_path_factory.mktemp("made") / "model", graphs=True)


@pytest.fixture(autouse=True)
def _cache(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GALIP_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny.save(tmp_path / "model")


@pytest.fixture
def exporter(made: Path) -> Exporter:
    return Exporter(made)


class Exporter:
    def __init__(self, made: Path) -> None:
        self.made, self.calls = made, 0

    def __call__(self, folder: Path) -> None:
        self.calls += 1
        copy_graphs(self.made, folder)


def test_it_is_made_once_for_what_the_folder_holds(model: Path, exporter: Exporter, tmp_path: Path) -> None:
    assert not is_cached(model)
    first = cached(model, exporter)
    assert is_cached(model)
    moved = Path(shutil.copytree(model, tmp_path / "moved"))
    assert cached(moved, exporter) == first
    assert exporter.calls == 1
    other = tiny.save(tmp_path / "other", seed=1)
    assert cached(other, exporter) != first
    assert exporter.calls == 2


def test_what_is_damaged_is_made_anew(model: Path, exporter: Exporter) -> None:
    folder = cached(model, exporter)
    (folder / "generator.onnx").write_bytes(b"half")
    assert cached(model, exporter) == folder
    assert exporter.calls == 2
    assert is_cached(model)


def test_a_second_one_waits_for_the_first(model: Path, made: Path) -> None:
    class Slow(Exporter):
        def __call__(self, out: Path) -> None:
            time.sleep(0.3)
            super().__call__(out)

    exporter, found = Slow(made), []
    threads = [threading.Thread(target=lambda: found.append(cached(model, exporter))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert exporter.calls == 1
    assert len(found) == 3 and len(set(found)) == 1


def test_an_export_that_fails_leaves_nothing(model: Path, exporter: Exporter) -> None:
    def fail(_out: Path) -> None:
        raise GalipError("no")

    with pytest.raises(GalipError, match="no"):
        cached(model, fail)
    assert not is_cached(model)
    assert cached(model, exporter).is_dir()


def test_the_cache_does_not_grow_for_ever(model: Path, exporter: Exporter) -> None:
    place = cache_folder() / "models"
    for i in range(10):
        (place / f"old-{i}").mkdir(parents=True)
    folder = cached(model, exporter)
    kept = [path for path in place.iterdir() if path.is_dir()]
    assert len(kept) == 8
    assert folder in kept


def test_a_cache_that_cannot_be_written(
    model: Path, exporter: Exporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GALIP_CACHE", str(tmp_path / "file"))
    with pytest.raises(GalipError, match="set GALIP_CACHE to a folder that can be written"):
        cached(model, exporter)


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
