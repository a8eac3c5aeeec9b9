"""`galip invert`: a picture to the noise and sentence vector that draw it, and from there to edits and variations."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from galip import __version__
from galip.cli.drawing import check_clip, check_folder, open_model, plain_warnings
from galip.cli.options import DeviceOption, ModelOption, ThreadsOption
from galip.errors import InputError
from galip.generation.prompts import clean_caption
from galip.latent.targets import as_target
from galip.model_repo.export_folder import is_export
from galip.model_repo.resolve import DEFAULT_MODEL, fetch, model_name, weights_of
from galip.utils import image_io
from galip.utils.contact_sheet import SHEET_NAME, contact_sheet

if TYPE_CHECKING:
    from galip.latent.inversion_folder import StoredInversion

TARGET, INVERTED = "target.png", "inverted.png"


@dataclass(frozen=True)
class Search:
    """The options of the search, as they were given; None where one was not."""

    steps: int | None
    restarts: int | None
    per_stage: bool
    clip: str | None
    fit: Any

    def given(self) -> list[str]:
        """Names of those that were."""
        named = {"--steps": self.steps, "--restarts": self.restarts, "--per-stage": self.per_stage or None}
        return [name for name, value in {**named, "--clip": self.clip, "--fit": self.fit}.items() if value is not None]


@dataclass(frozen=True)
class Shown:
    """A picture that is written, and what stands below it on the sheet."""

    image: Image.Image
    name: str
    text: str
    note: str


def invert(
    picture: Annotated[
        Path, typer.Argument(help="A picture, or a folder that this command wrote, to go on from what was found then.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the result.")] = Path("inverted"),
    caption: Annotated[
        str | None,
        typer.Option(help="What the picture shows. The search begins there, and edits are differences to it."),
    ] = None,
    edit: Annotated[
        list[str] | None, typer.Option(help="Also draw it changed to this caption; may be given several times.")
    ] = None,
    strength: Annotated[
        float, typer.Option(help="How far to edit: 0 not at all, 1 fully; with --caption more is possible.")
    ] = 1.0,
    variations: Annotated[int, typer.Option(min=0, help="Also draw this many pictures near it.")] = 0,
    amount: Annotated[
        float, typer.Option(help="How far variations go: 0 not at all, 1 to noise that has nothing of the picture.")
    ] = 0.3,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of the search. [default: 300]")] = None,
    restarts: Annotated[int | None, typer.Option(min=1, help="Starts that are followed. [default: 4]")] = None,
    per_stage: Annotated[
        bool,
        typer.Option(
            "--per-stage", help="A sentence vector for each stage: nearer to any picture, but not to captions."
        ),
    ] = False,
    clip: Annotated[
        str | None,
        typer.Option(help="The CLIP that compares: a model or CLIP folder, a hub id. [default: the model's]"),
    ] = None,
    fit: Annotated[
        str | None, typer.Option(help="A picture that is not square: crop its middle, or pad it. [default: crop]")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of starts and variations.")] = 0,
    model: ModelOption = DEFAULT_MODEL,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Find the noise and the sentence vector that draw a picture, then edit it by captions or draw others like it.

    A picture of the model's own comes back; of any other one the nearest that the model can draw is found, and how near
    that is is printed. The folder gets inversion.json, inversion.npz and the pictures.
    """
    from galip.latent.inversion_folder import is_inversion, read_inversion

    started = time.monotonic()
    edits = [clean_caption(text) for text in edit or []]
    words = None if caption is None else clean_caption(caption)
    earlier = read_inversion(picture) if is_inversion(picture) else None
    search = Search(steps, restarts, per_stage, clip, fit)
    _check_picture(picture, search, earlier)
    _check_edits(strength, amount, known=words is not None or (earlier is not None and earlier.caption is not None))
    check_folder(out)
    weights = weights_of(model)
    if is_export(fetch(model)):
        raise InputError(f"{model}: an exported model only draws; give the one that it was made from")
    if earlier is not None and earlier.weights != weights:
        raise InputError(
            f"{picture}: it was inverted with other weights ({earlier.weights}, {model} has {weights}); "
            "name the model with --model"
        )

    console = Console(stderr=True, highlight=False)
    with plain_warnings(console):
        pipe = open_model(model, device, "torch", threads, console, dtype="float32")
        if earlier is None:
            facts = {"model": model_name(model), "weights": weights, "galip": __version__}
            pictures = _search(pipe, picture, out, words, search, seed, facts, console)
            earlier = read_inversion(out)
        else:
            pictures = [_redrawn(pipe, earlier)]
        pictures += _edited(pipe, earlier, edits, words, strength)
        pictures += _varied(pipe, earlier, variations, amount, seed)

    texts = {"model": model_name(model), "weights": weights, "galip": __version__}
    for shown in pictures:
        told = {"made by": "galip invert", "shows": shown.text, "note": shown.note}
        image_io.save_png(shown.image, out / shown.name, told | texts)
    sheet = out / SHEET_NAME
    image_io.save_png(contact_sheet((shown.image, shown.text, shown.note) for shown in pictures), sheet)
    found = earlier.facts
    print(f"reconstruction: PSNR {found['psnr_db']:.1f} dB, similarity in CLIP {found['clip_similarity']:.3f}")
    print(f"written: {', '.join(shown.name for shown in pictures)}")
    print(f"contact sheet: {sheet}")
    print(f"{time.monotonic() - started:.1f} seconds")


