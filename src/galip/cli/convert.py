"""`galip convert`: the authors' checkpoints to model folders, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from galip.cli.options import OldOut, one_out
from galip.errors import InputError
from galip.utils.terminal import say


def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT", help="The authors' .pth file; with --to-released, a model folder or a bundled model."
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
    from galip.conversion.model_folder import write_model, write_released

    if to_released:
        say(write_released(source, goal, preset, overwrite))
        return
    say(write_model(Path(source).expanduser(), goal, clip, preset, overwrite, graphs))
    say("licence: the authors', academic research only (see README.md there)")
