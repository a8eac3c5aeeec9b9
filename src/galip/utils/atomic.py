"""Files and folders that are written whole or not at all. Nothing else in the package renames its way to a result.

What is being written has a hidden name beside its goal, `.NAME.HOST-PID.part`, and gets its place by a rename at the
end. A kill may leave such a name behind; the next writer of the same goal removes it (`clear_unfinished`).
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import time
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
_PART = re.compile(r"\.(?P<name>.+)\.(?P<host>[0-9a-f]{8})-(?P<pid>\d+)\.part")
_STALE_AFTER = 24 * 3600.0
"""Seconds after which another machine's unfinished file is taken for abandoned."""


def unfinished_name(path: Path, begin_in: Path | None = None) -> Path:
    """Where this process writes what will become `path`.

    Args:
        path: the goal.
        begin_in: a folder of the same file system; the goal's own by default.
    """
    return (begin_in or path.parent) / f".{path.name}.{_HOST}-{os.getpid()}.part"


@contextmanager
def atomic_file(path: Path, begin_in: Path | None = None, suffix: str = "", durable: bool = True) -> Iterator[Path]:
    """A path to write to that becomes `path` when the block ends without an error.

    A file that is there is replaced; after an error it is as it was.

    Args:
        path: the goal.
        begin_in: a folder of the same file system where the file is written until it is whole; the goal's own by
            default.
        suffix: an ending that the writing library wants to see, such as ".mp4".
        durable: bring the file to the disk before it gets its name, so that a power failure leaves no empty one, and
            clear what killed writers of it left. False for files by the thousand: `clear_folder` clears for them all.

    Raises:
        OSError: it cannot be written.
    """
    if durable:
        clear_unfinished(path, begin_in)
    unfinished = unfinished_name(path, begin_in)
    unfinished = unfinished.with_name(unfinished.name + suffix)
    try:
        with _named(path):
            yield unfinished
            if durable:
                _sync(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A new, empty folder that becomes `path` when the block ends without an error.

    A folder that is there is replaced; after an error it is as it was.

    Raises:
        OSError: it cannot be written.
    """
    path = Path(os.path.abspath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    clear_unfinished(path)
    unfinished = unfinished_name(path)
    replaced = unfinished_name(path.with_name(f"{path.name}.replaced"))
    try:
        unfinished.mkdir()
        with _named(path):
            yield unfinished
        if path.exists():
            path.rename(replaced)
        try:
            unfinished.rename(path)
        except OSError:
            if replaced.exists():
                replaced.rename(path)
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Name the goal in errors such as a full disk's, which name no file."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_bytes(path: Path, content: bytes, begin_in: Path | None = None, durable: bool = True) -> None:
    """Write a file whole; see `atomic_file`."""
    with atomic_file(path, begin_in, durable=durable) as unfinished:
        unfinished.write_bytes(content)


def write_text(path: Path, content: str, begin_in: Path | None = None) -> None:
    """Write a UTF-8 text file whole, line ends as they are; see `atomic_file`."""
    write_bytes(path, content.encode("utf-8"), begin_in)


def write_json(path: Path, value: Any, indent: int | None = 1, begin_in: Path | None = None) -> None:
    """Write a JSON file whole; see `atomic_file`."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=indent) + "\n", begin_in)


def clear_unfinished(path: Path, begin_in: Path | None = None) -> None:
    """Remove what killed writers of `path` left beside it; what a living process writes stays."""
    _clear(begin_in or path.parent, f".{path.name}.", {path.name, f"{path.name}.replaced"})


def clear_folder(folder: Path) -> None:
    """Remove what killed writers of any file or folder in `folder` left; what a living process writes stays."""
    _clear(folder, ".", None)


def _clear(folder: Path, prefix: str, goals: Container[str] | None) -> None:
    try:
        found = [entry for entry in os.listdir(folder) if entry.startswith(prefix)]
    except OSError:
        return
    for entry in found:
        match = _PART.match(entry)
        if match is None or (goals is not None and match["name"] not in goals):
            continue
        left = folder / entry
        if match["host"] == _HOST:
            abandoned = int(match["pid"]) != os.getpid() and not is_alive(int(match["pid"]))
        else:
            abandoned = _age(left) > _STALE_AFTER
        if not abandoned:
            continue
        goal, is_replaced = re.subn(r"\.replaced$", "", match["name"])
        if is_replaced and (goals is None or goal in goals) and not (folder / goal).exists() and left.is_dir():
            left.rename(folder / goal)  # killed between the two renames: the earlier folder is the whole one
        elif left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def is_alive(pid: int) -> bool:
    """Whether a process of this machine runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def _sync(path: Path) -> None:
    """Bring a file to the disk before it gets its name: a power failure must not leave an empty name."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
