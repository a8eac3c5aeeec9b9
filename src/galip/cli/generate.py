"""`galip generate`: captions to PNG files and a contact sheet."""

from __future__ import annotations

import math
import secrets
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from galip import __version__, gallery
from galip.captions import clean_caption
from galip.cli.options import EngineOption, parse_seeds
from galip.errors import InputError
from galip.loading import DEFAULT_MODEL, fetch, load, resolve
from galip.model_folder import check_model_folder, fingerprint
from galip.noise import SEED_LIMIT
from galip.outputs import GALIPPipelineOutput
from galip.runtime.choosing import AUTO, check_engine
from galip.runtime.export_folder import is_export, read_manifest

BATCH_SIZE = 16
"""Pictures drawn at once unless the user says otherwise."""


class Streaming(Protocol):
    """What is asked of a pipeline here: torch's and the other engines' have it alike."""

    def stream(
        self, prompt: list[str], *, seed: list[int], truncation: float, batch_size: int
    ) -> Iterator[GALIPPipelineOutput]:
        """Pictures of captions and seeds, batch by batch."""


@dataclass(frozen=True)
class Picture:
    """One picture to draw: everything that its pixels depend on beside the model, and where it goes."""

    caption: str
    seed: int
    path: Path


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
    model: Annotated[str, typer.Option(help="A bundled model's name, a folder, or a hub id.")] = DEFAULT_MODEL,
    prompts_file: Annotated[
        Path | None,
        typer.Option(
            help="A UTF-8 file with one caption a line; - is standard input. What is drawn is not drawn again."
        ),
    ] = None,
    truncation: Annotated[
        float, typer.Option(help="Scale of the noise: below 1 for more typical, less varied pictures.")
    ] = 1.0,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures drawn at once; changes speed only.")] = BATCH_SIZE,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps. [default: a GPU if there is one]")] = None,
    engine: EngineOption = AUTO,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads. [default: the engine's own choice]")] = None,
    sheet: Annotated[bool, typer.Option(help=f"Put the first {gallery.SHEET_LIMIT} on a contact sheet.")] = True,
) -> None:
    """Draw pictures from captions.

    A picture depends on the model, its caption and its seed alone. It is written as soon as it is drawn, under a name
    made from these, and is left alone when it is there already: a command that was stopped can simply be run again.
    """
    started = time.monotonic()
    wanted = _distinct_captions(captions or [], prompts_file)
    seeds = _seeds(seed, number, repeatable=prompts_file is not None)
    if not math.isfinite(truncation):
        raise InputError(f"--truncation {truncation}: give a finite number, 1 for the noise as it is")
    check_engine(engine)
    _prepare_folder(out)
    weights = _weights(fetch(model))

    settings = {"weights": weights, "truncation": truncation}
    pictures = [
        Picture(caption, s, out / gallery.picture_name(caption, s, settings)) for caption in wanted for s in seeds
    ]
    missing = [picture for picture in pictures if not picture.path.exists()]
    if missing:
        texts = {"model": _model_name(model), "weights": weights, "truncation": f"{truncation:g}", "galip": __version__}
        console = Console(stderr=True, highlight=False)
        with _plain_warnings(console):
            with console.status(f"Loading {model} ..."):
                pipe = load(model, device=device, engine=engine, threads=threads, say=_line_to(console))
            _draw(pipe, missing, truncation, batch_size, texts, console)

    there = len(pictures) - len(missing)
    print(f"{_count(len(missing), 'picture')} drawn" + (f", {there} were there already" if there else "") + f": {out}")
    print(f"seeds: {_range(seeds)}")
    if sheet:
        path = out / gallery.SHEET_NAME
        gallery.save_png(_sheet(pictures, len(seeds)), path)
        left = len(pictures) - gallery.SHEET_LIMIT
        print(f"contact sheet: {path}" + (f" (the first {gallery.SHEET_LIMIT} of {len(pictures)})" if left > 0 else ""))
    print(f"{time.monotonic() - started:.1f} seconds")


def _distinct_captions(arguments: Sequence[str], prompts_file: Path | None) -> list[str]:
    """The captions of the command line, then those of the file, cleaned, each once."""
    captions = [clean_caption(caption) for caption in arguments]
    if prompts_file is not None:
        captions += _read_prompts(prompts_file)
    if not captions:
        raise InputError('nothing to draw: give captions, as in galip generate "a red heart", or --prompts-file')
    distinct = list(dict.fromkeys(captions))
    if repeated := len(captions) - len(distinct):
        print(f"{_count(repeated, 'caption')} given more than once: drawn once", file=sys.stderr)
    return distinct


