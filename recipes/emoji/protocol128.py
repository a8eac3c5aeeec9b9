"""The protocol `emoji128`: are generated emoji recognised, by eyes that no loss has seen?

    python recipes/emoji/protocol128.py MODEL [--data recipes/emoji/work/data] [--out figures.json]

MODEL is a bundled model's name or a model folder. Captions are the canonical ones; every emoji (skin tones and genders
share one) counts the same. For training captions, held-out (emoji, style) pairs, held-out emoji and synonyms:

recognised  Of all real images of the caption's style, one for each emoji without skin tones: is the caption's the
            nearest (top 1), among the five nearest (top 5), in an eye's middle and deep maps? The ceiling is what a
            real image of the same emoji in another style gets.
paired      L1 to the caption's real image, over a pyramid, images in [-1, 1]; and the eye's distance to it.
frechet     In an eye's pooled features: from generated images of N captions to N other real images, over the same from
            the real images of those captions (1 is a perfect model).

The eyes are `lite2` and `own` (`eyes.py`); where they disagree, look. What they say of real images is kept beside the
data, in `eyes/`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from emoji_common import WORK
from eyes import Eye, Lite2, Looks, Own
from images import load_images, on_colour
from safetensors.torch import load_file, save_file
from synonyms import read_synonyms

import galip
from galip.data_prep.emoji_art import Emoji
from galip.evaluation.intervals import Estimate, bootstrap_ratio
from galip.evaluation.metrics.fid import frechet_from
from galip.evaluation.metrics.recognised import group_weights, ranks, recognised
from galip.evaluation.statistics import Moments

SPLITS = ("train", "held_out_pairs", "held_out_emoji")
SEED = 128
Figures = dict[str, object]
Generate = Callable[[list[str], list[int]], torch.Tensor]
"""Captions and seeds -> uint8 images [N, 3, S, S]."""


@dataclass
class Subject:
    """A real image without skin tone: its split, its number there, and what it is."""

    split: str
    number: int
    base: str
    style: str
    label: str
    place: int

    @property
    def caption(self) -> str:
        return f"{self.style} emoji of {self.label}"

    @property
    def group(self) -> str:
        """Genders of one emoji share a weight."""
        return Emoji(self.base, self.base, self.label).group


class RealImages:
    """All real images without skin tones, in an order that never changes.

    Args:
        data: the folder that `prepare.py` wrote.
        styles: those that are wanted.
    """

    def __init__(self, data: Path, styles: list[str]) -> None:
        self.data, self.splits = data, {split: load_images(data / split) for split in SPLITS}
        self.subjects: dict[str, list[Subject]] = {style: [] for style in styles}
        for split, images in self.splits.items():
            for number in images.untoned():
                row = images.rows[number]
                if row["style"] in self.subjects:
                    of_style = self.subjects[row["style"]]
                    subject = Subject(split, number, row["base"], row["style"], row["label"], len(of_style))
                    of_style.append(subject)
        self._looks: dict[tuple[str, str], Looks] = {}

    def images(self, subjects: list[Subject]) -> torch.Tensor:
        """uint8 [N, 3, 128, 128], on white."""
        parts = [self.splits[subject.split].batch(torch.tensor([subject.number])) for subject in subjects]
        return ((on_colour(torch.cat(parts)) + 1) * 127.5).round().to(torch.uint8)

    def looks(self, eye: Eye, style: str) -> Looks:
        """What an eye says of all images of a style; kept in a file."""
        if (eye.name, style) not in self._looks:
            file = self.data / "eyes" / f"{eye.name}-{style}.safetensors"
            if not file.exists():
                file.parent.mkdir(exist_ok=True)
                chunks = [self.subjects[style][start : start + 256] for start in range(0, 10**5, 256)]
                found = [eye(self.images(chunk)) for chunk in chunks if chunk]
                shape, pooled = (torch.cat([getattr(one, name) for one in found]) for name in ("shape", "pooled"))
                save_file({"shape": shape.half(), "pooled": pooled}, file)
            self._looks[eye.name, style] = Looks(**load_file(file))
        return self._looks[eye.name, style]

    def looks_of(self, eye: Eye, subjects: list[Subject]) -> Looks:
        """What an eye says of these."""
        parts = [(self.looks(eye, subject.style), subject.place) for subject in subjects]
        return Looks(
            *(torch.stack([getattr(of, name)[at] for of, at in parts]).float() for name in ("shape", "pooled"))
        )


def chosen(subjects: list[Subject], count: int, seed: int = SEED) -> list[Subject]:
    """`count` of them at random, each group of genders with the same chance whatever its size."""
    weights = torch.from_numpy(group_weights([(subject.group, subject.style) for subject in subjects]))
    generator = torch.Generator().manual_seed(seed)
    order = torch.multinomial(weights, min(count, len(subjects)), generator=generator).tolist()
    return [subjects[number] for number in order]


def part_figures(
    eye: Eye, real: RealImages, asked: list[Subject], images: torch.Tensor, ceiling: bool = True
) -> Figures:
    """What an eye recognises in images [N, 3, S, S] of N captions, and in real images of other styles."""
    looks, own = eye(images), real.looks_of(eye, asked)
    found = np.zeros(len(asked), dtype=np.int64)
    other_found: list[int] = []
    other_groups: list[str] = []
    by_base: dict[str, list[Subject]] = {}
    for subject in (subject for of_style in real.subjects.values() for subject in of_style):
        by_base.setdefault(subject.base, []).append(subject)
    for style in real.subjects:
        rows = [number for number, subject in enumerate(asked) if subject.style == style]
        if not rows:
            continue
        gallery = real.looks(eye, style).shape.float().numpy()
        found[rows] = ranks(looks.shape[rows].numpy(), gallery, [asked[number].place for number in rows])
        if ceiling:
            pairs = [(asked[n], one) for n in rows for one in by_base[asked[n].base] if one.style != style]
            if pairs:
                others = real.looks_of(eye, [one for _, one in pairs]).shape.numpy()
                other_found += ranks(others, gallery, [subject.place for subject, _ in pairs]).tolist()
                other_groups += [subject.group for subject, _ in pairs]
    groups = [subject.group for subject in asked]
    weights = group_weights(groups)
    distance = 1 - F.cosine_similarity(looks.shape, own.shape).numpy()
    figures: Figures = {
        "captions": len(asked),
        "top 1": figure(recognised(found, 1, groups)),
        "top 5": figure(recognised(found, 5, groups)),
        "distance": figure(bootstrap_ratio(distance * weights, weights)),
    }
    if other_found:
        array = np.array(other_found)
        figures["top 1, real of other styles"] = figure(recognised(array, 1, other_groups))
        figures["top 5, real of other styles"] = figure(recognised(array, 5, other_groups))
    by_style = {
        style: float(recognised(found[rows], 1, [groups[n] for n in rows]).value)
        for style in real.subjects
        if (rows := [number for number, subject in enumerate(asked) if subject.style == style])
    }
    return figures | {"top 1 by style": by_style}


def paired_l1(images: torch.Tensor, real: torch.Tensor) -> np.ndarray:
    """L1 over a pyramid of four levels between uint8 images [N, 3, S, S] and [N, 3, 128, 128], in [-1, 1]: [N]."""
    side = images.shape[-1]
    one, other = images.float() / 127.5, real.float() / 127.5
    if side != other.shape[-1]:
        other = F.interpolate(other, (side, side), mode="bicubic", antialias=True).clamp(0, 2)
    difference, levels = one - other, []
    for _ in range(4):
        levels.append(difference.abs().mean((1, 2, 3)))
        difference = F.avg_pool2d(difference, 2)
    return torch.stack(levels).mean(0).numpy()


def frechet_figures(eye: Eye, real: RealImages, asked: list[Subject], images: torch.Tensor) -> Figures:
    """Distances of the images of N captions, and of the captions' real images, to N other real images."""
    taken = {(subject.style, subject.place) for subject in asked}
    everything = [subject for of_style in real.subjects.values() for subject in of_style]
    rest = chosen([one for one in everything if (one.style, one.place) not in taken], len(asked), SEED + 1)
    count = min(len(rest), len(asked))
    reference = Moments.of(real.looks_of(eye, rest[:count]).pooled.numpy())
    drawn = frechet_from(Moments.of(eye(images[:count]).pooled.numpy()), reference)
    floor = frechet_from(Moments.of(real.looks_of(eye, asked[:count]).pooled.numpy()), reference)
    return {"images on each side": count, "generated": drawn, "real": floor, "generated / real": drawn / floor}


