"""What the commands that draw share: places that can be written to, progress and warnings on the terminal."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from galip import __version__
from galip.errors import InputError
from galip.generation.load import load
from galip.model_repo.resolve import model_name, resolve

if TYPE_CHECKING:
    from galip.generation.pipeline import TextToImage

Item = TypeVar("Item")


def texts_of(model: str, weights: str, truncation: float) -> dict[str, str]:
    """What every file tells of the model and the program that made it."""
    return {"model": model_name(model), "weights": weights, "truncation": f"{truncation:g}", "galip": __version__}


def open_model(
    model: str, device: str | None, engine: str, threads: int | None, console: Console, dtype: str | None = None
) -> TextToImage:
    """Load a model while the terminal says so."""
    with console.status(f"Loading {model} ..."):
        return load(model, device=device, dtype=dtype, engine=engine, threads=threads)


def line_to(console: Console) -> Callable[[str], None]:
    """Prints a line above whatever moves on the terminal."""
    return lambda line: console.print(line, markup=False, soft_wrap=True)


@contextmanager
def plain_warnings(console: Console) -> Iterator[None]:
    """Show warnings as one line each, above the progress bar, instead of with a place in our code."""

    def show(message: Warning | str, category: type[Warning], *_place: Any, **_options: Any) -> None:
        if issubclass(category, UserWarning) and not issubclass(category, FutureWarning | DeprecationWarning):
            console.print(f"Warning: {message}", markup=False, soft_wrap=True)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


@contextmanager
def progress_bar(console: Console, title: str, total: int, at_once: int) -> Iterator[Callable[[int], None]]:
    """A bar on the terminal, told how many are done; none where everything is one batch's work, or for no person."""
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]}"))
    hidden = total <= at_once or not console.is_terminal
    started = time.monotonic()
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=hidden) as progress:
        task = progress.add_task("", total=total, speed="")

        def update(done: int) -> None:
            progress.update(task, completed=done, speed=f"{done / max(time.monotonic() - started, 1e-9):.1f}/s")

        yield update


def counted(items: Iterable[Item], update: Callable[[int], None]) -> Iterator[Item]:
    """The items one by one, with the bar moved after each that has been dealt with."""
    for number, item in enumerate(items, 1):
        yield item
        update(number)


def amount(number: int, noun: str) -> str:
    """Such as "1 picture", "2 pictures"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def shown_seeds(seeds: Sequence[int]) -> str:
    """Seeds as an option would name them: "0-3" or "1,5,9"."""
    if len(seeds) > 1 and seeds[-1] - seeds[0] == len(seeds) - 1:
        return f"{seeds[0]}-{seeds[-1]}"
    return ",".join(map(str, seeds))


def check_clip(name: str) -> None:
    """Make sure that the value of --clip can be a CLIP's name, before anything is loaded.

    Raises:
        InputError: it is neither a bundled model's name nor a folder, nor looks like a hub id.
    """
    try:
        resolve(name)
    except InputError as error:
        raise InputError(
            f"--clip {name}: there is no such folder; give a folder with a CLIP, a model's name or folder, or a hub id"
        ) from error


def check_folder(out: Path) -> None:
    """Make an output folder and make sure that files can be written there, before the expensive part begins.

    Raises:
        InputError: they cannot be.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"-o {out}: this is a file; give a folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise InputError(
            f"-o {out}: pictures cannot be written there ({error.strerror}); give another folder"
        ) from error


def check_file(path: Path, suffix: str) -> None:
    """Make sure that a file can be written, before the expensive part begins. The folder that holds it is made.

    Raises:
        InputError: it cannot be, or has another ending.
    """
    if path.suffix.lower() != suffix:
        raise InputError(f"-o {path}: a {suffix} file is written; name it so")
    if path.is_dir():
        raise InputError(f"-o {path}: this is a folder; give a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise InputError(f"-o {path}: it cannot be written there ({error.strerror}); give another place") from error
