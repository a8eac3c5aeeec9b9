"""How `galip generate` draws: plainly, or with a CLIP that chooses among several draws, or leads to better noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from galip.cli.drawing import check_clip, shown_seeds
from galip.errors import InputError
from galip.generation.select import AUTO
from galip.model_repo.export_folder import is_export
from galip.model_repo.resolve import fetch, model_name
from galip.utils import image_io

if TYPE_CHECKING:
    from galip.latent.clip import CLIP
    from galip.latent.pipelines import Drawing

SCORE, CHOICE = "clip_score", "chosen"
"""Texts of a picture's file: what its CLIP says of it, and out of how many it was chosen."""


@dataclass(frozen=True)
class Picture:
    """One picture to draw: everything that its pixels depend on beside the model, and where it goes."""

    caption: str
    seed: int
    path: Path


Result = tuple[Picture, Image.Image, float | None]
"""A picture, what it looks like, and its score where a CLIP was asked."""


@dataclass(frozen=True)
class Wishes:
    """The options --best-of, --refine and --clip.

    Attributes:
        best_of: how many are drawn of each caption; 0 where none is chosen.
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
            InputError: nobody is there to choose, or the model or engine has no gradients.
            GalipError: there is no such model.
        """
        from galip.latent.clip import has_own_clip

        if self.clip is not None:
            if not self:
                raise InputError("--clip belongs to --best-of and --refine, neither of which is given")
            check_clip(self.clip)
        if self.refine and is_export(fetch(model)):
            raise InputError(f"--refine: {model} is exported and only draws; give the model that it was made from")
        if self.refine and engine not in (AUTO, "torch"):
            raise InputError(f"--refine with --engine {engine}: gradients are torch's; leave --engine out")
        if self and self.clip is None and not has_own_clip(model):
            option = "--best-of" if self.best_of else "--refine"
            raise InputError(f"{option}: {model} has no CLIP of its own that sees pictures; name one with --clip")

    def engine(self, engine: str) -> str:
        """The engine that can do it."""
        return "torch" if self.refine else engine

    @property
    def dtype(self) -> str | None:
        """The type of weights that it takes; None: any."""
        return "float32" if self.refine else None

    def settings(self) -> dict[str, object]:
        """What a picture's pixels depend on: not on having been chosen."""
        if not self.refine:
            return {}
        from galip.latent.refinement import ANGLE

        return {"refine": self.refine, "angle": ANGLE, "clip": self._judge}

    def texts(self, kept: int, seeds: Sequence[int]) -> dict[str, str]:
        """What every file tells of it."""
        told = {"clip": self._judge} if self else {}
        if self.best_of:
            told[CHOICE] = f"{kept} of seeds {shown_seeds(seeds)}"
        if self.refine:
            told["refined"] = f"{self.refine} steps"
        return told

    @property
    def _judge(self) -> str:
        return "the model's own" if self.clip is None else model_name(self.clip)


def eye(pipe: Any, model: str, clip: str | None) -> CLIP:
    """The CLIP that is asked: the model's own comes from its folder where an engine has kept none of it.

    Raises:
        GalipError: it cannot be loaded.
    """
    from galip.latent.clip import clip_of

    return clip_of(pipe, clip if clip is not None or hasattr(pipe, "vision") else fetch(model))


def plan(
    candidates: Mapping[str, list[Picture]], wishes: Wishes, texts: Mapping[str, str], kept: int
) -> tuple[dict[str, list[Picture]], list[list[Picture]]]:
    """What is there already is not drawn again.

    Args:
        candidates: every caption's pictures, or those to choose from.
        wishes: what is wanted of them.
        texts: what the files of chosen ones tell of that.
        kept: how many are chosen.

    Returns:
        The pictures of each caption, the chosen ones only as far as they are known; and lists of what is to be drawn,
        each of one caption, none empty.
    """
    if wishes.best_of:
        known = {caption: _earlier_choice(pictures, texts, kept) for caption, pictures in candidates.items()}
        return known, [candidates[caption] for caption, pictures in known.items() if not pictures]
    missing = [[picture for picture in pictures if not picture.path.exists()] for pictures in candidates.values()]
    return dict(candidates), [pictures for pictures in missing if pictures]


