"""`galip train` and `galip finetune`: a folder of captioned images or a configuration, overrides, a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from galip.cli.options import ModelArgument
from galip.errors import InputError
from galip.utils.terminal import note, progress_bars, say

if TYPE_CHECKING:
    from galip.training.config import TrainConfig

Overrides = Annotated[
    list[str] | None, typer.Argument(help="section.field=value, e.g. schedule.batch=16; wins over the file.")
]
OutOption = Annotated[Path | None, typer.Option("--out", "-o", help="Run folder; default runs/NAME.")]
ResumeOption = Annotated[
    str | None, typer.Option("--resume", help="Go on from 'latest', 'best' or a checkpoint folder of the run.")
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Print sizes, memory, steps and time from a few steps; write nothing.")
]
GraphsOption = Annotated[
    bool, typer.Option("--graphs/--no-graphs", help="Whether the model gets graphs in the end, to run without torch.")
]


def train(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[DIR|CONFIG]",
            help="Captioned images, with settings chosen by what they are; or a named configuration (own, coco, ...), "
            "or the YAML file of a run.",
        ),
    ] = None,
    overrides: Overrides = None,
    config: Annotated[
        str | None, typer.Option("--config", help="A named configuration, or a YAML file; DIR is then its data.")
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
    out: OutOption = None,
    resume: ResumeOption = None,
    dry_run: DryRunOption = False,
    graphs: GraphsOption = True,
    allow_commands: Annotated[
        bool, typer.Option("--allow-commands", help="Let the file name a source that is a command (pipe:...).")
    ] = False,
) -> None:
    """Train a model on captioned images.

    SIGTERM and Ctrl-C end a run with a checkpoint; --resume latest goes on from there. Several processes:
    accelerate launch -m galip train ..., or torchrun -m galip train ...
    """
    import json

    from galip.training.config_file import load_config

    extra = list(overrides or ())
    if recipe is not None:
        _train_by_recipe(recipe, _images_of_recipe(what, config, data), extra, out, resume, dry_run)
        return
    if config is not None:
        if what is not None and "=" in what and not Path(what).exists():  # galip train --config FILE a.b=c
            extra, what = [what, *extra], None
        if what is not None and data is not None:
            raise InputError(f"{what} and --data {data}: give the images once")
        what, data = config, what or data
    elif what is None:
        raise InputError("name a folder of captioned images, or a configuration (own, coco, ... or a YAML file)")
    elif data is None and _is_data(what):
        from galip.training.defaults import default_config

        _train(default_config(what, overrides=extra), out, resume, dry_run, graphs)
        return
    extra += [f"data.source={json.dumps(data)}"] if data else []
    _train(load_config(what, extra, allow_commands), out, resume, dry_run, graphs)


def finetune(
    model: ModelArgument,
    data: Annotated[str, typer.Argument(metavar="DIR", help="Captioned images: a folder, shards, or a pattern.")],
    overrides: Overrides = None,
    out: OutOption = None,
    resume: ResumeOption = None,
    dry_run: DryRunOption = False,
    graphs: GraphsOption = True,
) -> None:
    """Train a model on, with images of your own; settings are chosen by what these are.

    It begins with the model's generator and discriminator, keeps its sizes and its CLIP, and learns at half the rates.
    """
    from galip.training.defaults import default_config

    _train(default_config(data, model, list(overrides or ())), out, resume, dry_run, graphs)


def _is_data(what: str) -> bool:
    """Whether a word means captioned images: a folder that is not a run, tars, or a pattern of them."""
    path = Path(what).expanduser()
    if path.is_dir():
        return not (path / "config.yaml").is_file()
    return path.suffix == ".tar" or any(sign in what for sign in "*{")


def _train(settings: TrainConfig, out: Path | None, resume: str | None, dry_run: bool, graphs: bool) -> None:
    import yaml

    from galip.training.run import open_run

    with progress_bars() as progress:
        trainer = open_run(settings, out or Path("runs") / settings.name, resume, progress, graphs=graphs)
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


def _images_of_recipe(what: str | None, config: str | None, data: str | None) -> str:
    if config is not None:
        raise InputError(f"--config {config}: a recipe has settings of its own; leave it out")
    images = data or what
    if images is None:
        raise InputError("--recipe: name a folder of captioned images")
    return images


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
