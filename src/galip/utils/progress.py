"""How long work tells how far it is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""`progress(stage, done, total)`: called as the work goes on, `done` steps of `total` in the named stage.

A total of 0 means that it is not known. `galip.utils.terminal.progress_bars` shows it on a terminal.
"""


def no_progress(stage: str, done: int, total: int) -> None:
    """The progress that nobody sees; the default where a caller gives none."""
