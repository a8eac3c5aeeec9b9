"""`galip bench`: how fast a model generates here, by engine and batch size."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table

from galip.benchmarking.running import measure_model
from galip.cli.options import ModelArgument, ThreadsOption, shortened
from galip.errors import InputError
from galip.model_repo.resolve import DEFAULT_MODEL
from galip.utils.atomic import write_json
from galip.utils.checks import check_file
from galip.utils.terminal import Console, note, say_json


def bench(
    model: ModelArgument = DEFAULT_MODEL,
    engine: Annotated[
        str | None,
        typer.Option(
            help="What runs the model, separated by commas: torch, compile, openvino, onnxruntime, auto; "
            "openvino:bf16 for a precision. [default: all that are installed, without compile]"
        ),
    ] = None,
    batch: Annotated[str, typer.Option(help="Images generated at once, separated by commas.")] = "1,4,8",
    threads: ThreadsOption = None,
    device: Annotated[
        str | None, typer.Option(help="For torch and compile: cpu, cuda, ... [default: a GPU if there is one]")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0, help="Time to spend on each number, after a warm-up.")] = 3.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    json_file: Annotated[Path | None, typer.Option(help="Also write the numbers to this file.")] = None,
) -> None:
    """Measure how fast a model generates on this machine, and with how much memory.

    Each engine runs in processes of its own, in turns. Measure on an idle machine.
    """
    engines = [] if engine is None else [word.strip() for word in engine.split(",")]
    batches = _batches(batch)
    if json_file is not None:
        check_file(json_file, "--json-file")
    result = measure_model(model, engines, batches, threads, device, seconds, say=note)
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        write_json(json_file, result)
    if as_json:
        say_json(result)
        return
    console = Console()
    console.print(_start_up(result))
    console.print(_speed(result))
    facts = result["machine"]
    for line in (
        "medians, in brackets the quartiles; per s: images; MiB: the most memory that the process has held by then",
        f"{facts['processor']}, {facts['cores_for_us']} of {facts['cores']} cores, {_threads(threads)}",
        ", ".join(f"{name} {version}" for name, version in facts["versions"].items()),
    ):
        console.print(f" {line}", soft_wrap=True)
    if json_file is not None:
        console.print(f" written to {json_file}", soft_wrap=True)


def _start_up(result: dict[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("engine", no_wrap=True)
    for heading in ("start to first image, s", "MiB"):
        table.add_column(heading, justify="right", no_wrap=True)
    for engine, found in result["engines"].items():
        table.add_row(engine, _spread(found["first_picture"], 1), _mib(found["first_peak_bytes"]))
    return table


def _speed(result: dict[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("engine", no_wrap=True)
    for heading in ("batch", "ms", "text, ms", "image, ms", "per s", "MiB"):
        table.add_column(heading, justify="right", no_wrap=True)
    for engine, found in result["engines"].items():
        for cell in found["batches"]:
            parts = [_figure(1000 * cell[part]["median"]) for part in ("text", "image")]
            rate = _figure(cell["pictures_per_second"])
            table.add_row(
                engine, str(cell["batch"]), _spread(cell["whole"], 1000), *parts, rate, _mib(cell["peak_bytes"])
            )
    return table


def _spread(seconds: dict[str, Any], scale: float) -> str:
    median, low, high = (_figure(scale * seconds[name]) for name in ("median", "low", "high"))
    return f"{median} ({low}-{high})"


def _figure(number: float) -> str:
    """Three figures, and no exponent."""
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f}" if size else ""


def _threads(threads: int | None) -> str:
    return "threads as each engine chooses" if threads is None else f"{threads} thread{'s' * (threads > 1)}"


def _batches(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdecimal() and len(word) < 7 and int(word) > 0 for word in words):
        raise InputError(f"--batch {shortened(text)}: give numbers of images, 1 or more, like 1,4,8")
    return [int(word) for word in words]