def _earlier_choice(pictures: Sequence[Picture], texts: Mapping[str, str], kept: int) -> list[Picture]:
    """The pictures that the same command chose before, the best first; empty unless all are there."""
    found = []
    for picture in pictures:
        if picture.path.exists():
            with Image.open(picture.path) as image:
                told = getattr(image, "text", {})
            if SCORE in told and all(told.get(name) == text for name, text in texts.items()):
                found.append((-float(told[SCORE]), picture))
    return [picture for _, picture in sorted(found, key=lambda entry: entry[0])] if len(found) == kept else []


def plain(
    pipe: Drawing,
    captions: Sequence[Sequence[Picture]],
    truncation: float,
    batch_size: int,
    update: Callable[[int], None],
) -> Iterator[Result]:
    """Draw pictures in batches across captions."""
    pictures = [picture for part in captions for picture in part]
    batches = pipe.stream(
        [picture.caption for picture in pictures],
        seed=[picture.seed for picture in pictures],
        truncation=truncation,
        batch_size=batch_size,
    )
    done = 0
    for batch in batches:
        for image in batch.images:
            yield pictures[done], image, None
            done += 1
        update(done)


def improved(
    pipe: Any,
    judge: CLIP,
    wishes: Wishes,
    captions: Sequence[Sequence[Picture]],
    kept: int,
    truncation: float,
    batch_size: int,
    update: Callable[[int], None],
) -> Iterator[Result]:
    """The pictures that are to be written, with their scores; those of one caption together, the best first.

    Args:
        captions: each caption's candidates, all with the same seeds.
        kept: how many of them are chosen.
        update: told how many candidates are dealt with.
    """
    done = 0
    if not wishes.best_of:
        pictures = [picture for part in captions for picture in part]
        for start in range(0, len(pictures), batch_size):
            part = pictures[start : start + batch_size]
            yield from _refined(pipe, judge, wishes.refine, part, truncation, batch_size)
            done += len(part)
            update(done)
        return

    from galip.latent.reranking import stream_best

    words = [candidates[0].caption for candidates in captions]
    seeds = [picture.seed for picture in captions[0]]
    chosen = stream_best(pipe, words, seeds, keep=kept, clip=judge, truncation=truncation, batch_size=batch_size)
    for best, candidates in zip(chosen, captions, strict=True):
        by_seed = {picture.seed: picture for picture in candidates}
        wanted = [by_seed[seed] for seed in best.seeds]
        if wishes.refine:
            again = list(_refined(pipe, judge, wishes.refine, wanted, truncation, batch_size))
            yield from sorted(again, key=lambda entry: -(entry[2] or 0.0))
        else:
            yield from zip(wanted, best.images, best.scores, strict=True)
        done += len(candidates)
        update(done)


def _refined(
    pipe: Any, judge: CLIP, steps: int, pictures: Sequence[Picture], truncation: float, batch_size: int
) -> Iterator[Result]:
    from galip.latent.refinement import refine

    captions, seeds = [picture.caption for picture in pictures], [picture.seed for picture in pictures]
    found = refine(pipe, captions, seed=seeds, steps=steps, clip=judge, truncation=truncation, batch_size=batch_size)
    yield from zip(pictures, found.images, found.scores, strict=True)


def note_of(path: Path, seed: int) -> str:
    """What stands below a picture on the contact sheet."""
    with Image.open(path) as image:
        score = getattr(image, "text", {}).get(SCORE)
    return f"seed {seed}" + ("" if score is None else f", CLIP {float(score):.2f}")


def save(picture: Picture, image: Image.Image, texts: Mapping[str, str], score: float | None) -> None:
    """Write a picture with what made it."""
    told = {"prompt": picture.caption, "seed": str(picture.seed), **texts}
    image_io.save_png(image, picture.path, told if score is None else told | {SCORE: f"{score:.4f}"})
