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
        str | None, typer.Option("--data", help="Captioned pictures (folder, shards, pattern); same as data.source=...")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Run folder; default runs/NAME.")] = None,
    resume: Annotated[
        str | None, typer.Option("--resume", help="Go on from 'latest', 'best' or a checkpoint folder of the run.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print sizes, memory, steps and time from a few steps; write nothing.")
    ] = False,
) -> None:
    """Train a model on captioned pictures.

    SIGTERM and Ctrl-C end a run with a checkpoint; --resume latest goes on from there. Several processes:
    accelerate launch -m galip train ..., or torchrun -m galip train ...
    """
    import json

    import yaml

    from galip.training.config import load_config

    extra = [*(overrides or ()), *([f"data.source={json.dumps(data)}"] if data else ())]
    settings = load_config(config, extra)
    folder = out or Path("runs") / settings.name
    from galip.training.loop import Trainer

    trainer = Trainer(settings, folder, resume)
    main = trainer.processes.is_main
    if main:
        typer.echo(yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True), nl=False)
        for line in trainer.differences:
            typer.echo(f"differs from the checkpoint's configuration: {line}", err=True)
    if dry_run:
        from galip.training.plan import plan

        lines = plan(trainer).lines()
        if main:
            typer.echo("\n".join(lines))
        return
    model = trainer.fit()
    if main:
        typer.echo(f"{trainer.seen} images seen; model: {model}")