def _check_picture(picture: Path, search: Search, earlier: StoredInversion | None) -> None:
    """Refuse what the search would refuse once the model is there."""
    if earlier is not None:
        for option in search.given():
            raise InputError(f"{option}: {picture} was inverted already; to search again give the picture itself")
        return
    if not picture.is_file():
        raise InputError(f"{picture}: there is neither a picture nor a folder that galip invert wrote")
    as_target(picture, 1, search.fit or "crop")
    if search.clip is not None:
        check_clip(search.clip)


def _check_edits(strength: float, amount: float, known: bool) -> None:
    """Refuse numbers that an edit would refuse after the search."""
    if not math.isfinite(strength) or strength < 0 or (strength > 1 and not known):
        right = "0 or more" if known else "0 to 1, or the picture's --caption to go further"
        raise InputError(f"--strength {strength}: give {right}")
    if not 0 <= amount <= 1:
        raise InputError(f"--amount {amount}: give 0 to 1")


def _search(
    pipe: Any,
    picture: Path,
    out: Path,
    caption: str | None,
    search: Search,
    seed: int,
    facts: dict[str, Any],
    console: Console,
) -> list[Shown]:
    from galip.latent import inversion
    from galip.latent.inversion_folder import write_inversion

    steps, restarts = search.steps or inversion.STEPS, search.restarts or inversion.RESTARTS
    columns = (TextColumn("searching"), BarColumn(), MofNCompleteColumn(), TextColumn("loss {task.fields[loss]:.4f}"))
    hidden = not console.is_terminal
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=hidden) as progress:
        task = progress.add_task("", total=steps, loss=float("nan"))
        found = inversion.invert(
            pipe,
            picture,
            caption=caption,
            restarts=restarts,
            steps=steps,
            per_stage=search.per_stage,
            clip=search.clip,
            fit=search.fit or "crop",
            seed=seed,
            progress=lambda done, _, loss: progress.update(task, completed=done, loss=loss),
        )
    settings = {"picture": picture.name, "steps": steps, "restarts": restarts, "fit": search.fit or "crop"}
    write_inversion(out, found, facts | settings | {"clip": search.clip and Path(search.clip).name})
    note = f"{found.psnr:.1f} dB"
    return [Shown(found.target, TARGET, picture.name, "target"), Shown(found.image, INVERTED, "inverted", note)]


def _redrawn(pipe: Any, found: StoredInversion) -> Shown:
    from galip.latent.pipelines import draw

    image = draw(pipe, found.z[None], found.e[None])[0]
    return Shown(image, INVERTED, "inverted", f"{found.facts['psnr_db']:.1f} dB")


def _edited(pipe: Any, found: StoredInversion, captions: list[str], source: str | None, strength: float) -> list[Shown]:
    from galip.latent.editing import edit
    from galip.latent.pipelines import draw

    if not captions:
        return []
    begin = source or found.caption
    e = np.stack([edit(pipe, found.e, caption, begin, strength) for caption in captions])
    images = draw(pipe, np.repeat(found.z[None], len(e), axis=0), e)
    settings = {"weights": found.weights, "strength": strength, "source": begin, "e": found.e.tobytes().hex()}
    names = [f"edit-{image_io.image_name(caption, found.facts['seed'], settings)}" for caption in captions]
    note = f"strength {strength:g}"
    return [Shown(*parts, note) for parts in zip(images, names, captions, strict=True)]


def _varied(pipe: Any, found: StoredInversion, count: int, amount: float, seed: int) -> list[Shown]:
    from galip.latent.editing import variations
    from galip.latent.pipelines import draw

    if not count:
        return []
    z = variations(found.z, count, amount, seed)
    images = draw(pipe, z, np.repeat(found.e[None], count, axis=0))
    return [
        Shown(image, f"variation-{seed + number}.png", "variation", f"amount {amount:g}, seed {seed + number}")
        for number, image in enumerate(images)
    ]
