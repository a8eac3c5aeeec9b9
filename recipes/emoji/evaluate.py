"""How good is the bundled model? A judge that was used in no loss answers. Intervals: 95%, bootstrap over pictures.

    python recipes/emoji/evaluate.py [--model emoji-64] [--out figures.json] [--pictures docs/images]
    python recipes/emoji/evaluate.py --clip recipes/emoji/work/clip      # only how well a trained CLIP retrieves

One picture per caption, seed 0 but for the Frechet distance. What is measured, and on what:

retrieval   1000 captions of the training split, the held-out (emoji, style) pairs, the held-out emoji, and synonyms
            that no caption contains: is the caption the nearest of 100 random ones? The same for the real pictures.
style       the drawn pictures of the first three: does a linear classifier recognise the style that the caption names?
            It learns from the judge's inner statistics of real training pictures, and is checked on real held-out ones.
colour      two seeds of "colour object" captions: is the dominant hue the one that was asked for? The same of the real
            pictures of those names: an emoji's "yellow" may lie on the border to orange.
frechet     real pictures, every held-out one and training ones, in two disjoint halves of 1920. Distance to one half of
            the other half, and of pictures drawn for the other half's captions, in the judge's vectors before
            normalisation (192 numbers), seeds 0, 1, 2, ... A perfect model's two distances are equal.
diversity   four seeds of captions that name no style: mean distance between them, by that between the real pictures of
            the emoji's three styles; in the judge's unit vectors, and in pixels.
nearest     distances of drawn, and of real held-out pictures to their nearest training pictures.
clip        how the model's own CLIP retrieves the captions of real pictures.

`--pictures` gets two sheets: drawn pictures beside their nearest training pictures, and the worst pictures by rank of
their caption. `--at-most` makes everything smaller, to try the script out.
"""

from __future__ import annotations

import argparse
import colorsys
import json
import time
from pathlib import Path

import numpy as np
import torch
from emoji_common import WORK, Pictures, Teacher
from measure import (
    Data,
    Drawer,
    Figures,
    Part,
    clip_figures,
    diversity_figures,
    examine,
    frechet_figures,
    joined,
    look,
    nearest_figures,
    part_of,
    retrieval_figures,
    style_figures,
)
from pictures import FAILURES, NEAREST, failures_sheet, nearest_sheet, save_sheet
from PIL import Image
from train_judge import load_judge

import galip
from galip.evaluation.memorisation import nearest
from galip.generation.prompts import clean_caption
from galip.models.clip import FrozenCLIPVision
from galip.models.text import CLIPSentenceEncoder
from galip.torch_backend.encoders import load_clip

TRAIN_CAPTIONS, DIVERSITY_EMOJI = 1000, 100
HALF = 1920
"""Pictures on each side of the Frechet distance: ten times the length of the judge's vectors."""
SHOWN_NEAREST, SHOWN_FAILURES = 32, 24
KINDS = {"train": "trained", "held_out_pairs": "held-out pair", "held_out_emoji": "new emoji", "synonyms": "synonym"}

COLOURS = {"red": (345, 18), "orange": (18, 44), "yellow": (44, 70), "green": (70, 170), "blue": (170, 255)}
COLOURS |= {"purple": (255, 320)}
"""Hue in degrees, from (inclusive) to (exclusive)."""

COLOURED = (
    "red heart|orange heart|yellow heart|green heart|blue heart|purple heart|red circle|orange circle|yellow circle"
    "|green circle|blue circle|purple circle|red square|orange square|green square|blue square|green book|blue book"
    "|orange book|red apple|green apple|red car|yellow star|orange pumpkin"
).split("|")


def dominant_hue(picture: np.ndarray) -> float | None:
    """The most frequent hue, in degrees, of the coloured pixels of uint8 [H, W, 3]; None where nothing is coloured."""
    pixels = picture.reshape(-1, 3) / 255.0
    hsv = np.array([colorsys.rgb_to_hsv(*pixel) for pixel in pixels])
    coloured = hsv[(hsv[:, 1] > 0.35) & (hsv[:, 2] > 0.25)]
    if len(coloured) < 40:
        return None
    counts, _ = np.histogram(coloured[:, 0] * 360, bins=72, range=(0, 360))
    smooth = counts + np.roll(counts, 1) + np.roll(counts, -1)
    return float(smooth.argmax() * 5 + 2.5)


def has_hue(hue: float | None, colour: str) -> bool:
    low, high = COLOURS[colour]
    return hue is not None and (low <= hue < high if low < high else hue >= low or hue < high)


def obeys(picture: torch.Tensor, caption: str) -> bool:
    """Whether a picture, uint8 [3, H, W], has the hue that its caption begins with."""
    return has_hue(dominant_hue(picture.permute(1, 2, 0).numpy()), caption.split()[0])


def colour_figures(draw: Drawer, seeds: tuple[int, ...] = (0, 1)) -> Figures:
    """Share of the pictures of each caption whose dominant hue is the one it names."""
    hits = [
        [obeys(picture, caption) for picture in pictures]
        for caption, pictures in zip(COLOURED, zip(*(draw(COLOURED, seed) for seed in seeds), strict=True), strict=True)
    ]
    by_caption = {caption: float(np.mean(row)) for caption, row in zip(COLOURED, hits, strict=True)}
    return {"pictures": sum(map(len, hits)), "obeyed": float(np.mean(hits)), "by caption": by_caption}


