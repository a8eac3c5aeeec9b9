"""What a run leaves to read: JSON lines, trackers, environment, sample grids, a progress bar."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import TensorBoardTracker, filter_trackers
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from galip.errors import InputError
from galip.utils.provenance import git_revision, versions

LOG = "log.jsonl"


class RunLog:
    """Rows of numbers by images seen: JSON lines always, and whichever of Accelerate's trackers are named.

    Args:
        folder: the run folder.
        start: images seen at the start; rows beyond it, left by a run that was cut off, are dropped.
        accelerator: Accelerate's object, which holds the trackers.
        trackers: "tensorboard", "wandb", "trackio".
        config: the run's configuration as plain values, for the trackers.
    """

    def __init__(
        self, folder: Path, start: int, accelerator: Accelerator, trackers: Sequence[str], config: dict[str, Any]
    ) -> None:
        self.path = folder / LOG
        self.rewind(start)
        self._accelerator = accelerator
        named = [name for name in trackers if name != "tensorboard"]
        accelerator.log_with = filter_trackers(named) if named else []
        if "tensorboard" in trackers:  # its events go to folder/tensorboard, without the ones beyond `start`
            accelerator.log_with.append(TensorBoardTracker("tensorboard", str(folder), purge_step=start + 1))
        accelerator.init_trackers("galip", init_kwargs={"wandb": {"dir": str(folder), "name": folder.name}})
        for tracker in accelerator.trackers:
            if tracker.name != "tensorboard":  # it takes flat values only; config.yaml lies beside its events
                tracker.store_init_configuration(config)

    def rewind(self, images: int) -> None:
        """Drop the rows beyond so many images: the run goes on from an earlier checkpoint."""
        if self.path.exists():
            kept = [line for line in self.path.read_text().splitlines() if _images_of(line) <= images]
            unfinished = self.path.with_suffix(".unfinished")
            unfinished.write_text("".join(line + "\n" for line in kept))
            os.replace(unfinished, self.path)

    def write(self, row: dict[str, Any]) -> None:
        """Append one row; it must hold `images`."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self._accelerator.log({name: value for name, value in row.items() if name != "images"}, step=row["images"])

    def close(self) -> None:
        for tracker in self._accelerator.trackers:
            tracker.finish()
        self._accelerator.trackers = []


class NoLog:
    """What the other processes have in place of a `RunLog`."""

    def rewind(self, images: int) -> None:
        """Nothing is written here."""

    def write(self, row: dict[str, Any]) -> None:
        """Nothing is written here."""

    def close(self) -> None:
        """Nothing is open."""


def check_trackers(trackers: Sequence[str]) -> list[str]:
    """Those of `trackers` that can be used.

    TensorBoard is the default and left out where it is not installed; the others are there because somebody wants them.

    Raises:
        InputError: another one is not installed.
    """
    usable = []
    for name in trackers:
        if find_spec(name) is not None:
            usable.append(name)
        elif name != "tensorboard":
            raise InputError(f"run.trackers names {name}, which is not installed; pip install {name}")
    return usable


def environment(folder: Path, about: dict[str, Any]) -> None:
    """Write `environment.json`: versions, git revision of the working directory, machine, and `about`."""
    facts = {
        "versions": versions() | {"python": platform.python_version()},
        "machine": platform.platform(),
        "git_revision": git_revision(),
    }
    _write(folder / "environment.json", facts | about)


def remember_start(folder: Path, model: Path) -> None:
    """Write `start.json`: the model that a run starts from, and what that one's `training.json` says, if it has one.

    The model may be replaced while the run goes on, by an export of this very run for example.
    """
    training = model / "training.json"
    said = json.loads(training.read_text(encoding="utf-8")) if training.is_file() else {}
    _write(folder / "start.json", {"model": str(model), "training": said})


def _write(path: Path, content: dict[str, Any]) -> None:
    unfinished = path.with_name(f".unfinished-{path.name}")
    unfinished.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(unfinished, path)


def _images_of(line: str) -> int:
    try:
        return int(json.loads(line)["images"])
    except (ValueError, KeyError, TypeError):  # the last line of a run that was killed while writing it
        return 2**63


class Averages:
    """Means of named numbers since the last `take`."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._count = 0

    def add(self, row: dict[str, float]) -> None:
        for name, value in row.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1

    def take(self) -> dict[str, float]:
        means = {name: value / max(1, self._count) for name, value in self._sums.items()}
        self._sums, self._count = {}, 0
        return means

    def state(self) -> dict[str, Any]:
        """For a checkpoint between two rows, so that a resumed run logs the same means."""
        return {"sums": dict(self._sums), "count": self._count}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        self._sums, self._count = dict(state["sums"]), int(state["count"])


class ProgressLine:
    """Images seen of all, images a second, time left: a bar on a terminal, a line per log row elsewhere.

    Args:
        total, start: images of the whole run, and seen at the start.
        shown: whether this process is the one that shows it.
        console: where.
    """

    def __init__(self, total: int, start: int, shown: bool = True, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self._shown = shown
        self.total, self._start, self._begun = total, start, time.monotonic()
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:.1f} images/s"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            disable=not (shown and self.console.is_terminal),
        )
        self._task = self._bar.add_task("training", total=total, completed=start, rate=0.0, note="")
        self._bar.start()

    def rate(self, seen: int) -> float:
        """Images a second since this process began to train."""
        return (seen - self._start) / max(1e-9, time.monotonic() - self._begun)

    def restart(self, seen: int) -> None:
        """Go on counting from an earlier place."""
        self._start, self._begun = seen, time.monotonic()

    def update(self, seen: int) -> None:
        self._bar.update(self._task, completed=min(seen, self.total), rate=self.rate(seen))

    def note(self, seen: int, text: str) -> None:
        """Show what the last log row says."""
        self._bar.update(self._task, note=text)
        if self._shown and not self.console.is_terminal:
            rate = self.rate(seen)
            left = (self.total - seen) / max(rate, 1e-9) / 60
            self.console.print(f"{seen}/{self.total} images, {rate:.1f}/s, {left:.0f} min left; {text}", soft_wrap=True)

    def close(self) -> None:
        self._bar.stop()


def save_grid(pictures: Sequence[Image.Image], columns: int, path: Path) -> None:
    """Lay pictures of one size out in rows of `columns` and write them under a temporary name first."""
    width, height = pictures[0].size
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    for number, picture in enumerate(pictures):
        sheet.paste(picture, (number % columns * width, number // columns * height))
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".unfinished-{path.name}")
    sheet.save(unfinished)
    os.replace(unfinished, path)
