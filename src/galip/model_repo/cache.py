"""Converted models in the user's cache: made once for each model, by whichever process comes first."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from galip.errors import GalipError
from galip.model_repo.export_folder import FORMAT, Kind, read_manifest
from galip.model_repo.fingerprint import source_digest

_MOST_KEPT = 8
"""Converted models that stay; the one that was used longest ago makes room for a ninth."""


def cache_folder() -> Path:
    """Where converted models are kept: `GALIP_CACHE`, or a folder galip in the system's place for caches."""
    if given := os.environ.get("GALIP_CACHE"):
        return Path(given).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "galip"


def cached(source: Path, kind: Kind, convert: Callable[[Path], object]) -> Path:
    """The folder of a model converted for an engine, converted now if it is not there yet.

    Processes that ask for the same model at the same time wait for the first one. What is damaged is made anew.

    Args:
        source: the model folder; what it holds, not its name, decides.
        kind: "onnx" or "openvino".
        convert: writes the exported model to the folder that it is given.

    Raises:
        GalipError: the cache cannot be written.
    """
    place = cache_folder() / "engines"
    folder = place / f"{source_digest(source)}-{kind}-{FORMAT}"
    if _whole(folder):
        _touch(folder)
        return folder
    try:
        place.mkdir(parents=True, exist_ok=True)
        lock = FileLock(place / f".{folder.name}.lock")
        with lock:
            if not _whole(folder):  # another process may have made it while this one waited
                convert(folder)
                _make_room(place, folder)
    except OSError as error:
        raise GalipError(
            f"{place}: converted models cannot be kept there ({error.strerror or error}); set GALIP_CACHE to a folder "
            "that can be written, or use the engine torch"
        ) from error
    return folder


def is_cached(source: Path, kind: Kind) -> bool:
    """Whether a model has been converted already."""
    return _whole(cache_folder() / "engines" / f"{source_digest(source)}-{kind}-{FORMAT}")


def _whole(folder: Path) -> bool:
    try:
        read_manifest(folder)
    except GalipError:
        return False
    return True


def _touch(folder: Path) -> None:
    try:
        os.utime(folder)
    except OSError:  # a cache that may only be read is as good
        return


def _make_room(place: Path, newest: Path) -> None:
    others = [path for path in place.iterdir() if path.is_dir() and not path.name.startswith(".") and path != newest]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for old in others[_MOST_KEPT - 1 :]:
        shutil.rmtree(old, ignore_errors=True)
