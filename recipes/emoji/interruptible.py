"""Long trainings: a checkpoint every few minutes, and SIGTERM or Ctrl-C ends after the step with a checkpoint."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch


class Interruptible:
    """The state of a training in one file.

    Args:
        path: of the checkpoint.
        seconds: between two checkpoints.

    Attributes:
        seconds_spent: by this and earlier processes.
    """

    def __init__(self, path: Path, seconds: float = 240.0) -> None:
        self.path, self.seconds = path, seconds
        self.stopping, self.begun, self.seconds_spent = False, False, 0.0
        self._saved = self._ticked = time.monotonic()
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "pid").write_text(f"{os.getpid()}\n")
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.stopping or not self.begun:
            raise SystemExit("stopped")
        self.stopping = True

    def load(self) -> dict[str, Any] | None:
        """What was saved last, if anything was."""
        if not self.path.exists():
            return None
        state: dict[str, Any] = torch.load(self.path, weights_only=True)
        self.seconds_spent = state["seconds"]
        return state

    def due(self) -> bool:
        """Whether to save now; call it once a step."""
        now, self.begun = time.monotonic(), True
        self.seconds_spent += now - self._ticked
        self._ticked = now
        return self.stopping or now - self._saved > self.seconds

    def save(self, state: dict[str, Any]) -> None:
        """Write the state whole; ends the process where it was asked to stop."""
        writing = self.path.with_suffix(".writing")
        torch.save({**state, "seconds": self.seconds_spent}, writing)
        writing.rename(self.path)
        self._saved = time.monotonic()
        if self.stopping:
            raise SystemExit(f"stopped; the same command goes on from {self.path}")
