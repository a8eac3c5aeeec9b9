"""What `evaluate.py` and `curve.py` measure: pictures are drawn, the judge looks, `galip.evaluation` counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from emoji_common import STYLES, Pictures, Teacher, load_pictures, to_float
from metrics import LinearProbe, figure
from synonyms import check_synonyms, read_synonyms, synonym_pictures
from train_judge import Judge

import galip
from galip.evaluation.intervals import bootstrap_mean, bootstrap_ratio
from galip.evaluation.memorisation import nearest
from galip.evaluation.metrics.diversity import diversity
from galip.evaluation.metrics.fid import frechet_from
from galip.evaluation.metrics.r_precision import nearer_captions, right_caption_chances
from galip.evaluation.statistics import Moments
from galip.generation.output import to_uint8

AMONG = 100
DIVERSITY_SEEDS = 4

Figures = dict[str, object]


@dataclass
class Data:
    """The prepared pictures: three folders, and one real picture for each synonym."""

    train: Pictures
    held_out_pairs: Pictures
    held_out_emoji: Pictures
    synonyms: Pictures

    @classmethod
    def load(cls, folder: Path) -> Data:
        """Read a folder that `prepare.py` wrote; stops where a caption contains a synonym."""
        parts = [load_pictures(folder / name) for name in ("train", "held_out_pairs", "held_out_emoji")]
        pairs = read_synonyms()
        check_synonyms(pairs, (row for part in parts for row in part.rows))
        return cls(*parts, synonym_pictures(pairs, parts))


def part_of(data: Pictures, count: int) -> Pictures:
    """`count` pictures of a folder, chosen by a fixed seed; a smaller choice is the beginning of a larger one."""
    chosen = torch.randperm(len(data.rows), generator=torch.Generator().manual_seed(0))[:count]
    return Pictures(data.images[chosen], [data.rows[i] for i in chosen.tolist()])


def joined(*parts: Pictures) -> Pictures:
    """The pictures of several folders, one after the other."""
    return Pictures(torch.cat([part.images for part in parts]), [row for part in parts for row in part.rows])


def styles_of(data: Pictures) -> torch.Tensor:
    """Each picture's style as a number, [N]."""
    return torch.tensor([STYLES.index(str(row["style"])) for row in data.rows])


@dataclass
class Seen:
    """What the judge sees in N pictures: vectors [N, D], not normalised, and the manner [N, F] they are drawn in.

    The manner is mean and deviation of each channel after each convolution: textures and shades, wherever they are.
    """

    vectors: torch.Tensor
    manner: torch.Tensor

    @property
    def unit(self) -> torch.Tensor:
        return F.normalize(self.vectors, dim=1)


@torch.inference_mode()
def look(judge: Judge, images: torch.Tensor) -> Seen:
    """The judge's view of uint8 pictures [N, 3, 64, 64]."""
    vectors, manner = [], []
    for part in images.split(256):
        maps = judge.pictures.activations(to_float(part))
        vectors.append(judge.pictures.vectors(maps[-1]))
        flat = [level.flatten(2) for level in maps]
        manner.append(torch.cat([*(level.mean(2) for level in flat), *(level.std(2) for level in flat)], dim=1))
    return Seen(torch.cat(vectors), torch.cat(manner))


class Drawer:
    """Draws with the model under test; the same caption and seed is drawn once.

    Raises:
        SystemExit: its pictures are not of the judge's size.
    """

    def __init__(self, pipe: galip.GALIPPipeline) -> None:
        if pipe.generator.image_size != 64:
            raise SystemExit(f"the model draws {pipe.generator.image_size} pixels wide; the judge looks at 64 only")
        pipe.set_progress_bar_config(disable=True)
        self.pipe = pipe
        self.kept: dict[tuple[str, int], torch.Tensor] = {}

    def __call__(self, captions: list[str], seed: int | Sequence[int] = 0) -> torch.Tensor:
        """uint8 pictures [N, 3, 64, 64] of N captions, with one seed or one for each."""
        seeds = [seed] * len(captions) if isinstance(seed, int) else seed
        asked = list(zip(captions, seeds, strict=True))
        new = [one for one in dict.fromkeys(asked) if one not in self.kept]
        if new:
            some, theirs = map(list, zip(*new, strict=True))
            images = self.pipe(some, seed=theirs, batch_size=64, output_type="np").images
            made = torch.from_numpy(to_uint8(images)).permute(0, 3, 1, 2)  # [N, H, W, 3] -> [N, 3, H, W]
            self.kept.update(zip(new, made, strict=True))
        return torch.stack([self.kept[one] for one in asked])


