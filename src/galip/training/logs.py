"""The numbers of a run as they are written: JSON lines, and whichever trackers are named."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import TensorBoardTracker, filter_trackers

from galip.errors import InputError
from galip.utils.atomic import write_bytes

logger = logging.getLogger(__name__)

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
        """Drop the rows beyond so many images, and lines that are not whole: the run goes on from a checkpoint."""
        if not self.path.exists():
            return
        lines = self.path.read_bytes().splitlines()
        rows = [images_of_row(line) for line in lines]
        broken = sum(row is None for row in rows)
        if broken:
            logger.warning("%s: %d broken line(s) are left out", self.path, broken)
        kept = [line for line, row in zip(lines, rows, strict=True) if row is not None and row <= images]
        write_bytes(self.path, b"".join(line + b"\n" for line in kept))

    def write(self, row: Mapping[str, float]) -> None:
        """Append one row; it must hold `images`."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        values = {name: value for name, value in row.items() if name != "images"}
        self._accelerator.log(values, step=int(row["images"]))

    def close(self) -> None:
        """End the trackers."""
        for tracker in self._accelerator.trackers:
            tracker.finish()
        self._accelerator.trackers = []


def images_of_row(line: bytes) -> int | None:
    """The images that a line of the log is about; None where it is not a whole row."""
    try:
        return int(json.loads(line)["images"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


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
            raise InputError(f"logging.trackers names {name}, which is not installed; pip install {name}")
    return usable


class Averages:
    """Means of named numbers since the last `take`."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._count = 0

    def add(self, row: Mapping[str, float]) -> None:
        """Take the numbers of a step in."""
        for name, value in row.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1

    def take(self) -> dict[str, float]:
        """The means, and begin anew."""
        means = {name: value / max(1, self._count) for name, value in self._sums.items()}
        self._sums, self._count = {}, 0
        return means

    def state(self) -> dict[str, Any]:
        """For a checkpoint between two rows, so that a resumed run logs the same means."""
        return {"sums": dict(self._sums), "count": self._count}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        self._sums, self._count = dict(state["sums"]), int(state["count"])
