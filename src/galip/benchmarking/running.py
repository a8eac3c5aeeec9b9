"""A model measured with several engines, batch sizes and rounds.

Every engine gets a process of its own in every round, in turns, so that what else the machine does falls on all alike.
The numbers of all rounds are then taken together.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from galip.benchmarking.worker import Orders
from galip.errors import GalipError, InputError
from galip.generation.precision import AUTO as ANY
from galip.generation.precision import check_precision, lacking
from galip.generation.select import AUTO, ENGINES, WITHOUT_TORCH, check_engine, choose, require_engine
from galip.model_repo.cache import is_cached
from galip.model_repo.export_folder import is_export, read_manifest
from galip.model_repo.graphs import has_graphs
from galip.model_repo.index import check_model_folder
from galip.model_repo.resolve import fetch
from galip.utils.extras import is_installed
from galip.utils.provenance import machine

ROUNDS = 3
PARTS = ("whole", "text", "image")


def measure_model(
    model: str,
    engines: Sequence[str] = (),
    batches: Sequence[int] = (1, 4, 8),
    threads: int | None = None,
    device: str | None = None,
    seconds: float = 3.0,
    rounds: int = ROUNDS,
    say: Callable[[str], None] = lambda _line: None,
) -> dict[str, Any]:
    """Measure a model: start-up, memory, and for each engine and batch size the seconds of text, image and both.

    Start-up is that of a new process whose files the system has read before; converting the model is not part of it.

    Args:
        model: a bundled model's name, a folder, or a hub id.
        engines: what to run it with, "openvino:bf16" for a precision of an engine; none: those that are installed,
            but for "compile".
        batches: numbers of images to generate at once.
        threads: CPU threads; None: each engine's own choice.
        device: for "torch" and "compile", as `galip.load` takes it.
        seconds: spent on each measurement, all rounds together.
        rounds: processes of each engine.
        say: is told what is being measured.

    Returns:
        A dictionary for JSON: `model`, `threads`, `machine`, and for each engine in `engines` its `first_picture`
        (seconds), `first_peak_bytes`, and a list `batches` of cells with `batch`, `whole`, `text`, `image` (seconds),
        `pictures_per_second` and `peak_bytes`. Seconds are as `summary` tells them.

    Raises:
        InputError: there is no such engine, it does not fit the model, or a number is not above 0.
        GalipError: there is no such model, an engine is not installed, or its process ended badly.
    """
    sizes = sorted(set(batches))
    if not sizes or sizes[0] < 1:
        raise InputError(f"batches {', '.join(map(str, batches)) or 'none'}: give numbers of images, 1 or more")
    if rounds < 1 or seconds < 0:
        raise InputError(f"rounds {rounds}, seconds {seconds:g}: at least one round, and no less than 0 seconds")
    folder = fetch(model)
    if not is_export(folder):
        check_model_folder(folder)
    wanted = _engines(folder, engines, device)
    result: dict[str, Any] = {"model": model, "threads": threads, "device": device, "machine": machine()}

    orders = Orders(model, "", None, threads, sizes, seconds / rounds, 0.0)
    by_engine = {
        engine: replace(orders, engine=engine, device=device if _name(engine) not in WITHOUT_TORCH else None)
        for engine in wanted
    }
    for engine, order in by_engine.items():
        has_files = is_export(folder) or has_graphs(folder) or is_cached(folder)
        if _name(engine) in WITHOUT_TORCH and (not has_files or engine.endswith(":int8")):
            say(f"preparing {model} for {engine}")
            run_worker(replace(order, batches=[]))
    found: dict[str, list[dict[str, Any]]] = {engine: [] for engine in wanted}
    for number in range(1, rounds + 1):
        for engine, order in by_engine.items():
            say(f"round {number} of {rounds}: {engine}")
            found[engine].append(run_worker(order))
    return result | {"engines": {engine: gather(each, sizes) for engine, each in found.items()}}


def run_worker(orders: Orders) -> dict[str, Any]:
    """Findings of a new process.

    Raises:
        GalipError: it ended badly.
    """
    command = [sys.executable, "-m", "galip.benchmarking.worker"]
    # The time of the start is part of what it is told, so that the process's own start-up is counted.
    told = json.dumps(asdict(replace(orders, begun=time.monotonic())))
    ended = subprocess.run(command, input=told, capture_output=True, text=True, check=False)
    try:
        found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        lines = ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}, as when memory runs out"]
        raise GalipError(f"engine {orders.engine}: its process ended without a result: {lines[-1]}") from None
    if "error" in found:
        raise GalipError(f"engine {orders.engine}: {found['error']}")
    return found


def gather(rounds: Sequence[dict[str, Any]], batches: Sequence[int]) -> dict[str, Any]:
    """One engine's findings of all rounds, taken together; see `measure_model`."""
    cells = []
    for batch in batches:
        each = [found["cells"][str(batch)] for found in rounds]
        cell: dict[str, Any] = {"batch": batch}
        for part in PARTS:
            cell[part] = summary([time for one in each for time in one[part]])
        cell["pictures_per_second"] = batch / cell["whole"]["median"]
        cell["peak_bytes"] = max(one["peak_bytes"] for one in each)
        cells.append(cell)
    return {
        "first_picture": summary([found["first_picture"] for found in rounds]),
        "first_peak_bytes": max(found["first_peak_bytes"] for found in rounds),
        "batches": cells,
    }


def summary(times: Sequence[float]) -> dict[str, Any]:
    """Median, lower and upper quartile (all as `numpy.percentile` has them), and how many they are of.

    Args:
        times: seconds, at least one.
    """
    ordered = sorted(times)
    return {"median": _at(ordered, 0.5), "low": _at(ordered, 0.25), "high": _at(ordered, 0.75), "count": len(ordered)}


def _at(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def _engines(folder: Path, asked: Sequence[str], device: str | None) -> list[str]:
    """The engines to measure, each once, all of them fit to run the model."""
    exported = read_manifest(folder).kind if is_export(folder) else None
    fitting = ENGINES if exported is None else ("openvino",) if exported == "openvino" else WITHOUT_TORCH
    if not asked:
        ready = [engine for engine in fitting if engine != "compile" and _ready(engine)]
        return ready if exported is None or ready else list(fitting[:1])
    wanted = []
    for asked_for in asked:
        engine, _, precision = asked_for.partition(":")
        check_engine(engine)
        check_precision(precision or None)
        chosen = choose(folder, device).engine if engine == AUTO else engine
        if chosen not in fitting:
            raise InputError(f"engine {chosen}: {folder} is exported for {exported}; use {' or '.join(fitting)}")
        if chosen in WITHOUT_TORCH and exported is None:
            require_engine(chosen)
        if precision not in ("", ANY) and (reason := lacking(chosen, precision)):
            raise InputError(reason)
        wanted.append(f"{chosen}:{precision}" if precision else chosen)
    return list(dict.fromkeys(wanted))


def _name(engine: str) -> str:
    """The engine of "engine" or "engine:precision"."""
    return engine.partition(":")[0]


def _ready(engine: str) -> bool:
    return engine not in WITHOUT_TORCH or is_installed(engine)