def figure(estimate: Estimate) -> dict[str, float]:
    """An estimate as JSON."""
    found = {"value": estimate.value}
    if estimate.low is not None and estimate.high is not None:
        found |= {"low": estimate.low, "high": estimate.high}
    return found


def synonym_subjects(real: RealImages) -> tuple[list[Subject], list[str]]:
    """The subjects that synonyms mean, styles in turn, and captions with the synonyms."""
    by_label: dict[str, dict[str, Subject]] = {}
    for subject in (subject for of_style in real.subjects.values() for subject in of_style):
        by_label.setdefault(subject.label, {})[subject.style] = subject
    styles, subjects, captions = list(real.subjects), [], []
    for turn, (synonym, label) in enumerate(read_synonyms()):
        order = styles[turn % len(styles) :] + styles[: turn % len(styles)]
        if style := next((style for style in order if style in by_label.get(label, {})), None):
            subjects.append(by_label[label][style])
            captions.append(f"{style} emoji of {synonym}")
    return subjects, captions


def evaluate(generate: Generate, real: RealImages, eyes: list[Eye], count: int, words: dict[str, str]) -> Figures:
    """Everything about one model.

    Args:
        generate: the model.
        real: real images.
        eyes: who judges.
        count: training captions; of held-out ones all are taken.
        words: style words of the data -> those that the model knows.
    """
    subjects = {
        split: [one for of_style in real.subjects.values() for one in of_style if one.split == split]
        for split in SPLITS
    }
    asked = {
        "training captions": chosen(subjects["train"], count),
        "held-out pairs": subjects["held_out_pairs"],
        "held-out emoji": subjects["held_out_emoji"],
    }
    captions = {name: [subject.caption for subject in part] for name, part in asked.items()}
    asked["synonyms"], captions["synonyms"] = synonym_subjects(real)
    figures: Figures = {}
    for name, part in asked.items():
        said = [words.get(style := caption.split()[0], style) + caption[len(style) :] for caption in captions[name]]
        images = generate(said, list(range(len(said))))
        weights = group_weights([subject.group for subject in part])
        paired = bootstrap_ratio(paired_l1(images, real.images(part)) * weights, weights)
        of_part: Figures = {"paired": figure(paired)}
        for eye in eyes:
            of_part[eye.name] = part_figures(eye, real, part, images)
            if name == "training captions":
                of_part[eye.name] |= {"frechet": frechet_figures(eye, real, part, images)}  # type: ignore[operator]
        figures[name] = of_part
    return figures


