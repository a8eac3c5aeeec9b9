"""`galip train`: a configuration, overrides, a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from galip.utils.terminal import note, progress_bars, say


def train(
    config: Annotated[
        str,
        typer.Argument(
            help="A named configuration (own, coco, ...), or the YAML file of a run; with --recipe the images."
        ),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="section.field=value, e.g. schedule.batch=16; wins over the file.")
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", help="Captioned images (folder, shards, pattern); same as data.source=...")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe", help="small: from a few thousand captioned images of one kind to a model, without a GPU."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Run folder; default runs/NAME.")] = None,
    resume: Annotated[
        str | None, typer.Option("--resume", help="Go on from 'latest', 'best' or a checkpoint folder of the run.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print sizes, memory, steps and time from a few steps; write nothing.")
    ] = False,
    allow_commands: Annotated[
        bool, typer.Option("--allow-commands", help="Let the file name a source that is a command (pipe:...).")
    ] = False,
) -> None:
    """Train a model on captioned images.

    SIGTERM and Ctrl-C end a run with a checkpoint; --resume latest goes on from there. Several processes:
    accelerate launch -m galip train ..., or torchrun -m galip train ...
    """
    import json

    import yaml

    from galip.training.config_file import load_config

    if recipe is not None:
        _train_by_recipe(recipe, data or config, overrides or [], out, resume, dry_run)
        return
    extra = [*(overrides or ()), *([f"data.source={json.dumps(data)}"] if data else ())]
    settings = load_config(config, extra, allow_commands)
    from galip.training.run import open_run

    with progress_bars() as progress:
        trainer = open_run(settings, out or Path("runs") / settings.name, resume, progress)
        main = trainer.distributed.is_main
        if main:
            plain = yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
            for line in plain.splitlines():
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
        say(f"{trainer.state.seen:,} images seen; model: {model}")


def _train_by_recipe(
    recipe: str, data: str, overrides: list[str], out: Path | None, resume: str | None, dry_run: bool
) -> None:
    import yaml

    from galip.training.recipes import fit_recipe, recipe_config

    out = out or Path("runs") / Path(data).resolve().name
    settings = recipe_config(recipe, data, out, overrides)
    for line in yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True).splitlines():
        say(line)
    if dry_run:
        return
    with progress_bars() as progress:
        model = fit_recipe(settings, out, resume, progress)
    say(f"model: {model}" if model is not None else "stopped; the same command with --resume latest goes on")
