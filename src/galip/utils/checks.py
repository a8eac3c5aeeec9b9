"""What is asked for, checked before expensive work: a choice among fixed values, a place to write to."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, get_args

from galip.errors import InputError

_MIN_FILE = 4096  # what the smallest file takes on most disks


def one_of(name: str, value: Any, choices: Any) -> Any:
    """`value`, which must be one of the values of a `Literal`.

    Args:
        name: of the argument, for the message.
        choices: the `Literal`.

    Raises:
        InputError: it is not; the message names the argument and its choices.
    """
    if value not in get_args(choices):
        raise InputError(f"{name} {value!r}: use one of {', '.join(map(str, get_args(choices)))}")
    return value


def check_folder(folder: Path, option: str = "-o") -> None:
    """Make sure that files can be written into a folder, or into one of that name that is made later.

    Raises:
        InputError: it is a file, or nothing can be written there; the message names the option.
    """
    if folder.is_dir():
        _check_writable(folder, f"{option} {folder}: nothing can be written there", "give another folder")
        return
    if os.path.lexists(folder):
        raise InputError(f"{option} {folder}: this is a file; give a folder")
    _check_writable(_existing(folder), f"{option} {folder}: it cannot be made", "give another folder")


def check_file(path: Path, option: str = "-o") -> None:
    """Make sure that a file can be written, in a folder that may be made later. A file that is there may be replaced.

    Raises:
        InputError: it is a folder, or nothing can be written there; the message names the option.
    """
    if path.is_dir():
        raise InputError(f"{option} {path}: this is a folder; give a file")
    _check_writable(_existing(path.absolute().parent), f"{option} {path}: it cannot be written there", "name another")


def check_space(folder: Path, files: int, option: str = "-o") -> None:
    """Make sure that a number of files, however small, has room on the disk.

    Raises:
        InputError: it has not; the message names the option.
    """
    free = shutil.disk_usage(_existing(folder.absolute())).free
    if files * _MIN_FILE > free:
        raise InputError(
            f"{option} {folder}: {files:,} files take {files * _MIN_FILE / 1e9:,.1f} GB or more, and {free / 1e9:,.1f} "
            "GB are free there; ask for fewer"
        )


def _existing(path: Path) -> Path:
    """The path itself, or the nearest of its parents that is there."""
    path = path.absolute()
    return next(place for place in (path, *path.parents) if os.path.lexists(place))


def _check_writable(folder: Path, problem: str, remedy: str) -> None:
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"{problem} ({error.strerror}); {remedy}") from error