def _read_prompts(file: Path) -> list[str]:
    name = "standard input" if str(file) == "-" else str(file)
    content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    try:
        lines = content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: it is no UTF-8 text ({error}); one caption a line is needed") from None
    captions = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                captions.append(clean_caption(line))
            except InputError as error:
                raise InputError(f"{name}, line {number}: {error}") from None
    if not captions:
        raise InputError(f"{name}: it holds no captions; one a line is needed")
    return captions


def _seeds(text: str | None, number: int | None, repeatable: bool) -> list[int]:
    """The seeds of every caption's pictures."""
    if text is None:
        text = "0" if repeatable else str(secrets.randbits(31))
    seeds = parse_seeds(text)
    if len(seeds) == 1:
        first, count = seeds[0], number or 1
        if first + count > SEED_LIMIT:
            raise InputError(f"--seed {first} with -n {count}: the last seed would be 2**63 or more")
        return list(range(first, first + count))
    if number not in (None, len(seeds)):
        raise InputError(f"-n {number}, but --seed {text} names {len(seeds)} seeds: leave one of them out")
    return seeds


def _prepare_folder(out: Path) -> None:
    """Make the output folder and make sure that files can be written there, before the expensive part begins."""
    if out.exists() and not out.is_dir():
        raise InputError(f"-o {out}: this is a file; give a folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise InputError(
            f"-o {out}: pictures cannot be written there ({error.strerror}); give another folder"
        ) from error


def _weights(folder: Path) -> str:
    """The name of the weights, once it is sure that the model is whole."""
    if is_export(folder):
        return read_manifest(folder).weights
    check_model_folder(folder)
    return fingerprint(folder)


def _line_to(console: Console) -> Callable[[str], None]:
    return lambda line: console.print(line, markup=False, soft_wrap=True)


def _draw(
    pipe: Streaming,
    pictures: Sequence[Picture],
    truncation: float,
    batch_size: int,
    texts: dict[str, str],
    console: Console,
) -> None:
    """Draw pictures in batches across captions; each is on disk before the next batch is begun."""
    batches = pipe.stream(
        [picture.caption for picture in pictures],
        seed=[picture.seed for picture in pictures],
        truncation=truncation,
        batch_size=batch_size,
    )
    columns = (TextColumn("drawing"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]}"))
    # One batch is no more than a moment's work.
    hidden = len(pictures) <= batch_size or not console.is_terminal
    rest = iter(pictures)
    done, started = 0, time.monotonic()
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=hidden) as progress:
        task = progress.add_task("", total=len(pictures), speed="")
        for batch in batches:
            for image, picture in zip(batch.images, islice(rest, len(batch.images)), strict=True):
                gallery.save_png(image, picture.path, {"prompt": picture.caption, "seed": str(picture.seed)} | texts)
            done += len(batch.images)
            progress.update(task, completed=done, speed=f"{done / (time.monotonic() - started):.1f}/s")


def _sheet(pictures: Sequence[Picture], per_caption: int) -> Image.Image:
    # Read back from disk: there may be more of them than memory holds, and some are from an earlier run.
    cells = ((_open(picture.path), picture.caption, f"seed {picture.seed}") for picture in pictures)
    return gallery.contact_sheet(cells, per_row=per_caption if per_caption > 1 else None)


@contextmanager
def _plain_warnings(console: Console) -> Iterator[None]:
    """Show warnings as one line each, above the progress bar, instead of with a place in our code."""

    def show(message: Warning | str, category: type[Warning], *_place: Any, **_options: Any) -> None:
        if issubclass(category, UserWarning) and not issubclass(category, FutureWarning | DeprecationWarning):
            console.print(f"Warning: {message}", markup=False, soft_wrap=True)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _model_name(model: str) -> str:
    """The name that a picture's file keeps: of a folder only the last part, which tells nothing of the machine."""
    found = resolve(model)
    return model if isinstance(found, str) else found.resolve().name


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _range(seeds: Sequence[int]) -> str:
    if len(seeds) > 1 and seeds[-1] - seeds[0] == len(seeds) - 1:
        return f"{seeds[0]}-{seeds[-1]}"
    return ",".join(map(str, seeds))


def _open(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")
