from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from galip.utils import atomic


def left_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    goal = tmp_path / "a.json"
    with pytest.raises(KeyboardInterrupt), atomic.atomic_file(goal) as unfinished:  # noqa: PT012
        unfinished.write_text("half")
        raise KeyboardInterrupt
    assert left_in(tmp_path) == []
    atomic.write_json(goal, {"ä": 1}, indent=None)
    assert goal.read_bytes() == '{"ä": 1}\n'.encode()
    with pytest.raises(OSError, match="full"), atomic.atomic_file(goal) as unfinished:  # noqa: PT012
        unfinished.write_text("half")
        raise OSError("full")
    assert goal.read_bytes() == '{"ä": 1}\n'.encode()
    assert left_in(tmp_path) == ["a.json"]


def test_a_folder_replaces_the_earlier_one_only_when_it_is_whole(tmp_path: Path) -> None:
    goal = tmp_path / "model"
    with atomic.atomic_folder(goal) as unfinished:
        (unfinished / "old").touch()
    with pytest.raises(RuntimeError), atomic.atomic_folder(goal) as unfinished:  # noqa: PT012
        (unfinished / "new").touch()
        raise RuntimeError
    assert left_in(tmp_path) == ["model"]
    assert left_in(goal) == ["old"]
    with atomic.atomic_folder(goal) as unfinished:
        (unfinished / "new").touch()
    assert left_in(tmp_path) == ["model"]
    assert left_in(goal) == ["new"]


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_a_killed_writer_left_goes_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    goal = tmp_path / "a.txt"
    own = atomic.unfinished_name(goal).name
    dead = own.replace(f"-{os.getpid()}.", f"-{dead_process()}.")
    living = own.replace(f"-{os.getpid()}.", f"-{os.getppid()}.")
    other_goal = dead.replace("a.txt", "b.txt")
    for name in (dead, dead + ".mp4", living, other_goal):
        (tmp_path / name).touch()
    atomic.write_text(goal, "whole")
    assert left_in(tmp_path) == sorted([living, other_goal, "a.txt"])


@pytest.mark.parametrize("write", [atomic.atomic_file, atomic.atomic_folder])
def test_a_full_disk_is_named_by_the_goal(tmp_path: Path, write: Any) -> None:
    goal = tmp_path / "goal"
    with pytest.raises(OSError, match="No space left") as caught, write(goal):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as a write to a full disk says it, without a name
    assert caught.value.filename == str(goal)
    assert left_in(tmp_path) == []


def test_a_folder_is_cleared_of_all_that_killed_writers_left(tmp_path: Path) -> None:
    own = atomic.unfinished_name(tmp_path / "a.png").name
    dead = own.replace(f"-{os.getpid()}.", f"-{dead_process()}.")
    living = own.replace(f"-{os.getpid()}.", f"-{os.getppid()}.")
    aside = atomic.unfinished_name(tmp_path / "model.replaced").name.replace(f"-{os.getpid()}.", f"-{dead_process()}.")
    for name in (dead, dead.replace("a.png", "b.png"), living, own, ".hidden"):
        (tmp_path / name).touch()
    (tmp_path / aside).mkdir()
    with atomic.atomic_file(tmp_path / "c.png", durable=False) as unfinished:
        unfinished.touch()
    assert dead in left_in(tmp_path)  # files by the thousand do not look around
    atomic.clear_folder(tmp_path)
    assert left_in(tmp_path) == sorted([living, own, ".hidden", "c.png", "model"])


def test_a_folder_set_aside_by_a_killed_process_comes_back(tmp_path: Path) -> None:
    goal = tmp_path / "model"
    aside = atomic.unfinished_name(tmp_path / "model.replaced").name.replace(f"-{os.getpid()}.", f"-{dead_process()}.")
    (tmp_path / aside).mkdir()
    (tmp_path / aside / "old").touch()
    atomic.clear_unfinished(goal)
    assert left_in(goal) == ["old"]
    assert left_in(tmp_path) == ["model"]
