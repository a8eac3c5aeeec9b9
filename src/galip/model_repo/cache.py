"""Graphs of models that have none of their own, in the user's cache: made once, by whichever process comes first."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from galip.errors import GalipError
from galip.model_repo.export_folder import FORMAT
from galip.model_repo.fingerprint import source_digest
from galip.model_repo.format import INDEX, NETWORKS, TOKENIZER
from galip.model_repo.graphs import has_graphs
from galip.utils.atomic import atomic_folder

_MOST_KEPT = 8
"""Models that stay; the one that was used longest ago makes room for a ninth."""


def cache_folder() -> Path:
    """Where graphs are kept: `GALIP_CACHE`, or a folder galip in the system's place for caches."""
    if given := os.environ.get("GALIP_CACHE"):
        return Path(given).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "galip"


def cached(source: Path, add_graphs: Callable[[Path], object]) -> Path:
    """The copy of a model folder that has graphs, made now if it is not there yet.

    A copy of the weights belongs to it, since graphs cannot refer to files elsewhere. Processes that ask for the same
    model at the same time wait for the first one. What is damaged is made anew.

    Args:
        source: the model folder; what it holds, not its name, decides.
        add_graphs: writes the graphs into the copy, whose folder it is given.

    Raises:
        GalipError: the cache cannot be written.
    """
    folder = _place(source)

    def write() -> None:
        with atomic_folder(folder) as unfinished:
            _copy(source, unfinished)
            add_graphs(unfinished)

    made_once(folder, _whole, write)
    return folder


def made_once(folder: Path, whole: Callable[[Path], bool], write: Callable[[], object]) -> None:
    """Make a folder of the cache unless it is there; processes that ask at the same time wait for the first one.

    Args:
        folder: where it is to be.
        whole: whether it is there and whole.
        write: writes it, whole or not at all.

    Raises:
        GalipError: the cache cannot be written.
    """
    if whole(folder):
        touch(folder)
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f".{folder.name}.lock"):
            if not whole(folder):  # another process may have made it while this one waited
                write()
                make_room(folder)
    except OSError as error:
        raise GalipError(
            f"{folder.parent}: graphs cannot be kept there ({error.strerror or error}); set GALIP_CACHE to a folder "
            "that can be written, or use the engine torch"
        ) from error


def is_cached(source: Path) -> bool:
    """Whether the graphs of a model are in the cache."""
    return _whole(_place(source))


def _place(source: Path) -> Path:
    return cache_folder() / "models" / f"{source_digest(source)}-{FORMAT}"


def _copy(source: Path, folder: Path) -> None:
    shutil.copyfile(source / INDEX, folder / INDEX)
    for part in (*NETWORKS, TOKENIZER):
        if (source / part).is_dir():
            shutil.copytree(source / part, folder / part)


def _whole(folder: Path) -> bool:
    try:
        return has_graphs(folder)
    except GalipError:
        return False


def touch(folder: Path) -> None:
    """Note that a folder of the cache has been used."""
    try:
        os.utime(folder)
    except OSError:  # a cache that may only be read is as good
        return


def make_room(newest: Path) -> None:
    """Remove what was used longest ago beside a folder of the cache that has just been written."""
    place = newest.parent
    others = [path for path in place.iterdir() if path.is_dir() and not path.name.startswith(".") and path != newest]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for old in others[_MOST_KEPT - 1 :]:
        shutil.rmtree(old, ignore_errors=True)
