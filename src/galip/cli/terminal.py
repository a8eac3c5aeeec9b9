"""What a person sees on the terminal while work goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from galip.utils.progress import Progress


@contextmanager
def progress_bars(console: Console | None = None, shown: bool = True) -> Iterator[Progress]:
    """A progress callback that shows a bar with the time left for each stage; nothing where no person looks.

    Args:
        console: where; None: standard error.
        shown: whether this process shows anything at all.
    """
    console = console or Console(stderr=True)
    columns = (TextColumn("{task.description:>18}", markup=False), BarColumn(), MofNCompleteColumn())
    hidden = not (shown and console.is_terminal)
    with Bars(*columns, TimeRemainingColumn(), console=console, disable=hidden) as bars:
        tasks = {}

        def update(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total or None)
            bars.update(tasks[stage], completed=done, total=total or None)

        yield update
