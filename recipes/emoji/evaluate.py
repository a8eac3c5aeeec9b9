"""How good is the bundled model? The judge's retrieval and the colour of what is asked for.

    python recipes/emoji/evaluate.py [--model emoji-64] [--out figures.json]

One picture per caption, seed 0, for: 1000 captions of the training split, the held-out (emoji, style) pairs, and the
held-out emoji. Retrieval: is the caption the judge's nearest of 100 random ones? The same for the real pictures.
Colour: 40 pictures (two seeds) of 20 "colour object" captions, is the dominant hue the one that was asked for?
"""

from __future__ import annotations

import argparse
import colorsys
import json
from pathlib import Path

import numpy as np
import torch
from common import WORK, Pictures, Teacher, load_pictures, retrieval, to_float
from train_judge import Judge, load_judge

import galip

COLOURS = {"red": (345, 18), "orange": (18, 44), "yellow": (44, 70), "green": (70, 170), "blue": (170, 255)}
COLOURS |= {"purple": (255, 320)}
"""Hue in degrees, from (inclusive) to (exclusive)."""

COLOURED = (
    "red heart|orange heart|yellow heart|green heart|blue heart|purple heart|red circle|orange circle|yellow circle"
    "|green circle|blue circle|purple circle|red square|orange square|green square|blue square|green book|blue book"
    "|orange book|red apple"
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


def coloured_as_asked(pipe: galip.GALIPPipeline, seeds: tuple[int, ...]) -> dict[str, float]:
    """Share of pictures of each caption whose dominant hue is the one it names."""
    prompts = [caption for caption in COLOURED for _ in seeds]
    pictures = pipe(prompts, seed=list(seeds) * len(COLOURED), batch_size=50).images
    hits = [
        has_hue(dominant_hue(np.asarray(p)), caption.split()[0]) for caption, p in zip(prompts, pictures, strict=True)
    ]
    return {caption: float(np.mean(hits[i * len(seeds) :][: len(seeds)])) for i, caption in enumerate(COLOURED)}


def drawn(pipe: galip.GALIPPipeline, captions: list[str]) -> torch.Tensor:
    """One picture per caption, [N, 3, H, W] in [-1, 1], seed 0 for each."""
    return pipe(captions, seed=[0] * len(captions), batch_size=64, output_type="pt").images * 2 - 1


@torch.inference_mode()
def top1(judge: Judge, images: torch.Tensor, taught: torch.Tensor, among: int) -> float:
    seen = torch.cat([judge.see(part) for part in images.split(256)])
    return retrieval(seen, judge.read(taught), among)


def part_of(data: Pictures, count: int) -> Pictures:
    """`count` pictures of a folder, chosen by a fixed seed."""
    chosen = torch.randperm(len(data.rows), generator=torch.Generator().manual_seed(0))[:count]
    return Pictures(data.images[chosen], [data.rows[i] for i in chosen.tolist()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="emoji-64")
    parser.add_argument("--data", type=Path, default=WORK / "data")
    parser.add_argument("--judge", type=Path, default=WORK / "judge")
    parser.add_argument("--out", type=Path, help="write the figures here as JSON")
    options = parser.parse_args()
    judge, teacher, pipe = load_judge(options.judge), Teacher(), galip.load(options.model)
    pipe.set_progress_bar_config(disable=True)
    figures: dict[str, object] = {"model": options.model}
    for name in ("train", "held_out_pairs", "held_out_emoji"):
        data = part_of(load_pictures(options.data / name), 1000)
        taught = teacher.encode(data.canonical)
        figures[f"{name}: captions"] = len(data.rows)
        figures[f"{name}: top-1 of 100, drawn"] = top1(judge, drawn(pipe, data.canonical), taught, 100)
        figures[f"{name}: top-1 of 100, real"] = top1(judge, to_float(data.images), taught, 100)
    by_caption = coloured_as_asked(pipe, (0, 1))
    figures["colour obeyed"] = float(np.mean(list(by_caption.values())))
    figures["colour obeyed, by caption"] = by_caption
    for name, value in figures.items():
        print(f"{name}: {value:.3f}" if isinstance(value, float) else f"{name}: {value}")
    if options.out:
        options.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
