"""`galip train`: one YAML file, overrides, a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    config: Annotated[Path, typer.Argument(help="YAML file of the run, e.g. configs/emoji.yaml.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="section.field=value, e.g. run.batch=16; wins over the file.")
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", help="Folder of captioned pictures; same as data.source=...")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Run folder; default runs/NAME.")] = None,
    resume: Annotated[
        str | None, typer.Option("--resume", help="Go on from 'latest' or from a checkpoint folder of the run.")
    ] = None,
) -> None:
    """Train a model on captioned pictures.

    SIGTERM and Ctrl-C end a run with a checkpoint; --resume latest goes on from there.
    """
    import yaml

    from galip.training.config import load_config

    extra = [*(overrides or ()), *([f"data.source={yaml.safe_dump(data).splitlines()[0]}"] if data else ())]
    settings = load_config(config, extra)
    folder = out or Path("runs") / settings.name
    from galip.training.trainer import Trainer

    typer.echo(yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True), nl=False)
    trainer = Trainer(settings, folder, resume)
    for line in trainer.differences:
        typer.echo(f"differs from the checkpoint's configuration: {line}", err=True)
    model = trainer.fit()
    typer.echo(f"{trainer.seen} images seen; model: {model}")
