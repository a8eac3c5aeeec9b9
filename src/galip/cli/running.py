"""What the commands that generate share: a model that is loaded while the terminal says so, and what files tell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

from galip import __version__
from galip.errors import InputError
from galip.generation.load import load
from galip.model_repo.resolve import model_name, resolve
from galip.utils.terminal import Console

if TYPE_CHECKING:
    from galip.generation.pipeline import TextToImage

Item = TypeVar("Item")


def open_model(
    model: str,
    *,
    engine: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
) -> TextToImage:
    """Load a model while the terminal says so.

    Args: as for `galip.load`.

    Raises:
        GalipError: as `galip.load`.
    """
    with Console(stderr=True).status(f"Loading {model} ..."):
        return load(model, engine=engine, device=device, dtype=dtype, precision=precision, threads=threads)


def texts_of(model: str, weights: str, truncation: float | None = None, precision: str | None = None) -> dict[str, str]:
    """What every file tells of the model and the program that made it."""
    texts = {"model": model_name(model), "weights": weights}
    if truncation is not None:
        texts["truncation"] = f"{truncation:g}"
    if precision not in (None, "fp32"):
        texts["precision"] = str(precision)
    return texts | {"galip": __version__}


def counted(items: Iterable[Item], update: Callable[[int], None]) -> Iterator[Item]:
    """The items one by one; `update` is told how many have been dealt with."""
    for number, item in enumerate(items, 1):
        yield item
        update(number)


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
