"""`galip convert`: the authors' checkpoints to model folders, and back."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from galip.cli.options import OldOut, one_out
from galip.errors import InputError
from galip.utils.terminal import note, say


def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT",
            help="The authors' .pth file; with --to-released, a model folder, a bundled model, or a run's checkpoint.",
        ),
    ],
    old_out: OldOut = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="The model folder to write; with --to-released, the .pth file."),
    ] = None,
    clip: Annotated[
        str | None, typer.Option(help="The CLIP that the checkpoint was trained with: a folder or a hub id.")
    ] = None,
    to_released: Annotated[
        bool, typer.Option("--to-released", help="Write a .pth file of the authors' layout.")
    ] = False,
    preset: Annotated[
        str | None,
        typer.Option(help="Size of the model, for what no tensor tells. [default: that of the published files]"),
    ] = None,
    with_optimizers: Annotated[
        bool,
        typer.Option(
            "--with-optimizers",
            help="Keep the optimisers' states for training that goes on (model.with_optimizers=true); with "
            "--to-released, write them.",
        ),
    ] = False,
    raw: Annotated[
        bool,
        typer.Option("--raw", help="Of a run's checkpoint: the generator's own weights instead of their average."),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there already.")] = False,
    graphs: Annotated[
        bool, typer.Option(help="Write the graphs too, from which the model runs without torch: half a minute.")
    ] = True,
) -> None:
    """Read and write the GALIP authors' checkpoints.

    galip convert CKPT.pth -o OUT --clip openai/clip-vit-base-patch32

    galip convert MODEL -o OUT.pth --to-released
    """
    goal = one_out(out, old_out, "the model folder, or with --to-released the .pth file, to write")
    if to_released and clip is not None:
        raise InputError("--clip: a .pth file holds no CLIP beside its ViT, so leave this out with --to-released")
    if raw and not to_released:
        raise InputError("--raw: a .pth file has one generator; the option is for --to-released")
    from galip.conversion.first_images import faults, generate_first
    from galip.conversion.model_folder import write_model, write_released

    if to_released:
        with _as_model_folder(source, raw, with_optimizers) as folder:
            say(write_released(folder, goal, preset, overwrite, with_optimizers))
        return
    say(write_model(Path(source).expanduser(), goal, clip, preset, overwrite, graphs, with_optimizers))
    say("licence: the authors', academic research only (see README.md there)")
    if (fault := faults(generate_first(goal))) is not None:
        note(f"Warning: {goal}: {fault}")
    else:
        say("four prompts were generated: their images differ, and are neither blank nor saturated")


@contextmanager
def _as_model_folder(source: str, raw: bool, with_optimizers: bool) -> Iterator[str]:
    """The model that a user's word means; a checkpoint of a run becomes a model folder for the while."""
    checkpoint = Path(source).expanduser()
    if not (checkpoint / "state.json").is_file():
        if raw:
            raise InputError(
                f"{source}: a model folder has one generator; --raw is for a checkpoint images-... of a run"
            )
        yield source
        return
    from galip.training.export import export_checkpoint

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        export_checkpoint(checkpoint, folder, raw=raw, with_optimizers=with_optimizers, graphs=False)
        yield str(folder)
