"""`galip train`: one YAML file, overrides, a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from galip.utils.terminal import note, say


def train(
    config: Annotated[Path, typer.Argument(help="YAML file of the run, e.g. configs/emoji.yaml.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="section.field=value, e.g. run.batch=16; wins over the file.")
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", help="Captioned images (folder, shards, pattern); same as data.source=...")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Run folder; default runs/NAME.")] = None,
    resume: Annotated[
        str | None, typer.Option("--resume", help="Go on from 'latest', 'best' or a checkpoint folder of the run.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print sizes, memory, steps and time from a few steps; write nothing.")
    ] = False,
) -> None:
    """Train a model on captioned images.

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
        for line in yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True).splitlines():
            say(line)
        for line in trainer.differences:
            note(f"differs from the checkpoint's configuration: {line}")
    if dry_run:
        from galip.training.plan import plan

        lines = plan(trainer).lines()
        for line in lines if main else ():
            say(line)
        return
    model = trainer.fit()
    if main:
        say(f"{trainer.seen:,} images seen; model: {model}")