def by_pipeline(model: str) -> Generate:
    """A model folder or bundled model; what is transparent lies on white."""
    pipe = galip.load(model, engine="torch")

    def generate(captions: list[str], seeds: list[int]) -> torch.Tensor:
        parts = []
        for start in range(0, len(captions), 64):
            part = slice(start, start + 64)
            images = pipe(captions[part], seed=seeds[part], batch_size=64, output_type="np").images
            parts.append(torch.from_numpy((np.asarray(images) * 255).round().astype(np.uint8)).permute(0, 3, 1, 2))
        return torch.cat(parts)

    return generate


def show(figures: Figures, above: str = "") -> None:
    """Print figures, one a line."""
    for name, value in figures.items():
        if isinstance(value, dict) and "value" in value:
            interval = f" ({value['low']:.3f} to {value['high']:.3f})" if "low" in value else ""
            print(f"{above}{name}: {value['value']:.3f}{interval}")
        elif isinstance(value, dict):
            show(value, f"{above}{name}: ")
        else:
            print(f"{above}{name}: {value:.3f}" if isinstance(value, float) else f"{above}{name}: {value}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, default=WORK / "data")
    parser.add_argument("--eye", type=Path, default=WORK / "eye", help="the second eye's folder")
    parser.add_argument("--eyes", default="lite2,own")
    parser.add_argument("--styles", default="noto,twemoji,flat,glossy,blob,emojione,firefox,3d")
    parser.add_argument("--words", default="", help="what the model calls styles, as noto=google,twemoji=flat")
    parser.add_argument("--count", type=int, default=1500, help="training captions")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    start = time.time()
    eyes: list[Eye] = [Lite2() if name == "lite2" else Own(options.eye) for name in options.eyes.split(",")]
    words = dict(pair.split("=") for pair in options.words.split(",") if pair)
    real = RealImages(options.data, options.styles.split(","))
    figures = evaluate(by_pipeline(options.model), real, eyes, options.count, words)
    show(figures)
    if options.out:
        options.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(f"took {time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
