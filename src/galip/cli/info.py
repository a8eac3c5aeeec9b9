"""`galip info`: what a model is made of and what it was trained on."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from galip.loading import DEFAULT_MODEL, fetch
from galip.model_folder import ModelFacts, describe


def info(
    model: Annotated[str, typer.Argument(help="A bundled model's name, a folder, or a hub id.")] = DEFAULT_MODEL,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Say what a model is made of and what it was trained on, without loading its weights."""
    facts = describe(fetch(model))
    if as_json:
        print(json.dumps(_as_json(model, facts), indent=2, ensure_ascii=False))
        return
    # Captions of a card may hold square brackets, so nothing is read as rich's markup.
    console = Console(markup=False, highlight=False)
    console.print(_parts(facts))
    console.print(_rest(facts))


def _as_json(model: str, facts: ModelFacts) -> dict[str, Any]:
    return {
        "model": model,
        "folder": str(facts.folder),
        "image_size": facts.image_size,
        "parameters": {"trainable": facts.trainable, "frozen": facts.frozen, "all": facts.trainable + facts.frozen},
        "bytes": facts.size,
        "parts": [
            {
                "name": part.name,
                "class": part.kind,
                "trainable": part.trainable,
                "parameters": part.parameters,
                "dtypes": [_dtype_name(dtype) for dtype in part.dtypes],
                "bytes": part.size,
            }
            for part in facts.parts
        ],
        "license": facts.licence,
        "trained_on": list(facts.trained_on),
        "training": facts.training,
    }


def _parts(facts: ModelFacts) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("part", no_wrap=True)
    table.add_column("class", overflow="fold")  # the one that gives way on a narrow terminal
    for heading in ("parameters", "", "dtype", "size"):
        table.add_column(heading, no_wrap=True, justify="right" if heading in ("parameters", "size") else "left")
    for part in facts.parts:
        weights = (f"{part.parameters:,}", "trained" if part.trainable else "frozen") if part.parameters else ("", "")
        table.add_row(part.name, part.kind, *weights, ", ".join(map(_dtype_name, part.dtypes)), _bytes(part.size))
    return table


def _rest(facts: ModelFacts) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(" parameters", f"{facts.trainable:,} trainable, {facts.frozen:,} frozen")
    grid.add_row(" pictures", f"{facts.image_size} x {facts.image_size} pixels")
    grid.add_row(" size on disk", _bytes(facts.size))
    grid.add_row(" licence", facts.licence or "the model card does not say")
    grid.add_row(" trained on", ", ".join(facts.trained_on) or "the model card does not say")
    for key, value in facts.training.items():
        if isinstance(value, str | int | float):
            grid.add_row(f" {key.replace('_', ' ')}", f"{value:,}" if isinstance(value, int) else str(value))
    grid.add_row(" folder", str(facts.folder))
    return grid


def _dtype_name(dtype: str) -> str:
    """ "F16" -> "float16", as torch calls it."""
    return re.sub(r"^(B?)F(\d)", lambda m: f"{m[1].lower()}float{m[2]}", dtype)


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
