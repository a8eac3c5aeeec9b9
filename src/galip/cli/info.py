"""`galip info`: what a model is made of and what it was trained on."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table

from galip.cli.options import ModelArgument
from galip.generation.fastest import measured_precisions
from galip.generation.load import digest_of
from galip.generation.select import WITHOUT_TORCH, Choice, choose
from galip.model_repo.cache import is_cached
from galip.model_repo.describe import ModelFacts, describe
from galip.model_repo.export_folder import Manifest, is_export, read_manifest
from galip.model_repo.graphs import has_graphs
from galip.model_repo.resolve import DEFAULT_MODEL, fetch
from galip.utils.terminal import Console, say_json


def info(
    model: ModelArgument = DEFAULT_MODEL,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Say what a model is made of and what it was trained on, without loading its weights."""
    folder = fetch(model)
    if is_export(folder):
        _show_export(folder, read_manifest(folder), as_json)
        return
    facts, auto, measured = describe(folder), choose(folder), measured_precisions(digest_of(folder))
    if as_json:
        say_json(_as_json(model, facts) | {"auto_engine": auto.engine, "precisions": measured})
        return
    console = Console()
    console.print(_parts(facts))
    console.print(_rest(facts, auto, measured))


def _show_export(folder: Path, manifest: Manifest, as_json: bool) -> None:
    """What an exported model is: it has no parts of torch's to list."""
    auto, measured = choose(folder), measured_precisions(digest_of(folder))
    if as_json:
        say_json(asdict(manifest) | {"folder": str(folder), "auto_engine": auto.engine, "precisions": measured})
        return
    grid = _grid()
    grid.add_row(" model", f"{manifest.source['name']}, exported for {manifest.kind} by galip {manifest.version}")
    grid.add_row(" precision", manifest.precision)
    if manifest.quality is not None:
        mean, lowest = manifest.quality["psnr_mean"], manifest.quality["psnr_lowest"]
        grid.add_row(" against fp32", f"PSNR {mean} dB in the mean, {lowest} dB at the lowest")
    grid.add_row(" images", f"{manifest.image_size} x {manifest.image_size} pixels")
    grid.add_row(" prompts", f"up to {manifest.max_tokens} tokens" if manifest.text_encoder else "no text encoder")
    grid.add_row(" size on disk", _bytes(sum(facts["bytes"] for facts in manifest.files.values())))
    grid.add_row(" ONNX opset", str(manifest.opset))
    grid.add_row(" engine", f"{auto.engine}: {auto.reason}")
    _add_precisions(grid, measured)
    grid.add_row(" folder", str(folder))
    Console().print(grid)


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


def _grid() -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    return grid


def _engine(facts: ModelFacts, auto: Choice) -> str:
    if auto.engine not in WITHOUT_TORCH:
        return f"auto means {auto.engine}: {auto.reason}"
    if has_graphs(facts.folder):
        graphs = "its graphs are there"
    else:
        graphs = "its graphs are " + ("in the cache" if is_cached(facts.folder) else "exported at the first use")
    return f"auto means {auto.engine}: {auto.reason}; {graphs}"


def _add_precisions(grid: Table, measured: list[dict[str, Any]]) -> None:
    """What --precision auto has come to on this machine."""
    if not measured:
        grid.add_row(" precision auto", "not measured yet: its first use does that")
    for known in measured:
        threads = "" if known["threads"] is None else f", --threads {known['threads']}"
        times = ", ".join(
            f"{name} {facts['ms']:.3g} ms" + (f" ({facts['levels']:.2g} of 255 apart)" if facts["levels"] else "")
            for name, facts in known["measured"].items()
        )
        grid.add_row(" precision auto", f"{known['auto']} by {known['engine']}{threads}; an image: {times}")


def _rest(facts: ModelFacts, auto: Choice, measured: list[dict[str, Any]]) -> Table:
    grid = _grid()
    grid.add_row(" parameters", f"{facts.trainable:,} trainable, {facts.frozen:,} frozen")
    grid.add_row(" images", f"{facts.image_size} x {facts.image_size} pixels")
    grid.add_row(" size on disk", _bytes(facts.size))
    grid.add_row(" engine", _engine(facts, auto))
    grid.add_row(" licence", facts.licence or "the model card does not say")
    grid.add_row(" trained on", ", ".join(facts.trained_on) or "the model card does not say")
    for key, value in facts.training.items():
        if isinstance(value, str | int | float):
            grid.add_row(f" {key.replace('_', ' ')}", _value(value))
    _add_precisions(grid, measured)
    grid.add_row(" folder", str(facts.folder))
    return grid


def _value(value: str | int | float) -> str:
    return value if isinstance(value, str) else f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def _dtype_name(dtype: str) -> str:
    """ "F16" -> "float16", as torch calls it."""
    return re.sub(r"^(B?)F(\d)", lambda m: f"{m[1].lower()}float{m[2]}", dtype)


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
