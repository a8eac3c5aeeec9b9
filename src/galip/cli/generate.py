"""`galip generate`: prompts to image files and a contact sheet."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any

import typer
from PIL import Image

from galip.cli.options import (
    AUTO,
    BATCH_SIZE,
    BatchSizeOption,
    DeviceOption,
    DTypeOption,
    EngineOption,
    FormatOption,
    ModelOption,
    PrecisionOption,
    QuietOption,
    SizeOption,
    ThreadsOption,
    TruncationOption,
    check_truncation,
    parse_seeds,
    shortened,
    shown_seeds,
)
from galip.cli.rerank import SCORE, PlannedImage, RerankOptions, Result, earlier_choice, rerank, scorer
from galip.cli.rerank import generate as generate_images
from galip.cli.rerank import refine as refine_images
from galip.cli.running import open_model, texts_of
from galip.errors import InputError
from galip.generation.noise import SEED_LIMIT
from galip.generation.prompts import clean_caption, read_captions
from galip.model_repo.resolve import DEFAULT_MODEL, weights_of
from galip.utils.atomic import clear_folder
from galip.utils.checks import check_folder, check_space
from galip.utils.contact_sheet import SHEET_LIMIT, SHEET_NAME, contact_sheet
from galip.utils.image_io import ImageFormat, image_name, read_texts, resized, save_image
from galip.utils.terminal import amount, note, progress_bars, say, say_json

MAX_NAMED = 8
"""Prompts whose chosen seeds are told on the terminal; the files tell them all."""

MAX_BEST_OF = 10_000

_PROMPTS_AT_ONCE = 64  # whose candidates are planned together


@dataclass(frozen=True)
class Request:
    """What the options ask for.

    Attributes:
        prompts: cleaned, each once.
        seeds: of each prompt's images, or of those that its images are chosen from.
        kept: images that are written for each prompt.
        rerank: how a CLIP takes part.
        truncation, batch_size: as for `galip.load`'s call.
    """

    prompts: Sequence[str]
    seeds: Sequence[int]
    kept: int
    rerank: RerankOptions
    truncation: float
    batch_size: int

    @property
    def total(self) -> int:
        """Number of images that there are at the end."""
        return len(self.prompts) * self.kept


def generate(
    prompts: Annotated[list[str] | None, typer.Argument(help="What to generate, one prompt each.")] = None,
    number: Annotated[
        int | None, typer.Option("-n", "--number", min=1, help="Images of each prompt. [default: 1 per seed]")
    ] = None,
    seed: Annotated[
        str | None,
        typer.Option(
            help="Seeds of each prompt's images: 7 (the first), 0-3, or 1,5,9. "
            "[default: random; 0 with --prompts-file, so that the command can be repeated]"
        ),
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the images.")] = Path("out"),
    model: ModelOption = DEFAULT_MODEL,
    prompts_file: Annotated[
        Path | None,
        typer.Option(
            help="A UTF-8 file with one prompt a line; - is standard input. What is there is not generated again."
        ),
    ] = None,
    size: SizeOption = None,
    format: FormatOption = "png",
    best_of: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MAX_BEST_OF,
            help="Generate so many images of each prompt and keep the -n that a CLIP finds nearest to it.",
        ),
    ] = None,
    refine: Annotated[
        int | None,
        typer.Option(
            min=1, max=10_000, help="Improve each image by so many gradient steps on its noise, in a CLIP's eyes."
        ),
    ] = None,
    clip: Annotated[
        str | None,
        typer.Option(help="The CLIP of these: a model or CLIP folder, a hub id. [default: the model's own]"),
    ] = None,
    truncation: TruncationOption = 1.0,
    batch_size: BatchSizeOption = BATCH_SIZE,
    device: DeviceOption = None,
    engine: EngineOption = AUTO,
    precision: PrecisionOption = None,
    dtype: DTypeOption = None,
    threads: ThreadsOption = None,
    sheet: Annotated[bool, typer.Option(help=f"Put the first {SHEET_LIMIT} on a contact sheet.")] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON object for each image instead of its path.")
    ] = False,
    quiet: QuietOption = False,
) -> None:
    """Generate images from prompts, and print the paths of the files.

    An image depends on the model, its prompt and its seed alone. It is written as soon as it is generated, under a name
    made from these, and is left alone when it is there already: a command that was stopped can simply be run again.
    """
    started = time.monotonic()
    wanted = _distinct_prompts(prompts or [], prompts_file)
    options = RerankOptions(best_of or 0, refine or 0, clip)
    if best_of and (number or 1) > best_of:
        raise InputError(f"-n {number} with --best-of {best_of}: give at most as many as are generated")
    seeds = _seeds(seed, number, best_of, repeatable=prompts_file is not None)
    request = Request(wanted, seeds, (number or 1) if best_of else len(seeds), options, truncation, batch_size)
    check_truncation(truncation)
    options.check(model, engine)
    if precision is not None and dtype is not None:
        raise InputError(f"--precision {precision} with --dtype {dtype}: give --precision alone")
    if options.refine:
        if precision not in (None, "fp32"):
            raise InputError(f"--refine with --precision {precision}: gradients are taken in fp32; leave it out")
        if dtype not in (None, "float32"):
            raise InputError(f"--refine with --dtype {dtype}: gradients are taken in float32; leave --dtype out")
        engine, dtype, precision = "torch", "float32", None
    check_folder(out)
    check_space(out, request.total)
    weights = weights_of(model)

    texts = texts_of(model, weights, truncation, precision) | options.texts(request.kept, seeds)
    settings = {"weights": weights, "truncation": truncation} | options.settings()
    settings |= {name: value for name, value in (("size", size), ("dtype", dtype)) if value not in (None, "float32")}
    settings |= {} if precision in (None, "fp32") else {"precision": precision}
    files = Files(out, texts, settings, size, format, as_json)
    files.chosen = {prompt: [] for prompt in wanted[:SHEET_LIMIT]} if best_of else {}
    clear_folder(out)

    def open_pipe() -> tuple[Any, Any]:
        pipe = open_model(model, engine=engine, device=device, dtype=dtype, precision=precision, threads=threads)
        found = scorer(pipe, model, clip) if options else None
        out.mkdir(parents=True, exist_ok=True)
        return pipe, found

    shown = 0
    with progress_bars(shown=not quiet) as progress:
        for result in _results(request, files, open_pipe):
            files.save(result)
            done = files.written + files.there
            if done - shown >= batch_size or done == request.total:
                progress("generating", shown := done, request.total)
    path = out / SHEET_NAME
    if sheet:
        save_image(_sheet(request, files), path)
    if not quiet:
        for line in _summary(request, files, path if sheet else None):
            note(line)
        note(f"{time.monotonic() - started:.1f} seconds")


class Files:
    """The files of a command: where they go, and what is told of each as it comes.

    Args:
        out: their folder.
        texts: what every file tells.
        settings: what all their pixels depend on, for their names.
        size: side in pixels; None: the model's.
        format: of the files.
        as_json: whether an object is printed for each instead of its path.

    Attributes:
        written, there: how many were written, and how many were there before.
        chosen: the images of these prompts, once they are known.
    """

    def __init__(
        self,
        out: Path,
        texts: dict[str, str],
        settings: dict[str, Any],
        size: int | None,
        format: ImageFormat,
        as_json: bool,
    ) -> None:
        self.out, self._texts, self._settings = out, texts, settings
        self._size, self._format, self._as_json = size, format, as_json
        self.written = self.there = 0
        self.chosen: dict[str, list[PlannedImage]] = {}

    def plan(self, prompt: str, seed: int) -> PlannedImage:
        """An image and where it goes."""
        return PlannedImage(prompt, seed, self.out / image_name(prompt, seed, self._settings, self._format))

    def earlier_choice(self, candidates: Sequence[PlannedImage], kept: int) -> list[PlannedImage]:
        """The images that the same command chose before, the best first; empty unless all are there."""
        return earlier_choice(candidates, self._texts, kept)

    def save(self, result: Result) -> None:
        """Write an image with what made it."""
        image, pixels, score = result
        texts = {"prompt": image.prompt, "seed": str(image.seed), **self._texts}
        texts |= {} if score is None else {SCORE: f"{score:.4f}"}
        save_image(resized(pixels, self._size), image.path, texts)
        self.written += 1
        self._tell(image, texts, new=True)

    def found(self, image: PlannedImage) -> None:
        """An image is there already."""
        self.there += 1
        self._tell(image, read_texts(image.path) if self._as_json else {}, new=False)

    def _tell(self, image: PlannedImage, texts: dict[str, str], new: bool) -> None:
        if image.prompt in self.chosen:
            self.chosen[image.prompt].append(image)
        if self._as_json:
            facts: dict[str, Any] = {"path": str(image.path), "prompt": image.prompt, "seed": image.seed}
            facts |= {name: texts[name] for name in ("model", "weights") if name in texts}
            facts |= {name: float(texts[name]) for name in ("truncation", SCORE) if name in texts}
            say_json(facts | {"generated": new}, indent=None)
        elif new:
            say(image.path)


def _results(request: Request, files: Files, open_pipe: Callable[[], tuple[Any, Any]]) -> Iterator[Result]:
    """The images that are not there yet, one by one; the model is loaded if there are any."""
    how = request.truncation, request.batch_size
    if request.rerank.best_of:
        missing = _missing_choices(request, files)
        if (first := next(missing, None)) is None:
            return
        pipe, clip = open_pipe()
        coming = chain([first], missing)
        while candidates := list(islice(coming, _PROMPTS_AT_ONCE)):
            yield from rerank(pipe, clip, request.rerank, candidates, request.kept, *how)
        return
    images = _missing_images(request, files)
    if (image := next(images, None)) is None:
        return
    pipe, clip = open_pipe()
    if request.rerank.refine:
        yield from refine_images(pipe, clip, request.rerank.refine, chain([image], images), *how)
    else:
        yield from generate_images(pipe, chain([image], images), *how)


def _missing_images(request: Request, files: Files) -> Iterator[PlannedImage]:
    for prompt in request.prompts:
        for seed in request.seeds:
            image = files.plan(prompt, seed)
            if image.path.exists():
                files.found(image)
            else:
                yield image


def _missing_choices(request: Request, files: Files) -> Iterator[list[PlannedImage]]:
    """The candidates of each prompt whose choice is not there yet."""
    for prompt in request.prompts:
        candidates = [files.plan(prompt, seed) for seed in request.seeds]
        chosen = files.earlier_choice(candidates, request.kept)
        for image in chosen:
            files.found(image)
        if not chosen:
            yield candidates


def _summary(request: Request, files: Files, sheet: Path | None) -> Iterator[str]:
    best_of = request.rerank.best_of
    generated = files.written // request.kept * len(request.seeds) if best_of else files.written
    yield (
        f"{amount(generated, 'image')} generated"
        + (f", {files.written} of them kept" if best_of else "")
        + (f", {files.there} were there already" if files.there else "")
        + f": {files.out}"
    )
    yield f"seeds: {shown_seeds(request.seeds)}"
    if best_of and len(request.prompts) <= MAX_NAMED:
        for prompt in request.prompts:
            yield f"  {prompt}: {', '.join(str(image.seed) for image in files.chosen[prompt])}"
    if sheet is not None:
        yield f"contact sheet: {sheet}" + (
            f" (the first {SHEET_LIMIT} of {request.total:,})" if request.total > SHEET_LIMIT else ""
        )


def _distinct_prompts(arguments: Sequence[str], prompts_file: Path | None) -> list[str]:
    """The prompts of the command line, then those of the file, cleaned, each once."""
    prompts = [clean_caption(prompt) for prompt in arguments]
    if prompts_file is not None:
        piped = str(prompts_file) == "-"
        content = sys.stdin.buffer.read() if piped else prompts_file.read_bytes()
        prompts += read_captions(content, "standard input" if piped else str(prompts_file))
    if not prompts:
        raise InputError('nothing to generate: give prompts, as in galip generate "a red heart", or --prompts-file')
    distinct = list(dict.fromkeys(prompts))
    if repeated := len(prompts) - len(distinct):
        note(f"{amount(repeated, 'prompt')} given more than once: generated once")
    return distinct


def _seeds(text: str | None, number: int | None, best_of: int | None, repeatable: bool) -> Sequence[int]:
    """The seeds of every prompt's images, or of those that its images are chosen from."""
    if text is None:
        text = "0" if repeatable else str(secrets.randbits(31))
    seeds = parse_seeds(text)
    option, wanted = ("-n", number) if best_of is None else ("--best-of", best_of)
    if len(seeds) == 1:
        first, count = seeds[0], wanted or 1
        if first + count > SEED_LIMIT:
            raise InputError(f"--seed {first} with {option} {count}: the last seed would be 2**63 or more")
        return range(first, first + count)
    if wanted not in (None, len(seeds)):
        raise InputError(
            f"{option} {wanted}, but --seed {shortened(text)} names {len(seeds)} seeds: leave one of them out"
        )
    return seeds


def _sheet(request: Request, files: Files) -> Image.Image:
    """The first images, read back from disk: some are from an earlier run."""
    planned = (files.plan(prompt, seed) for prompt in request.prompts for seed in request.seeds)
    images = chain.from_iterable(files.chosen.values()) if request.rerank.best_of else planned
    cells = ((_open(image.path), image.prompt, _note(image)) for image in islice(images, SHEET_LIMIT))
    return contact_sheet(cells, per_row=request.kept if 1 < request.kept <= SHEET_LIMIT else None)


def _note(image: PlannedImage) -> str:
    """What stands below an image on the contact sheet."""
    score = read_texts(image.path).get(SCORE)
    return f"seed {image.seed}" + ("" if score is None else f", CLIP {float(score):.2f}")


def _open(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")
