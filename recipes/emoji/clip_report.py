"""How good is the recipe's CLIP? Retrieval of what was held out, and which captions it does not tell apart.

    python recipes/emoji/clip_report.py CLIP --data recipes/emoji/work/data --out clip.json

For held-out (emoji, style) pairs, held-out emoji and synonyms: how often an image's own caption is the nearest of 100
or 500. For every emoji without skin tones: the cosine of "emoji of LABEL" to the nearest other one's; the worst fifty
are listed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from clip_text import STYLES
from emoji_common import WORK, retrieval
from images import load_images
from protocol128 import RealImages, synonym_subjects
from train_clip import read, see
from transformers import CLIPModel, CLIPTokenizer

WORST = 50


def nearest_captions(vectors: torch.Tensor, labels: list[str]) -> dict[str, object]:
    """Of unit vectors [N, D] of N captions: how near the nearest other one is, and the nearest pairs, each once."""
    cosines = vectors @ vectors.T
    cosines.fill_diagonal_(-1)
    near, which = cosines.max(1)
    pairs: dict[tuple[str, ...], float] = {}
    for place in near.argsort(descending=True).tolist():
        pair = tuple(sorted((labels[place], labels[int(which[place])])))
        pairs.setdefault(pair, round(float(near[place]), 4))
    quantiles = {f"{share:.0%}": round(float(near.quantile(share)), 4) for share in (0.5, 0.9, 0.95, 0.99)}
    above = {str(bound): int((near > bound).sum()) for bound in (0.8, 0.9, 0.95)}
    worst = [[*pair, cosine] for pair, cosine in list(pairs.items())[:WORST]]
    return {"captions": len(labels), "quantiles": quantiles, "above": above, "worst": worst}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--data", type=Path, default=WORK / "data")
    parser.add_argument("--out", type=Path, default=WORK / "clip.json")
    options = parser.parse_args()
    clip, tokenizer = CLIPModel.from_pretrained(options.clip).eval(), CLIPTokenizer.from_pretrained(options.clip)
    figures: dict[str, object] = {}
    for split, among in (("held_out_pairs", 500), ("held_out_emoji", 100)):
        data = load_images(options.data / split)
        if split == "held_out_pairs":
            data = data.select(data.untoned())
        found = retrieval(see(clip, data), read(clip, tokenizer, data.canonical), among)
        figures[f"{split}, top 1 of {among}"] = found
    real = RealImages(options.data, list(STYLES))
    subjects, captions = synonym_subjects(real)
    shown = torch.cat([real.images([subject]) for subject in subjects]).permute(0, 2, 3, 1).numpy()
    alpha = torch.full((*shown.shape[:3], 1), 255, dtype=torch.uint8)
    data = load_images(options.data / "held_out_emoji")
    data.rgba, data.rows = torch.cat([torch.from_numpy(shown), alpha], dim=3).numpy(), [{} for _ in subjects]
    seen, said = see(clip, data), read(clip, tokenizer, captions)
    for among in (100, len(captions)):
        figures[f"synonyms, top 1 of {among}"] = retrieval(seen, said, among)
    labels = sorted({one.label for of_style in real.subjects.values() for one in of_style})
    vectors = read(clip, tokenizer, [f"emoji of {label}" for label in labels])
    figures["nearest other caption"] = nearest_captions(F.normalize(vectors, dim=1), labels)
    options.out.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
