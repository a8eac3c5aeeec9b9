"""`galip grid`: images side by side, on one sheet with labels."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from galip.cli.options import (
    AUTO,
    BATCH_SIZE,
    BatchSizeOption,
    DeviceOption,
    EngineOption,
    ModelOption,
    PrecisionOption,
    QuietOption,
    ResampleOption,
    SizeOption,
    ThreadsOption,
    TruncationOption,
    check_truncation,
    parse_numbers,
    parse_seeds,
    shown_seeds,
)
from galip.cli.running import counted, open_model, texts_of
from galip.errors import InputError
from galip.generation.prompts import clean_caption
from galip.latent.grids import check_places
from galip.model_repo.resolve import DEFAULT_MODEL, weights_of
from galip.utils.checks import check_file
from galip.utils.contact_sheet import labelled_grid, sheet_side
from galip.utils.image_io import format_of, save_image
from galip.utils.terminal import amount, note, progress_bars, say

if TYPE_CHECKING:
    from galip.latent.grids import Grid

SEEDS = "0-3"
MAX_SHEET = 250_000_000  # pixels


@dataclass(frozen=True)
class Wanted:
    """What the options say: prompts and seeds, and one of the four ways to lay them out beside the plain one."""

    prompts: list[str]
    seeds: Sequence[int]
    steps: int = 1
    square: int | None = None
    direction: tuple[str, str] | None = None
    strengths: tuple[float, ...] = ()
    fine: tuple[str, ...] = ()
    fine_from: int | None = None

    def places(self) -> tuple[int, int]:
        """Columns and rows."""
        if self.square:
            return self.square, self.square
        if self.direction:
            return len(self.strengths), len(self.prompts) * len(self.seeds)
        if self.fine:
            return len(self.fine), len(self.prompts)
        return self.steps * (len(self.prompts) - 1) + 1, len(self.seeds)


def grid(
    prompts: Annotated[
        list[str] | None, typer.Argument(help="Prompts: of the columns, unless an option below.")
    ] = None,
    seed: Annotated[
        str | None,
        typer.Option(help=f"Seeds, of the rows: 7, 0-3, or 1,5,9. [default: {SEEDS}; with --square and --fine 0]"),
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="The sheet: .png, .webp or .jpg.")] = Path("grid.png"),
    steps: Annotated[
        int | None,
        typer.Option(min=2, help="Steps from each prompt to the next: images between them are generated too."),
    ] = None,
    square: Annotated[
        int | None,
        typer.Option(min=2, help="A square of so many images a side between four prompts, its corners."),
    ] = None,
    direction: Annotated[
        tuple[str, str] | None,
        typer.Option(help='Two prompts, as "a bird" "a red bird": the prompts of the grid are moved the same way.'),
    ] = None,
    strengths: Annotated[
        str | None, typer.Option(help="How far to move along --direction. [default: -1,-0.5,0,0.5,1,1.5,2]")
    ] = None,
    fine: Annotated[
        list[str] | None,
        typer.Option(help="Another prompt for the fine up-blocks, a column of mixtures; may be given several times."),
    ] = None,
    fine_from: Annotated[
        int | None,
        typer.Option(min=0, help="The first stage that is fine: 0 bridge, 1 prompts, 2 ... up-blocks. [default: half]"),
    ] = None,
    truncation: TruncationOption = 1.0,
    size: SizeOption = None,
    resample: ResampleOption = "lanczos",
    model: ModelOption = DEFAULT_MODEL,
    batch_size: BatchSizeOption = BATCH_SIZE,
    device: DeviceOption = None,
    engine: EngineOption = AUTO,
    precision: PrecisionOption = None,
    threads: ThreadsOption = None,
    quiet: QuietOption = False,
) -> None:
    """Generate a grid: prompts by seeds; prompts and what lies between them; a square between four; along a direction;
    mixtures of two prompts.
    """
    started = time.monotonic()
    wanted = _wanted(prompts or [], seed, steps, square, direction, strengths, fine or [], fine_from)
    check_truncation(truncation)
    format_of(out)
    check_file(out)
    check_places(*wanted.places())
    if size is not None:
        _check_sheet(math.prod(wanted.places()), size)
    weights = weights_of(model)

    pipe = open_model(model, engine=engine, device=device, precision=precision, threads=threads)
    plan = _plan(pipe, wanted)
    side = size or sheet_side(pipe.sizes.image_size, len(plan.columns), len(plan.rows))
    _check_sheet(len(plan), side)
    with progress_bars(shown=not quiet) as progress:
        images = counted(
            plan.generate(pipe, truncation, batch_size), lambda done: progress("generating", done, len(plan))
        )
        sheet = labelled_grid(images, plan.columns, plan.rows, plan.below, side, resample)
    out.parent.mkdir(parents=True, exist_ok=True)
    save_image(sheet, out, texts_of(model, weights, truncation, precision) | _texts(wanted))
    say(out)
    if not quiet:
        note(f"{amount(len(plan), 'image')} generated: {out} ({sheet.width} x {sheet.height} pixels)")
        note(f"seeds: {shown_seeds(wanted.seeds)}")
        note(f"{time.monotonic() - started:.1f} seconds")


def _wanted(
    prompts: Sequence[str],
    seed: str | None,
    steps: int | None,
    square: int | None,
    direction: tuple[str, str] | None,
    strengths: str | None,
    fine: Sequence[str],
    fine_from: int | None,
) -> Wanted:
    """The options, once it is sure that they make sense together."""
    words = [clean_caption(prompt) for prompt in prompts]
    ways = {"--steps": steps, "--square": square, "--direction": direction, "--fine": fine}
    given = [name for name, value in ways.items() if value]
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)} are given: a grid is laid out in one way; leave all but one out")
    if not words:
        raise InputError('nothing to generate: give prompts, as in galip grid "a red heart" "a sleepy cat"')
    if strengths is not None and direction is None:
        raise InputError("--strengths belongs to --direction, which is not given")
    if fine_from is not None and not fine:
        raise InputError("--fine-from belongs to --fine, which is not given")
    seeds = parse_seeds(seed or ("0" if square or fine else SEEDS))
    if square and (len(words) != 4 or len(seeds) not in (1, 4)):
        raise InputError(
            f"--square with {amount(len(words), 'prompt')} and {amount(len(seeds), 'seed')}: give four prompts (top "
            "left, top right, bottom left, bottom right), and one seed or four"
        )
    if steps and len(words) < 2:
        raise InputError("--steps leads from one prompt to another: give two prompts or more")
    if direction is not None and clean_caption(direction[0]) == clean_caption(direction[1]):
        raise InputError(f"--direction {direction[0]!r} {direction[1]!r}: there is no direction between them")
    if fine and len(seeds) > 1:
        raise InputError(f"--fine with --seed {seed}: all mixtures of a grid have the same seed; give one")
    return Wanted(
        words,
        seeds,
        steps or 1,
        square,
        None if direction is None else (clean_caption(direction[0]), clean_caption(direction[1])),
        tuple(parse_numbers("--strengths", "-1,-0.5,0,0.5,1,1.5,2" if strengths is None else strengths)),
        tuple(clean_caption(prompt) for prompt in fine),
        fine_from,
    )


def _plan(pipe: Any, wanted: Wanted) -> Grid:
    from galip.latent import grids
    from galip.latent.directions import direction
    from galip.latent.keyframes import Keyframe, pair_up

    if wanted.square:
        return grids.square(pipe, pair_up(wanted.prompts, wanted.seeds), wanted.square)
    if wanted.direction:
        along = direction(pipe, *wanted.direction)
        images = [Keyframe(prompt, seed) for prompt in wanted.prompts for seed in wanted.seeds]
        return grids.strengths(pipe, images, along, wanted.strengths)
    if wanted.fine:
        return grids.mixtures(pipe, wanted.prompts, wanted.fine, wanted.seeds[0], wanted.fine_from)
    return grids.prompts_by_seeds(pipe, wanted.prompts, wanted.seeds, wanted.steps)


def _texts(wanted: Wanted) -> dict[str, str]:
    """What the sheet tells of the options."""
    texts = {"prompt": "\n".join(wanted.prompts), "seed": shown_seeds(wanted.seeds)}
    if wanted.square:
        texts["grid"] = f"square {wanted.square}"
    elif wanted.direction:
        amounts = ",".join(f"{strength:g}" for strength in wanted.strengths)
        texts["grid"] = f"direction {' -> '.join(wanted.direction)}, strengths {amounts}"
    elif wanted.fine:
        start = "" if wanted.fine_from is None else f", fine from stage {wanted.fine_from}"
        texts["grid"] = f"mixtures with {' | '.join(wanted.fine)}{start}"
    elif wanted.steps > 1:
        texts["grid"] = f"steps {wanted.steps}"
    return texts


def _check_sheet(images: int, side: int) -> None:
    if images * side * side > MAX_SHEET:
        raise InputError(
            f"{images} images of {side} pixels a side are more than one sheet holds ({MAX_SHEET:,} pixels); "
            "give a smaller --size, or fewer"
        )
