"""What a run leaves to read: JSON lines, TensorBoard, sample grids, a progress bar."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LOG = "log.jsonl"


class RunLog:
    """Rows of numbers by images seen, as JSON lines and (where TensorBoard is installed) as its event files.

    Args:
        folder: the run folder.
        start: images seen at the start; rows beyond it, left by a run that was cut off, are dropped.
    """

    def __init__(self, folder: Path, start: int) -> None:
        self.path = folder / LOG
        if self.path.exists():
            kept = [line for line in self.path.read_text().splitlines() if _images_of(line) <= start]
            unfinished = self.path.with_suffix(".unfinished")
            unfinished.write_text("".join(line + "\n" for line in kept))
            os.replace(unfinished, self.path)
        self._writer = _tensorboard(folder / "tensorboard", start)

    def write(self, row: dict[str, Any]) -> None:
        """Append one row; it must hold `images`."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if self._writer is not None:
            for name, value in row.items():
                if name != "images":
                    self._writer.add_scalar(name, value, row["images"])

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _images_of(line: str) -> int:
    try:
        return int(json.loads(line)["images"])
    except (ValueError, KeyError):  # the last line of a run that was killed while writing it
        return 2**63


def _tensorboard(folder: Path, start: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=start + 1)


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


class ProgressLine:
    """Images seen of all, images a second, time left: a bar on a terminal, a line per log row elsewhere."""

    def __init__(self, total: int, start: int) -> None:
        self.console = Console(stderr=True)
        self.total, self._start, self._begun = total, start, time.monotonic()
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:.1f} images/s"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._task = self._bar.add_task("training", total=total, completed=start, rate=0.0, note="")
        self._bar.start()

    def rate(self, seen: int) -> float:
        """Images a second since this process began to train."""
        return (seen - self._start) / max(1e-9, time.monotonic() - self._begun)

    def update(self, seen: int) -> None:
        self._bar.update(self._task, completed=min(seen, self.total), rate=self.rate(seen))

    def note(self, seen: int, text: str) -> None:
        """Show what the last log row says."""
        self._bar.update(self._task, note=text)
        if not self.console.is_terminal:
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
