"""The pictures of docs/emoji.md, and the sheets that `evaluate.py` fills.

    python recipes/emoji/pictures.py [--model emoji-64] [--run runs/emoji-64] [--out docs/images]

Writes the grids over time (from the sample grids that training left in the run folder), captions x seeds, and walks
between captions. `evaluate.py --pictures` writes nearest training pictures and failures, `curve.py` the curve.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml
from emoji_common import before
from PIL import Image, ImageDraw, ImageFont

import galip
from galip.utils.contact_sheet import contact_sheet

OVER_TIME, SEEDS, WALKS = "emoji-over-time.png", "emoji-seeds.png", "emoji-walks.png"
NEAREST, FAILURES, CURVE_PLOT = "emoji-nearest.png", "emoji-failures.png", "emoji-curve.png"

TIMES = 7
SEED_COUNT = 8
SEED_CAPTIONS = (
    "a cat",
    "emoji of red heart",
    "smiling face",
    "flower",
    "3d emoji of owl",
    "flat emoji of house",
    "google emoji of woman: medium-dark skin tone",
    "a green book",
)
WALK_STEPS = 8
WALK_CAPTIONS = (
    ("3d emoji of red heart", "3d emoji of blue heart"),
    ("google emoji of grinning face", "google emoji of crying face"),
    ("flat emoji of red apple", "3d emoji of red apple"),
    ("flat emoji of cat face", "flat emoji of dog face"),
    ("google emoji of woman: light skin tone", "google emoji of man: dark skin tone, beard"),
    ("flag of Japan", "flag of Germany"),
)

_SIDE, _GAP, _LINE, _FONT = 64, 4, 15, 12

Strip = tuple[str, Sequence[tuple[Image.Image, str]]]
"""A line of text, and pictures side by side below it, each with a note."""


def strips_sheet(strips: Sequence[Strip], columns: int = 1) -> Image.Image:
    """Put strips below each other, in `columns` columns from left to right."""
    font = ImageFont.load_default(_FONT)
    noted = any(note for _, pictures in strips for _, note in pictures)
    width = max(len(pictures) for _, pictures in strips) * (_SIDE + _GAP)
    height = _LINE + _SIDE + (_LINE if noted else 0) + 2 * _GAP
    rows = -(-len(strips) // columns)
    sheet = Image.new("RGB", (columns * (width + 4 * _GAP), rows * height + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (title, pictures) in enumerate(strips):
        x, y = _GAP + number % columns * (width + 4 * _GAP), _GAP + number // columns * height
        draw.text((x, y), _fitting(title, width, font), font=font, fill="black")
        for place, (picture, note) in enumerate(pictures):
            left = x + place * (_SIDE + _GAP)
            sheet.paste(picture.convert("RGB").resize((_SIDE, _SIDE)), (left, y + _LINE))
            draw.text((left, y + _LINE + _SIDE), _fitting(note, _SIDE, font), font=font, fill="gray")
    return sheet


def _fitting(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The beginning of `text` that is no wider than `width` pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1].rstrip()
    return f"{text}..."


def save_sheet(sheet: Image.Image, path: Path) -> None:
    """Write a sheet, as small as PNG can be: it is committed. Under a temporary name first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writing = path.with_name(f".writing-{path.name}")
    sheet.save(writing, format="PNG", optimize=True)
    writing.replace(path)


def nearest_sheet(rows: Sequence[tuple[Image.Image, str, Sequence[tuple[Image.Image, str]]]]) -> Image.Image:
    """Drawn pictures, each beside its nearest training pictures.

    Args:
        rows: (drawn picture, caption, [(training picture, note), ...]).
    """
    return strips_sheet([(caption, [(drawn, "drawn"), *found]) for drawn, caption, found in rows], columns=4)


def failures_sheet(failures: Sequence[tuple[Image.Image, str, str]]) -> Image.Image:
    """Drawn pictures that missed their captions, six in a row: (picture, caption, note)."""
    return contact_sheet(failures, per_row=6)


def over_time(run: Path) -> Image.Image:
    """The first picture of each caption in sample grids of a run, at about geometrically growing numbers of images.

    Raises:
        SystemExit: the run left no grids.
    """
    grids = {int(path.stem.removeprefix("images-")): path for path in sorted((run / "grids").glob("images-*"))}
    if not grids:
        raise SystemExit(f"{run}/grids: no sample grids there; name a run of galip train")
    options = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["run"]
    captions, columns = options["grid_captions"], options["grid_seeds"]
    first, last = min(grids), max(grids)
    earlier = before(run).get("images", 0)
    wanted = [first * (last / first) ** (step / (TIMES - 1)) for step in range(TIMES)]
    chosen = sorted({min(grids, key=lambda seen, goal=goal: abs(seen - goal)) for goal in wanted})  # type: ignore[misc]
    strips = []
    for row, caption in enumerate(captions):
        pictures = []
        for seen in chosen:
            grid = Image.open(grids[seen])
            side = grid.width // columns
            pictures.append((grid.crop((0, row * side, side, (row + 1) * side)), f"{earlier + seen:,}"))
        strips.append((caption, pictures))
    return strips_sheet(strips, columns=2)


def captions_by_seeds(pipe: galip.GALIPPipeline) -> Image.Image:
    """A strip for each of `SEED_CAPTIONS`, seeds 0, 1, ..."""
    images = pipe(SEED_CAPTIONS, num_images_per_prompt=SEED_COUNT, seed=0).images
    strips = []
    for number, caption in enumerate(SEED_CAPTIONS):
        row = images[number * SEED_COUNT :][:SEED_COUNT]
        strips.append((caption, [(image, f"seed {seed}") for seed, image in enumerate(row)]))
    return strips_sheet(strips)


def walks(pipe: galip.GALIPPipeline) -> Image.Image:
    """A strip for each of `WALK_CAPTIONS`: evenly from one sentence vector to the other, with the noise of seed 0."""
    strips = []
    for start, end in WALK_CAPTIONS:
        first, last = pipe.encode_prompt([start, end])
        steps = torch.stack([torch.lerp(first, last, step / (WALK_STEPS - 1)) for step in range(WALK_STEPS)])
        images = pipe(prompt_embeds=steps, seed=[0] * WALK_STEPS).images
        strips.append((f"{start}  ->  {end}", [(image, "") for image in images]))
    return strips_sheet(strips)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="emoji-64", help="a bundled model's name or a model folder")
    parser.add_argument("--run", type=Path, default=Path("runs/emoji-64"))
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    options = parser.parse_args()
    save_sheet(over_time(options.run), options.out / OVER_TIME)
    pipe = galip.load(options.model, engine="torch")
    pipe.set_progress_bar_config(disable=True)
    save_sheet(captions_by_seeds(pipe), options.out / SEEDS)
    save_sheet(walks(pipe), options.out / WALKS)
    print(f"written: {options.out}")


if __name__ == "__main__":
    main()
