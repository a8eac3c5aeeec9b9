"""`galip invert`: an image to the noise and sentence vector that generate it, and on to edits and variations."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from PIL import Image

from galip.cli.options import DeviceOption, ModelOption, QuietOption, ThreadsOption
from galip.cli.running import check_clip, open_model, texts_of
from galip.errors import InputError
from galip.generation.prompts import clean_caption
from galip.latent.targets import Fit, as_target
from galip.model_repo.export_folder import is_export
from galip.model_repo.resolve import DEFAULT_MODEL, fetch, weights_of
from galip.utils.checks import check_folder
from galip.utils.contact_sheet import SHEET_NAME, contact_sheet
from galip.utils.image_io import image_name, save_image
from galip.utils.terminal import note, progress_bars, say

if TYPE_CHECKING:
    from galip.generation.pipeline import TextToImage
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
    """An image that is written, and what stands below it on the sheet."""

    image: Image.Image
    name: str
    text: str
    note: str


def invert(
    image: Annotated[
        Path, typer.Argument(help="An image, or a folder that this command wrote, to go on from what was found then.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the result.")] = Path("inverted"),
    caption: Annotated[
        str | None,
        typer.Option(help="What the image shows. The search begins there, and edits are differences to it."),
    ] = None,
    edit: Annotated[
        list[str] | None, typer.Option(help="Also generate it changed to this prompt; may be given several times.")
    ] = None,
    strength: Annotated[
        float, typer.Option(help="How far to edit: 0 not at all, 1 fully; with --caption more is possible.")
    ] = 1.0,
    variations: Annotated[int, typer.Option(min=0, max=10_000, help="Also generate this many images near it.")] = 0,
    amount: Annotated[
        float, typer.Option(help="How far variations go: 0 not at all, 1 to noise that has nothing of the image.")
    ] = 0.3,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of the search. [default: 300]")] = None,
    restarts: Annotated[int | None, typer.Option(min=1, help="Starts that are followed. [default: 4]")] = None,
    per_stage: Annotated[
        bool,
        typer.Option("--per-stage", help="A sentence vector for each stage: nearer to any image, but not to prompts."),
    ] = False,
    clip: Annotated[
        str | None,
        typer.Option(help="The CLIP that compares: a model or CLIP folder, a hub id. [default: the model's]"),
    ] = None,
    fit: Annotated[
        Fit | None, typer.Option(help="An image that is not square: crop its middle, or pad it. [default: crop]")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of starts and variations.")] = 0,
    model: ModelOption = DEFAULT_MODEL,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    quiet: QuietOption = False,
) -> None:
    """Find the noise and the sentence vector that generate an image; edit it by prompts, or generate others like it.

    An image of the model's own comes back. Of any other one the nearest that the model can generate is found, and it is
    printed how near that is. The folder gets inversion.json, inversion.npz and the images.
    """
    from galip.latent.inversion_folder import is_inversion, read_inversion

    started = time.monotonic()
    edits = [clean_caption(text) for text in edit or []]
    words = None if caption is None else clean_caption(caption)
    earlier = read_inversion(image) if is_inversion(image) else None
    search = Search(steps, restarts, per_stage, clip, fit)
    _check_image(image, search, earlier)
    _check_edits(strength, amount, known=words is not None or (earlier is not None and earlier.prompt is not None))
    check_folder(out)
    weights = weights_of(model)
    if is_export(fetch(model)):
        raise InputError(f"{model}: an exported model only generates; give the one that it was made from")
    if earlier is not None and earlier.weights != weights:
        raise InputError(
            f"{image}: it was inverted with other weights ({earlier.weights}, {model} has {weights}); "
            "name the model with --model"
        )

    texts = texts_of(model, weights)
    pipe = open_model(model, engine="torch", device=device, dtype="float32", threads=threads)
    out.mkdir(parents=True, exist_ok=True)
    if earlier is None:
        shown = _search(pipe, image, out, words, search, seed, texts, quiet)
        earlier = read_inversion(out)
    else:
        shown = [_generated_again(pipe, earlier)]
    shown += _edited(pipe, earlier, edits, words, strength)
    shown += _varied(pipe, earlier, variations, amount, seed)

    for one in shown:
        save_image(one.image, out / one.name, {"made by": "galip invert", "shows": one.text, "note": one.note} | texts)
        say(out / one.name)
    sheet = out / SHEET_NAME
    save_image(contact_sheet((one.image, one.text, one.note) for one in shown), sheet)
    if not quiet:
        found = earlier.facts
        note(f"reconstruction: PSNR {found['psnr_db']:.1f} dB, similarity in CLIP {found['clip_similarity']:.3f}")
        note(f"contact sheet: {sheet}")
        note(f"{time.monotonic() - started:.1f} seconds")


def _check_image(image: Path, search: Search, earlier: StoredInversion | None) -> None:
    """Refuse what the search would refuse once the model is there."""
    if earlier is not None:
        for option in search.given():
            raise InputError(f"{option}: {image} was inverted already; to search again give the image itself")
        return
    if not image.is_file():
        raise InputError(f"{image}: there is neither an image nor a folder that galip invert wrote")
    as_target(image, 1, search.fit or "crop")
    if search.clip is not None:
        check_clip(search.clip)


def _check_edits(strength: float, amount: float, known: bool) -> None:
    """Refuse numbers that an edit would refuse after the search."""
    if not math.isfinite(strength) or strength < 0 or (strength > 1 and not known):
        right = "0 or more" if known else "0 to 1, or the image's --caption to go further"
        raise InputError(f"--strength {strength}: give {right}")
    if not 0 <= amount <= 1:
        raise InputError(f"--amount {amount}: give 0 to 1")


def _search(
    pipe: TextToImage,
    image: Path,
    out: Path,
    caption: str | None,
    search: Search,
    seed: int,
    texts: dict[str, str],
    quiet: bool,
) -> list[Shown]:
    from galip.latent import inversion
    from galip.latent.inversion_folder import write_inversion

    steps, restarts = search.steps or inversion.STEPS, search.restarts or inversion.RESTARTS
    with progress_bars(shown=not quiet) as progress:
        found = inversion.invert(
            pipe,
            image,
            prompt=caption,
            restarts=restarts,
            steps=steps,
            per_stage=search.per_stage,
            clip=search.clip,
            fit=search.fit or "crop",
            seed=seed,
            progress=progress,
        )
    settings = {"picture": image.name, "steps": steps, "restarts": restarts, "fit": search.fit or "crop"}
    write_inversion(out, found, texts | settings | {"clip": search.clip and Path(search.clip).name})
    note = f"{found.psnr:.1f} dB"
    return [Shown(found.target, TARGET, image.name, "target"), Shown(found.image, INVERTED, "inverted", note)]


def _generated_again(pipe: TextToImage, found: StoredInversion) -> Shown:
    image = pipe.generate(found.z[None], found.e[None])[0]
    return Shown(image, INVERTED, "inverted", f"{found.facts['psnr_db']:.1f} dB")


def _edited(
    pipe: TextToImage, found: StoredInversion, captions: list[str], source: str | None, strength: float
) -> list[Shown]:
    from galip.latent.editing import edit

    if not captions:
        return []
    begin = source or found.prompt
    e = np.stack([edit(pipe, found.e, caption, begin, strength) for caption in captions])
    images = pipe.generate(np.repeat(found.z[None], len(e), axis=0), e)
    settings = {"weights": found.weights, "strength": strength, "source": begin, "e": found.e.tobytes().hex()}
    names = [f"edit-{image_name(caption, found.facts['seed'], settings)}" for caption in captions]
    note = f"strength {strength:g}"
    return [Shown(*parts, note) for parts in zip(images, names, captions, strict=True)]


def _varied(pipe: TextToImage, found: StoredInversion, count: int, amount: float, seed: int) -> list[Shown]:
    from galip.latent.editing import variations

    if not count:
        return []
    z = variations(found.z, count, amount, seed)
    images = pipe.generate(z, np.repeat(found.e[None], count, axis=0))
    return [
        Shown(image, f"variation-{seed + number}.png", "variation", f"amount {amount:g}, seed {seed + number}")
        for number, image in enumerate(images)
    ]