def real_colour_figures(*parts: Pictures) -> Figures:
    """The same of the real pictures whose label is one of those captions."""
    hits = [
        obeys(picture, str(row["label"]))
        for part in parts
        for row, picture in zip(part.rows, part.images, strict=True)
        if row["label"] in COLOURED
    ]
    return {"pictures": len(hits), "obeyed": float(np.mean(hits)) if hits else 0.0}


def as_image(picture: torch.Tensor) -> Image.Image:
    """uint8 [3, H, W] -> PIL."""
    return Image.fromarray(picture.permute(1, 2, 0).numpy())


def save_sheets(folder: Path, parts: dict[str, Part], train: Pictures, gallery: torch.Tensor) -> None:
    """Write the two sheets: nearest training pictures, and failures of each part in equal number."""
    shown = parts["train"]
    distances, numbers = nearest(shown.drawn.unit[:SHOWN_NEAREST].numpy(), gallery.numpy(), 3)
    rows = [
        (
            as_image(shown.pictures[i]),
            shown.data.canonical[i],
            [
                (as_image(train.images[n]), f"{distance:.2f}")
                for n, distance in zip(numbers[i].tolist(), distances[i].tolist(), strict=True)
            ],
        )
        for i in range(len(numbers))
    ]
    save_sheet(nearest_sheet(rows), folder / NEAREST)
    failures = []
    for name, part in parts.items():
        nearer = part.nearer
        worst = nearer.argsort(descending=True, stable=True)[: SHOWN_FAILURES // len(parts)]
        failures += [
            (as_image(part.pictures[i]), part.data.canonical[i], f"{KINDS[name]}: {nearer[i]:.0%}")
            for i in worst.tolist()
        ]
    save_sheet(failures_sheet(failures), folder / FAILURES)


def evaluate(options: argparse.Namespace) -> Figures:
    """Everything about one model."""
    limit = options.at_most
    data, judge, teacher = Data.load(options.data), load_judge(options.judge), Teacher()
    pipe = galip.load(options.model, engine="torch")
    draw = Drawer(pipe)
    chosen = {
        "train": part_of(data.train, min(limit, TRAIN_CAPTIONS)),
        "held_out_pairs": part_of(data.held_out_pairs, limit),
        "held_out_emoji": part_of(data.held_out_emoji, limit),
        "synonyms": part_of(data.synonyms, limit),
    }
    parts = {name: examine(judge, teacher, draw, part) for name, part in chosen.items()}
    held_out = [parts["held_out_pairs"], parts["held_out_emoji"]]
    shuffled = part_of(data.train, len(data.train.rows))
    seen = look(judge, shuffled.images)
    mixed, half = joined(*(part.data for part in held_out)), min(HALF, limit)
    figures: Figures = {"model": Path(options.model).name}
    figures["retrieval"] = {name: retrieval_figures(part) for name, part in parts.items()}
    figures["style"] = style_figures(shuffled, seen, held_out, [parts["train"], *held_out])
    real_colours = real_colour_figures(data.train, data.held_out_pairs, data.held_out_emoji)
    figures["colour"] = colour_figures(draw) | {"real": real_colours}
    figures["frechet"] = frechet_figures(judge, draw, shuffled, part_of(mixed, len(mixed.rows)), half)
    figures["diversity"] = diversity_figures(judge, draw, shuffled, min(limit, DIVERSITY_EMOJI))
    real = torch.cat([part.real.unit for part in held_out])
    figures["nearest"] = nearest_figures(seen.unit, parts["train"].drawn.unit, real)
    figures["clip"] = clip_figures(pipe.vision.embed, pipe.encode_prompt, data)
    if options.pictures:
        save_sheets(options.pictures, parts, shuffled, seen.unit)
    return figures


def evaluate_clip(folder: Path, data: Path) -> Figures:
    """Only the retrieval of a CLIP in transformers' format."""
    tokenizer, text_model, vision_model = load_clip(str(folder))
    encoder, vision = CLIPSentenceEncoder(tokenizer, text_model), FrozenCLIPVision(vision_model)
    figures = clip_figures(
        vision.embed, lambda texts: encoder.encode([clean_caption(text) for text in texts]), Data.load(data)
    )
    return {"clip": figures}


def show(figures: Figures, above: str = "") -> None:
    """Print figures one a line, an estimate with its interval."""
    for name, value in figures.items():
        if isinstance(value, dict) and "low" in value:
            print(f"{above}{name}: {value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f})")
        elif isinstance(value, dict):
            show(value, f"{above}{name}: ")
        else:
            print(f"{above}{name}: {value:.3f}" if isinstance(value, float) else f"{above}{name}: {value}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="emoji-64", help="a bundled model's name or a model folder")
    parser.add_argument("--clip", type=Path, help="only report how the CLIP in this folder retrieves")
    parser.add_argument("--data", type=Path, default=WORK / "data")
    parser.add_argument("--judge", type=Path, default=WORK / "judge")
    parser.add_argument("--out", type=Path, help="write the figures here as JSON")
    parser.add_argument("--pictures", type=Path, help="write the two sheets into this folder")
    parser.add_argument("--at-most", type=int, default=10**6, help="pictures of each kind, for a quick try")
    options = parser.parse_args()
    start = time.time()
    figures = evaluate_clip(options.clip, options.data) if options.clip else evaluate(options)
    show(figures)
    if options.out:
        writing = options.out.with_suffix(".writing")
        writing.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        writing.rename(options.out)
    print(f"took {time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