@dataclass
class Part:
    """Pictures of one kind with what the judge makes of them: of the real ones, of drawn ones, of the captions."""

    data: Pictures
    real: Seen
    drawn: Seen
    pictures: torch.Tensor
    texts: torch.Tensor

    @property
    def nearer(self) -> torch.Tensor:
        """How many of all captions are nearer to each drawn picture than its own, as a share of them: [N]."""
        nearer = nearer_captions(self.drawn.vectors.numpy(), self.texts.numpy(), self.data.canonical)
        return torch.from_numpy(nearer) / len(self.texts)


def examine(judge: Judge, teacher: Teacher, draw: Drawer, data: Pictures) -> Part:
    """Draw a picture of each canonical caption, and let the judge look."""
    pictures = draw(data.canonical)
    with torch.inference_mode():
        texts = judge.read(teacher.encode_once(data.canonical))
    return Part(data, look(judge, data.images), look(judge, pictures), pictures, texts)


def chances(images: torch.Tensor, texts: torch.Tensor, data: Pictures, among: int) -> np.ndarray:
    """The chance, [N], that each picture's canonical caption is the nearest of `among`, from vectors [N, D]."""
    return right_caption_chances(images.numpy(), texts.numpy(), data.canonical, among)


def retrieval_figures(part: Part, among: int = AMONG) -> Figures:
    """How often the right caption is the nearest of `among`, for drawn and for real pictures, and the ratio of both."""
    drawn, real = (chances(seen.vectors, part.texts, part.data, among) for seen in (part.drawn, part.real))
    counted: Figures = {"captions": len(part.texts), "among": min(among, len(part.texts))}
    found = {"drawn": bootstrap_mean(drawn), "real": bootstrap_mean(real), "drawn / real": bootstrap_ratio(drawn, real)}
    return counted | {name: figure(estimate) for name, estimate in found.items()}


def style_figures(train: Pictures, seen: Seen, held_out: list[Part], naming: list[Part]) -> Figures:
    """Is the style that a caption names recognised by the manner of the picture?

    Args:
        train, seen: real training pictures, which the classifier learns from.
        held_out: whose real pictures check the classifier.
        naming: whose drawn pictures are looked at; their captions name a style.
    """
    probe = LinearProbe(seen.manner, styles_of(train))
    real = torch.cat([probe(part.real.manner) == styles_of(part.data) for part in held_out])
    drawn = torch.cat([probe(part.drawn.manner) == styles_of(part.data) for part in naming])
    asked = torch.cat([styles_of(part.data) for part in naming])
    by_style = {
        style: figure(bootstrap_mean(drawn[asked == number])) for number, style in enumerate(STYLES) if number in asked
    }
    overall = {"real held-out": figure(bootstrap_mean(real)), "drawn": figure(bootstrap_mean(drawn))}
    return overall | {"drawn, by style": by_style}


def halves(train: Pictures, held_out: Pictures, half: int) -> tuple[Pictures, Pictures]:
    """Two disjoint sets of `half` real pictures: whose captions are drawn, and what is compared with.

    Args:
        train: training pictures in random order; they fill both sets up, first the one whose captions are drawn.
        held_out: held-out pictures in random order; every other one goes into each set.
        half: pictures of each.
    """
    sides, taken = [], 0
    numbers = torch.arange(len(held_out.rows))
    for start in (0, 1):
        chosen = numbers[start::2][:half]
        fill = slice(taken, taken + half - len(chosen))
        taken = fill.stop
        rows = [held_out.rows[i] for i in chosen.tolist()] + train.rows[fill]
        sides.append(Pictures(torch.cat([held_out.images[chosen], train.images[fill]]), rows))
    return sides[0], sides[1]


