"""Option values that more than one command reads."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from galip.errors import InputError
from galip.noise import check_seed

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
