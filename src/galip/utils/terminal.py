"""What a person sees on the terminal. All text is printed as it is: no markup, no control characters, and what the
terminal cannot encode is replaced, whatever file, caption or card it comes from.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import rich.console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.status import Status
from rich.text import Text

from galip.utils.progress import Progress

# C0, DEL and C1; separators that a terminal takes for line ends; what changes the direction of writing.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def printable(text: object, keep: str = "") -> str:
    r"""A text with its control characters written out, such as `\x1b` or `\n`.

    Args:
        text: anything; `str` of it is taken.
        keep: control characters that stay.
    """
    return _CONTROL.sub(lambda found: found[0] if found[0] in keep else _escape(found[0]), str(text))


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def say(line: object = "") -> None:
    """Print a line of the result to standard output."""
    print(printable(line), flush=True)


def say_json(value: Any, indent: int | None = 2) -> None:
    """Print a value as JSON to standard output; in ASCII where the terminal cannot encode everything."""
    encoding = (getattr(sys.stdout, "encoding", None) or "ascii").lower().replace("-", "")
    print(json.dumps(value, indent=indent, ensure_ascii=encoding != "utf8"), flush=True)


def note(line: object) -> None:
    """Print a line about the work to standard error, above whatever moves there."""
    print(printable(line), file=sys.stderr, flush=True)


def amount(number: int, noun: str) -> str:
    """Such as "1 image", "2,000 images"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


class Console(rich.console.Console):
    """A console for tables and bars whose texts are printed as they are.

    Args:
        stderr: whether it prints to standard error.
        options: of rich's own console.
    """

    def __init__(self, stderr: bool = False, **options: Any) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """A text without markup and control characters; tables ask for each of their cells."""
        return super().render_str(printable(text, keep="\n"), **(options | {"markup": False, "emoji": False}))

    def status(self, status: Any, **options: Any) -> Status:
        """A line with something that turns, while the block runs."""
        return super().status(Text(printable(status)), **options)


class _Speed(ProgressColumn):
    """Steps a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}/s")


@contextmanager
def progress_bars(
    shown: bool = True, transient: bool = True, console: rich.console.Console | None = None
) -> Iterator[Progress]:
    """A progress callback that shows a bar for each stage; nothing for a stage of one step, or where no person looks.

    Args:
        shown: whether this process shows anything at all.
        transient: whether the bars go away at the end.
        console: where; None: standard error.
    """
    console = console or Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), _Speed())
    with Bars(
        *columns,
        TimeRemainingColumn(),
        console=console,
        transient=transient,
        disable=not (shown and console.is_terminal),
        redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),  # a pipe gets what is printed
    ) as bars:
        tasks = {}

        def update(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                if done >= total > 0:
                    return
                tasks[stage] = bars.add_task(printable(stage), total=total or None)
            bars.update(tasks[stage], completed=done, total=total or None)

        yield update


class _Notes(logging.Handler):
    """Messages of the package's loggers as lines."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except (TypeError, ValueError):
            self.handleError(record)
        else:
            note(f"Warning: {text}" if record.levelno >= logging.WARNING else text)


@contextmanager
def session() -> Iterator[None]:
    """What a command's process needs while it runs: streams that encode anything, messages and warnings as lines, and
    SIGTERM and SIGHUP as exceptions, so that what is unfinished is tidied away.
    """
    with ExitStack() as stack:
        stack.enter_context(_any_text(sys.stdout))
        stack.enter_context(_any_text(sys.stderr))
        stack.enter_context(_messages())
        stack.enter_context(_tidy_end())
        yield


@contextmanager
def _any_text(stream: Any) -> Iterator[None]:
    reconfigure = getattr(stream, "reconfigure", None)  # a stream that somebody has put there may be any
    if reconfigure is None:
        yield
        return
    before = stream.errors
    reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        if not stream.closed:
            reconfigure(errors=before)


@contextmanager
def _messages() -> Iterator[None]:
    def show(message: Warning | str, category: type[Warning], *_place: Any, **_options: Any) -> None:
        if issubclass(category, UserWarning) and not issubclass(category, FutureWarning | DeprecationWarning):
            note(f"Warning: {message}")

    logger, handler = logging.getLogger("galip"), _Notes()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = show
            yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@contextmanager
def _tidy_end() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    process = os.getpid()

    def end(number: int, frame: Any) -> None:
        if os.getpid() != process:  # a worker, forked from this process: it ends as if nothing had been set
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        sys.exit(128 + number)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        if handler is signal.SIG_DFL:  # nohup ignores SIGHUP, and so do we then
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
