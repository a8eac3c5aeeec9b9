"""A run folder has one owner at a time, and nothing unfinished stays in it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from training import toy
from training.toy import open_run

from galip.errors import GalipError
from galip.training.run_folder import RunFolder
from galip.utils.atomic import unfinished_name

OWNER = """
import sys, time
from pathlib import Path
from galip.training.run_folder import RunFolder
with RunFolder(Path(sys.argv[1])).owned():
    print("owned", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def owner(tmp_path: Path) -> subprocess.Popen[str]:
    """Another process that trains in tmp_path/run."""
    process = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "owned\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_run_is_refused_by_name_until_the_first_has_gone(
    owner: subprocess.Popen[str], toy_data: Path, toy_clip: Path, tmp_path: Path
) -> None:
    config, run = toy.config(toy_data, toy_clip, schedule={"images": 8}), tmp_path / "run"
    for resume in (None, "latest"):
        with pytest.raises(GalipError, match=rf"run: another run trains in this folder \(process {owner.pid} on "):
            open_run(config, run, resume)
    owner.kill()
    owner.wait()
    open_run(config, run).fit()
    assert sorted(path.name for path in run.glob(".*")) == [".lock"]


def test_a_run_that_begins_between_opening_and_training_is_noticed(
    toy_data: Path, toy_clip: Path, tmp_path: Path
) -> None:
    config, run = toy.config(toy_data, toy_clip, schedule={"images": 8}), tmp_path / "run"
    late = open_run(config, run)
    with RunFolder(run).owned(), pytest.raises(GalipError, match="another run trains in this folder"):
        late.fit()
    open_run(config, run).fit()
    with pytest.raises(GalipError, match="has got other checkpoints since this run was opened"):
        late.fit()


def test_what_a_killed_run_left_unfinished_goes(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    open_run(toy.config(toy_data, toy_clip, schedule={"images": 4}), run).fit()
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    left = []
    for goal in ("config.yaml", "model", "checkpoints/images-000000004", "grids/images-000000004.png", "log.jsonl"):
        own = unfinished_name(run / goal)
        left.append(own.with_name(own.name.replace(f"-{os.getpid()}.", f"-{killed.pid}.")))
        left[-1].parent.mkdir(exist_ok=True)
        left[-1].touch()
    open_run(toy.config(toy_data, toy_clip, schedule={"images": 8}), run, resume="latest").fit()
    assert not [path for path in left if path.exists()]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(GalipError, match=r"file.*cannot be written"), RunFolder(tmp_path / "file").owned():
        time.sleep(0)
