"""Option values that more than one command reads."""

from __future__ import annotations

import math
import re
from typing import Annotated, get_args

import typer

from galip.errors import InputError
from galip.generation.noise import check_seed
from galip.utils.image_io import Resampling

MOST_SEEDS = 1_000_000
"""More seeds than this in one option are taken for a slip of the finger."""

EngineOption = Annotated[
    str,
    typer.Option(
        help="What runs the model: torch, compile, openvino, onnxruntime, or auto, the fastest that is installed. "
        "Pictures are the same."
    ),
]
"""--engine, for every command that draws."""

BATCH_SIZE = 16
"""Pictures drawn at once unless the user says otherwise."""

ModelOption = Annotated[str, typer.Option(help="A bundled model's name, a folder, or a hub id.")]
DeviceOption = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps. [default: a GPU if there is one]")]
ThreadsOption = Annotated[int | None, typer.Option(min=1, help="CPU threads. [default: the engine's own choice]")]
BatchSizeOption = Annotated[int, typer.Option(min=1, help="Pictures drawn at once; changes speed only.")]
TruncationOption = Annotated[
    float, typer.Option(help="Scale of the noise: below 1 for more typical, less varied pictures.")
]
SizeOption = Annotated[
    int | None, typer.Option(min=1, max=8192, help="Side of each picture in pixels. [default: the model's]")
]
ResampleOption = Annotated[
    str, typer.Option(help="How --size is reached: lanczos, or nearest, which shows the pixels.")
]

_PART = re.compile(r"([0-9]+)(?:-([0-9]+))?")


def parse_seeds(text: str) -> list[int]:
    """Read seeds such as "7", "0-3" (both ends included) or "0-3,7".

    Returns:
        The seeds in the order given, each once.

    Raises:
        InputError: if the text is no such list, a range runs backwards, a seed is repeated or out of range.
    """
    seeds: dict[int, None] = {}
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        if match is None:
            raise InputError(f"seeds {text!r}: {part!r} is no seed; write them like 7, 0-3 or 0-3,7")
        first = check_seed(int(match[1]))
        last = first if match[2] is None else check_seed(int(match[2]))
        if last < first:
            raise InputError(f"seeds {text!r}: the range {part.strip()} runs backwards")
        if len(seeds) + last - first >= MOST_SEEDS:
            raise InputError(f"seeds {text!r}: more than {MOST_SEEDS:,} of them")
        for seed in range(first, last + 1):
            if seed in seeds:
                raise InputError(f"seeds {text!r}: {seed} is there twice")
            seeds[seed] = None
    return list(seeds)


def check_truncation(truncation: float) -> None:
    """Make sure that the noise can be multiplied by it.

    Raises:
        InputError: it is not finite.
    """
    if not math.isfinite(truncation):
        raise InputError(f"--truncation {truncation}: give a finite number, 1 for the noise as it is")


def parse_numbers(option: str, text: str) -> list[float]:
    """Read numbers such as "-1,0,0.5".

    Raises:
        InputError: if the text is no such list; the message names the option.
    """
    numbers = []
    for part in text.split(","):
        try:
            number = float(part)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise InputError(f"{option} {text}: {part.strip()!r} is no number; write them like -1,0,0.5")
        numbers.append(number)
    return numbers


def check_resample(resample: str) -> Resampling:
    """How pictures are enlarged.

    Raises:
        InputError: there is no such way.
    """
    if resample not in get_args(Resampling):
        raise InputError(f"--resample {resample}: use one of {', '.join(get_args(Resampling))}")
    return resample  # type: ignore[return-value]
