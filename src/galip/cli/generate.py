"""`galip generate`: captions to PNG files and a contact sheet."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image
from rich.console import Console

from galip.cli.drawing import (
    amount,
    check_folder,
    open_model,
    plain_warnings,
    progress_bar,
    shown_seeds,
    texts_of,
)
from galip.cli.improving import Picture, Wishes, eye, improved, note_of, plain, plan, save
from galip.cli.options import (
    BATCH_SIZE,
    BatchSizeOption,
    DeviceOption,
    EngineOption,
    ModelOption,
    ThreadsOption,
    TruncationOption,
    check_truncation,
    parse_seeds,
)
from galip.errors import InputError
from galip.generation.noise import SEED_LIMIT
from galip.generation.prompts import clean_caption, read_captions
from galip.generation.select import AUTO, check_engine
from galip.model_repo.resolve import DEFAULT_MODEL, weights_of
from galip.utils import image_io
from galip.utils.contact_sheet import SHEET_LIMIT, SHEET_NAME, contact_sheet

MOST_NAMED = 8
"""Captions whose chosen seeds are told on the terminal; the files tell them all."""


def generate(
    captions: Annotated[list[str] | None, typer.Argument(help="What to draw, one caption each.")] = None,
    number: Annotated[
        int | None, typer.Option("-n", "--number", min=1, help="Pictures of each caption. [default: 1 per seed]")
    ] = None,
    seed: Annotated[
        str | None,
        typer.Option(
            help="Seeds of each caption's pictures: 7 (the first), 0-3, or 1,5,9. "
            "[default: random; 0 with --prompts-file, so that the command can be repeated]"
        ),
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the pictures.")] = Path("out"),
    model: ModelOption = DEFAULT_MODEL,
    prompts_file: Annotated[
        Path | None,
        typer.Option(
            help="A UTF-8 file with one caption a line; - is standard input. What is drawn is not drawn again."
        ),
    ] = None,
    best_of: Annotated[
        int | None,
        typer.Option(min=1, help="Draw so many of each caption and keep the -n that a CLIP finds nearest to it."),
    ] = None,
    refine: Annotated[
        int | None,
        typer.Option(min=1, help="Improve each picture by so many gradient steps on its noise, in a CLIP's eyes."),
    ] = None,
    clip: Annotated[
        str | None,
        typer.Option(help="The CLIP of these: a model or CLIP folder, a hub id. [default: the model's own]"),
    ] = None,
    truncation: TruncationOption = 1.0,
    batch_size: BatchSizeOption = BATCH_SIZE,
    device: DeviceOption = None,
    engine: EngineOption = AUTO,
    threads: ThreadsOption = None,
    sheet: Annotated[bool, typer.Option(help=f"Put the first {SHEET_LIMIT} on a contact sheet.")] = True,
) -> None:
    """Draw pictures from captions.

    A picture depends on the model, its caption and its seed alone. It is written as soon as it is drawn, under a name
    made from these, and is left alone when it is there already: a command that was stopped can simply be run again.
    """
    started = time.monotonic()
    wanted = _distinct_captions(captions or [], prompts_file)
    wishes = Wishes(best_of or 0, refine or 0, clip)
    if best_of and (number or 1) > best_of:
        raise InputError(f"-n {number} with --best-of {best_of}: give at most as many as are drawn")
    seeds = _seeds(seed, number, best_of, repeatable=prompts_file is not None)
    kept = (number or 1) if best_of else len(seeds)
    check_truncation(truncation)
    check_engine(engine)
    wishes.check(model, engine)
    check_folder(out)
    weights = weights_of(model)

    settings = {"weights": weights, "truncation": truncation} | wishes.settings()
    candidates = {
        caption: [Picture(caption, s, out / image_io.image_name(caption, s, settings)) for s in seeds]
        for caption in wanted
    }
    told = wishes.texts(kept, seeds)
    texts = texts_of(model, weights, truncation) | told
    pictures, missing = plan(candidates, wishes, told, kept)
    to_draw = sum(map(len, missing))
    if missing:
        console = Console(stderr=True, highlight=False)
        with plain_warnings(console), ExitStack() as open_bars:
            pipe = open_model(model, device, wishes.engine(engine), threads, console, wishes.dtype)
            judge = eye(pipe, model, clip) if wishes else None
            update = open_bars.enter_context(progress_bar(console, "drawing", to_draw, batch_size))
            if judge is None:
                drawn = plain(pipe, missing, truncation, batch_size, update)
            else:
                drawn = improved(pipe, judge, wishes, missing, kept, truncation, batch_size, update)
            for picture, image, score in drawn:  # each is on disk before the next batch is begun
                save(picture, image, texts, score)
                if best_of:
                    pictures[picture.caption].append(picture)

    every = [picture for caption in wanted for picture in pictures[caption]]
    there = len(every) - (kept * len(missing) if best_of else to_draw)
    print(
        f"{amount(to_draw, 'picture')} drawn"
        + (f", {kept * len(missing)} of them kept" if best_of else "")
        + (f", {there} were there already" if there else "")
        + f": {out}"
    )
    print(f"seeds: {shown_seeds(seeds)}")
    if best_of and len(wanted) <= MOST_NAMED:
        for caption in wanted:
            print(f"  {caption}: {', '.join(str(picture.seed) for picture in pictures[caption])}")
    if sheet:
        path = out / SHEET_NAME
        image_io.save_png(_sheet(every, kept), path)
        left = len(every) - SHEET_LIMIT
        print(f"contact sheet: {path}" + (f" (the first {SHEET_LIMIT} of {len(every)})" if left > 0 else ""))
    print(f"{time.monotonic() - started:.1f} seconds")


def _distinct_captions(arguments: Sequence[str], prompts_file: Path | None) -> list[str]:
    """The captions of the command line, then those of the file, cleaned, each once."""
    captions = [clean_caption(caption) for caption in arguments]
    if prompts_file is not None:
        piped = str(prompts_file) == "-"
        content = sys.stdin.buffer.read() if piped else prompts_file.read_bytes()
        captions += read_captions(content, "standard input" if piped else str(prompts_file))
    if not captions:
        raise InputError('nothing to draw: give captions, as in galip generate "a red heart", or --prompts-file')
    distinct = list(dict.fromkeys(captions))
    if repeated := len(captions) - len(distinct):
        print(f"{amount(repeated, 'caption')} given more than once: drawn once", file=sys.stderr)
    return distinct


def _seeds(text: str | None, number: int | None, best_of: int | None, repeatable: bool) -> list[int]:
    """The seeds of every caption's pictures, or of those that its pictures are chosen from."""
    if text is None:
        text = "0" if repeatable else str(secrets.randbits(31))
    seeds = parse_seeds(text)
    option, wanted = ("-n", number) if best_of is None else ("--best-of", best_of)
    if len(seeds) == 1:
        first, count = seeds[0], wanted or 1
        if first + count > SEED_LIMIT:
            raise InputError(f"--seed {first} with {option} {count}: the last seed would be 2**63 or more")
        return list(range(first, first + count))
    if wanted not in (None, len(seeds)):
        raise InputError(f"{option} {wanted}, but --seed {text} names {len(seeds)} seeds: leave one of them out")
    return seeds


def _sheet(pictures: Sequence[Picture], per_caption: int) -> Image.Image:
    # Read back from disk: there may be more of them than memory holds, and some are from an earlier run.
    cells = ((_open(picture.path), picture.caption, note_of(picture.path, picture.seed)) for picture in pictures)
    return contact_sheet(cells, per_row=per_caption if per_caption > 1 else None)


def _open(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")
