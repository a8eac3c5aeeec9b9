"""One engine, measured in a process of its own: `python -m galip.benchmarking.worker`, which `measure_model` starts.

It reads its orders as JSON from standard input and prints what it has found as JSON, as the last line.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count, islice, product
from typing import TYPE_CHECKING, Any

import galip
from galip.errors import GalipError, InputError
from galip.utils.memory import peak_bytes

if TYPE_CHECKING:
    from galip.generation.pipeline import TextToImage

LEAST_REPEATS, MOST_REPEATS = 3, 200
WARM_UP = 3
"""Runs that are not timed: the first compiles and allocates, and a CUDA graph is recorded in the second."""

# Captions about as long as COCO's: ten words, a dozen tokens.
_COLOURS = "red blue green yellow black white brown pink orange grey".split()
_THINGS = "dog cat bus train horse bird boat kite pizza clock bench flower".split()
_PLACES = "street kitchen park harbour field station garden room forest market".split()


@dataclass(frozen=True)
class Orders:
    """What a worker is told.

    Attributes:
        model: as `galip.load` takes it.
        engine: as `galip.load` takes it; "openvino:bf16" for a precision of it.
        device: as `galip.load` takes it.
        threads: as `galip.load` takes it.
        batches: numbers of images to generate at once, increasing. None at all: only load, which converts the model.
        seconds: spent on each measurement, but for `LEAST_REPEATS`.
        begun: `time.monotonic()`, which all processes share, when this one was started.
        dtype: as `galip.load` takes it.
    """

    model: str
    engine: str
    device: str | None
    threads: int | None
    batches: list[int]
    seconds: float
    begun: float
    dtype: str | None = None


def measure(orders: Orders) -> dict[str, Any]:
    """Start-up, then every batch size.

    Returns:
        `first_picture`: seconds from the process's start to its first image; `first_peak_bytes`: memory until then;
        `cells`: for each batch size the seconds of each repetition of `whole` (captions to PIL images), `text`
        (captions to sentence vectors) and `image` (sentence vectors to PIL images), and `peak_bytes` until its end.
        Nothing where nothing is to be generated.

    Raises:
        InputError: the model has no text encoder.
        GalipError: the model cannot be loaded by this engine.
    """
    engine, _, precision = orders.engine.partition(":")
    pipe = galip.load(
        orders.model,
        engine=engine,
        device=orders.device,
        dtype=None if precision else orders.dtype,
        precision=precision or None,
        threads=orders.threads,
    )
    if not orders.batches:
        return {}
    if not _has_text_encoder(pipe):
        raise InputError(f"{orders.model}: it has no text encoder, but what is measured generates from prompts")
    prompts = captions(max(orders.batches))
    _draw(pipe, prompts[:1])
    found: dict[str, Any] = {
        "first_picture": time.monotonic() - orders.begun,
        "first_peak_bytes": held_bytes(orders.device),
    }
    found["cells"] = {
        str(batch): _cell(pipe, prompts[:batch], orders.seconds) | {"peak_bytes": held_bytes(orders.device)}
        for batch in orders.batches
    }
    return found


def _cell(pipe: TextToImage, prompts: list[str], seconds: float) -> dict[str, Any]:
    vectors, numbers = pipe.embed(prompts), count()

    def fresh() -> list[str]:  # engines keep the vectors of prompts that they have seen
        return [f"{prompt} {next(numbers)}" for prompt in prompts]

    jobs: dict[str, Callable[[], Any]] = {
        "whole": lambda: _draw(pipe, fresh()),
        "text": lambda: _encode(pipe, fresh()),
        "image": lambda: pipe(prompt_embeds=vectors, seed=list(range(len(prompts))), batch_size=len(prompts)),
    }
    return {name: repeated(job, seconds) for name, job in jobs.items()}


def held_bytes(device: str | None) -> int:
    """The most memory so far: of a GPU where the model is on one, else of this process."""
    if device is None or not device.startswith("cuda"):
        return peak_bytes()
    import torch

    return int(torch.cuda.max_memory_allocated(device))


def repeated(job: Callable[[], Any], seconds: float) -> list[float]:
    """Seconds of each repetition, after `WARM_UP` that are not timed.

    There are as many as fit into `seconds`, between `LEAST_REPEATS` and `MOST_REPEATS`.
    """
    for _ in range(WARM_UP):
        job()
    times: list[float] = []
    while len(times) < LEAST_REPEATS or (sum(times) < seconds and len(times) < MOST_REPEATS):
        begun = time.perf_counter()
        job()
        times.append(time.perf_counter() - begun)
    return times


def _has_text_encoder(pipe: TextToImage) -> bool:
    return pipe.backend.text_encoder is not None


def _draw(pipe: TextToImage, prompts: list[str]) -> None:
    pipe(prompts, seed=list(range(len(prompts))), batch_size=len(prompts))


def _encode(pipe: TextToImage, prompts: list[str]) -> None:
    pipe.embed(prompts)


def captions(number: int) -> list[str]:
    """So many captions, all different."""
    every = (
        f"a {colour} {thing} beside a tree in the {place}{suffix}"
        for suffix in ("", *(f" {turn}" for turn in range(number)))
        for place, thing, colour in product(_PLACES, _THINGS, _COLOURS)
    )
    return list(islice(every, number))


def main() -> None:
    """Read orders, print findings; a mistake of the user's is `{"error": message}`."""
    orders = Orders(**json.load(sys.stdin))
    try:
        found = measure(orders)
    except GalipError as error:
        found = {"error": str(error)}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