def frechet_figures(judge: Judge, draw: Drawer, train: Pictures, held_out: Pictures, half: int) -> Figures:
    """Frechet distance to real pictures: of pictures drawn for the captions of other real ones, and of those others.

    Args:
        judge, draw: who looks, and what draws.
        train, held_out: real pictures in random order, dealt out by `halves`.
        half: pictures on each side, fewer where there are not as many.
    """
    half = min(half, (len(train.rows) + len(held_out.rows)) // 2)
    asked, reference = halves(train, held_out, half)
    real, other, drawn = (
        Moments.of(look(judge, images).vectors.numpy())
        for images in (reference.images, asked.images, draw(asked.canonical, range(len(asked.rows))))
    )
    floor, distance = frechet_from(other, real), frechet_from(drawn, real)
    return {
        "pictures on each side": len(asked.rows),
        "real, held-out among them": len(held_out.rows),
        "drawn": distance,
        "real": floor,
        "drawn / real": distance / floor,
    }


def diversity_figures(judge: Judge, draw: Drawer, data: Pictures, emoji: int) -> Figures:
    """Do seeds give different pictures where the caption names no style?

    Args:
        judge, draw: who looks, and what draws.
        data: pictures in random order; the first `emoji` labels that it shows in every style are asked for.
        emoji: how many.
    """
    shown: dict[str, dict[str, torch.Tensor]] = {}
    for row, picture in zip(data.rows, data.images, strict=True):
        shown.setdefault(str(row["label"]), {})[str(row["style"])] = picture
    whole = {label: list(styles.values()) for label, styles in shown.items() if len(styles) == len(STYLES)}
    labels = list(whole)[:emoji]
    captions = [f"emoji of {label}" for label in labels]
    drawn = torch.stack([draw(captions, seed) for seed in range(DIVERSITY_SEEDS)], dim=1)  # [E, seeds, 3, H, W]
    real = torch.stack([torch.stack(whole[label]) for label in labels])  # [E, styles, 3, H, W]
    figures: Figures = {"captions": len(labels), "seeds": DIVERSITY_SEEDS}
    spaces: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "judge": lambda images: look(judge, images).unit,
        "pixels": lambda images: to_float(images).flatten(1),
    }
    for name, space in spaces.items():
        vectors = (space(group.flatten(0, 1)).unflatten(0, group.shape[:2]).numpy() for group in (drawn, real))
        figures[name] = figure(diversity(*vectors))
    return figures


def nearest_figures(gallery: torch.Tensor, drawn: torch.Tensor, held_out: torch.Tensor) -> Figures:
    """Distance to the nearest training picture, in the judge's unit vectors: of drawn and of real held-out pictures.

    Args:
        gallery: vectors [N, D] of all training pictures.
        drawn, held_out: vectors [M, D], [K, D].
    """
    figures: Figures = {}
    for name, vectors in {"drawn": drawn, "real held-out": held_out}.items():
        distance = torch.from_numpy(nearest(vectors.numpy(), gallery.numpy())[0][:, 0])
        figures[name] = {"median": float(distance.median()), "5% are nearer than": float(distance.quantile(0.05))}
    return figures


def clip_figures(
    see: Callable[[torch.Tensor], torch.Tensor], read: Callable[[list[str]], torch.Tensor], data: Data
) -> Figures:
    """How well a CLIP finds the captions of real pictures.

    Args:
        see: float pictures [B, 3, 64, 64] in [-1, 1] -> vectors.
        read: captions -> vectors.
        data: the held-out pictures and the synonyms'.
    """
    figures: Figures = {}
    asked = {"held_out_pairs": (data.held_out_pairs, (500,)), "held_out_emoji": (data.held_out_emoji, (100,))}
    asked["synonyms"] = (data.synonyms, (100, len(data.synonyms.rows)))  # type: ignore[assignment]
    for name, (part, numbers) in asked.items():
        with torch.inference_mode():
            seen = torch.cat([see(to_float(images)) for images in part.images.split(256)])
            said = read(part.canonical)
        for among in numbers:
            estimate = bootstrap_mean(chances(seen, said, part, among))
            figures[f"{name}, top-1 of {min(among, len(said))}"] = figure(estimate)
    return figures
