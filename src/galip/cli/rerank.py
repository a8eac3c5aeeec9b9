"""How `galip generate` chooses: a CLIP picks the best of several images, or leads to better noise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from galip.cli.options import shown_seeds
from galip.cli.running import check_clip
from galip.errors import InputError
from galip.generation.select import AUTO
from galip.model_repo.export_folder import is_export
from galip.model_repo.resolve import fetch, model_name
from galip.utils.image_io import read_texts

if TYPE_CHECKING:
    from galip.generation.pipeline import TextToImage
    from galip.latent.clip import Scorer

SCORE, CHOICE = "clip_score", "chosen"
"""Texts of an image's file: what its CLIP says of it, and out of how many it was chosen."""

_CHUNK = 64
"""Batches that are handed to the pipeline together: no list is longer, however many images are wanted."""


@dataclass(frozen=True)
class PlannedImage:
    """One image to generate: what its pixels depend on beside the model, and where it goes."""

    prompt: str
    seed: int
    path: Path


Result = tuple[PlannedImage, Image.Image, float | None]
"""An image that was planned, what it looks like, and its score where a CLIP was asked."""


@dataclass(frozen=True)
class RerankOptions:
    """The options --best-of, --refine and --clip.

    Attributes:
        best_of: how many images of each prompt are generated; 0 where none is chosen.
        refine: gradient steps; 0 for none.
        clip: the CLIP that is asked; None: the model's own.
    """

    best_of: int = 0
    refine: int = 0
    clip: str | None = None

    def __bool__(self) -> bool:
        return bool(self.best_of or self.refine)

    def check(self, model: str, engine: str) -> None:
        """Refuse what cannot be done, before anything is loaded.

        Raises:
            InputError: no CLIP is there to choose, or the model or engine has no gradients.
            GalipError: there is no such model.
        """
        from galip.latent.clip import has_own_clip

        if self.clip is not None:
            if not self:
                raise InputError("--clip belongs to --best-of and --refine, neither of which is given")
            check_clip(self.clip)
        if self.refine and is_export(fetch(model)):
            raise InputError(f"--refine: {model} is exported and only generates; give the model that it was made from")
        if self.refine and engine not in (AUTO, "torch"):
            raise InputError(f"--refine with --engine {engine}: gradients are torch's; leave --engine out")
        if self and self.clip is None and not has_own_clip(model):
            option = "--best-of" if self.best_of else "--refine"
            raise InputError(f"{option}: {model} has no CLIP of its own that sees images; name one with --clip")

    def settings(self) -> dict[str, object]:
        """What an image's pixels depend on: not on having been chosen."""
        if not self.refine:
            return {}
        from galip.latent.refinement import ANGLE

        return {"refine": self.refine, "angle": ANGLE, "clip": self._scorer}

    def texts(self, kept: int, seeds: Sequence[int]) -> dict[str, str]:
        """What every file tells of it."""
        texts = {"clip": self._scorer} if self else {}
        if self.best_of:
            texts[CHOICE] = f"{kept} of seeds {shown_seeds(seeds)}"
        if self.refine:
            texts["refined"] = f"{self.refine} steps"
        return texts

    @property
    def _scorer(self) -> str:
        return "the model's own" if self.clip is None else model_name(self.clip)


def scorer(pipe: TextToImage, model: str, clip: str | None) -> Scorer:
    """The CLIP that is asked: the model's own comes from its folder where an engine has kept none of it.

    Raises:
        GalipError: it cannot be loaded.
    """
    from galip.latent.clip import scorer_for

    return scorer_for(pipe, clip, model)


def earlier_choice(images: Iterable[PlannedImage], texts: Mapping[str, str], kept: int) -> list[PlannedImage]:
    """The images that the same command chose before, the best first; empty unless all are there."""
    found = []
    for image in images:
        if image.path.exists():
            told = read_texts(image.path)
            if SCORE in told and all(told.get(name) == text for name, text in texts.items()):
                found.append((-float(told[SCORE]), image))
    return [image for _, image in sorted(found, key=lambda entry: entry[0])] if len(found) == kept else []


def generate(pipe: TextToImage, images: Iterable[PlannedImage], truncation: float, batch_size: int) -> Iterator[Result]:
    """Generate images in full batches, whatever their prompts; the plan may be endless."""
    coming = iter(images)
    while part := list(islice(coming, _CHUNK * batch_size)):
        batches = pipe.stream(
            [image.prompt for image in part],
            seed=[image.seed for image in part],
            truncation=truncation,
            batch_size=batch_size,
        )
        generated = (image for batch in batches for image in batch.images)
        yield from ((planned, image, None) for planned, image in zip(part, generated, strict=True))


def refine(
    pipe: TextToImage, clip: Scorer, steps: int, images: Iterable[PlannedImage], truncation: float, batch_size: int
) -> Iterator[Result]:
    """Generate images whose noise is led by a CLIP, with their scores."""
    from galip.latent.refinement import refine as refined

    coming = iter(images)
    while part := list(islice(coming, batch_size)):
        found = refined(
            pipe,
            [image.prompt for image in part],
            seed=[image.seed for image in part],
            steps=steps,
            clip=clip,
            truncation=truncation,
            batch_size=batch_size,
        )
        yield from zip(part, found.images, found.scores, strict=True)


def rerank(
    pipe: TextToImage,
    clip: Scorer,
    options: RerankOptions,
    candidates: Sequence[Sequence[PlannedImage]],
    kept: int,
    truncation: float,
    batch_size: int,
) -> Iterator[Result]:
    """The best of each prompt's candidates, refined where that is asked for, the best first.

    Args:
        candidates: of each prompt, all with the same seeds.
        kept: how many of them are chosen.
    """
    from galip.latent.reranking import stream_best

    prompts = [images[0].prompt for images in candidates]
    seeds = [image.seed for image in candidates[0]]
    chosen = stream_best(pipe, prompts, seeds, keep=kept, clip=clip, truncation=truncation, batch_size=batch_size)
    for best, images in zip(chosen, candidates, strict=True):
        by_seed = {image.seed: image for image in images}
        wanted = [by_seed[seed] for seed in best.seeds]
        if options.refine:
            again = list(refine(pipe, clip, options.refine, wanted, truncation, batch_size))
            yield from sorted(again, key=lambda entry: -(entry[2] or 0.0))
        else:
            yield from zip(wanted, best.images, best.scores, strict=True)
