"""`galip models`: the models that are here, bundled with the package or downloaded from the hub."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from galip.errors import GalipError
from galip.model_repo.describe import describe
from galip.model_repo.format import INDEX
from galip.model_repo.index import read_index
from galip.model_repo.resolve import bundled_models
from galip.utils.terminal import Console, note, say, say_json


@dataclass(frozen=True)
class KnownModel:
    """A model that is on this machine.

    Attributes:
        name: what --model takes.
        source: "bundled" or "hub".
        folder: where it is.
    """

    name: str
    source: str
    folder: Path


def known_models() -> list[KnownModel]:
    """The bundled models, then those of the hub's cache."""
    bundled = [KnownModel(name, "bundled", folder) for name, folder in bundled_models().items()]
    return bundled + _cached()


def _cached() -> list[KnownModel]:
    """Models in the hub's cache that are galip's."""
    from huggingface_hub.constants import HF_HUB_CACHE

    found = []
    for folder in sorted(Path(os.environ.get("HF_HUB_CACHE", HF_HUB_CACHE)).glob("models--*--*")):
        for index in sorted((folder / "snapshots").glob(f"*/{INDEX}"), key=lambda path: path.stat().st_mtime)[-1:]:
            try:
                parts = read_index(index.parent)
            except GalipError:
                continue
            if parts.get("generator", ("", ""))[1] == "MateGenerator":
                name = folder.name.removeprefix("models--").replace("--", "/", 1)
                found.append(KnownModel(name, "hub", index.parent))
    return found


def models(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List the models that are on this machine: bundled ones, and those downloaded from the hub.

    A folder with a model is not listed; --model takes its path.
    """
    rows = []
    for model in known_models():
        try:
            facts = describe(model.folder)
        except GalipError as error:
            note(f"Warning: {model.name} is passed over: {error}")
            continue
        row = {"name": model.name, "source": model.source, "image_size": facts.image_size, "bytes": facts.size}
        rows.append(row | {"license": facts.licence, "folder": str(model.folder)})
    if as_json:
        say_json(rows)
        return
    if not rows:
        say("no model is bundled or downloaded")
        return
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("model", "from", "pixels", "MB", "licence"):
        table.add_column(heading, justify="right" if heading in ("pixels", "MB") else "left", overflow="fold")
    for row in rows:
        size, megabytes = str(row["image_size"]), f"{int(str(row['bytes'])) / 1e6:.1f}"
        table.add_row(str(row["name"]), str(row["source"]), size, megabytes, str(row["license"] or ""))
    Console().print(table)
