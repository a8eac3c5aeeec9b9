"""How the model grows with the images it sees: one row per checkpoint, measured by the judge, and a plot.

    python recipes/emoji/curve.py --run runs/emoji-64 [FOLDER ...]

Measures every checkpoint of the run, and every exported model folder that is named, unless its row is already in
`curve.jsonl`; then draws all rows of the run and judge. Remove that file where a run begins anew under the same name.

Retrieval (top-1 of 100) and the Frechet distance are taken on a fixed 300 captions of each kind: cheaper than
`evaluate.py`, and to be compared with each other only, since a Frechet distance of fewer pictures is larger.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from emoji_common import HERE, WORK, Teacher, before
from evaluate import colour_figures
from measure import Data, Drawer, examine, frechet_figures, joined, part_of, retrieval_figures
from pictures import CURVE_PLOT, save_sheet
from PIL import Image, ImageDraw, ImageFont
from train_judge import Judge, load_judge

import galip
from galip.training.checkpoint import list_checkpoints
from galip.training.export import export_checkpoint

CAPTIONS = 300
PARTS = ("train", "held_out_pairs", "held_out_emoji")
CURVE = HERE / "curve.jsonl"

Row = dict[str, object]


def measure(model: Path, data: Data, judge: Judge, teacher: Teacher) -> Row:
    """The figures of one model folder."""
    draw = Drawer(galip.load(model, engine="torch"))
    parts = {name: examine(judge, teacher, draw, part_of(getattr(data, name), CAPTIONS)) for name in PARTS}
    row: Row = {}
    for name, part in parts.items():
        figures = retrieval_figures(part)
        row |= {name: figures["drawn"]["value"], f"{name}, real": figures["real"]["value"]}  # type: ignore[index]
    row["colour"] = colour_figures(draw, seeds=(0,))["obeyed"]
    held_out = joined(parts["held_out_pairs"].data, parts["held_out_emoji"].data)
    fill = part_of(data.train, 4 * CAPTIONS)
    distances = frechet_figures(judge, draw, fill, part_of(held_out, len(held_out.rows)), 2 * CAPTIONS)
    return row | {"frechet": distances["drawn"], "frechet, real": distances["real"]}


def images_seen(folder: Path) -> int:
    """How many images a checkpoint (by its name) or an exported model (by its training.json) has seen.

    Those of the state that a checkpoint's run went on from count too.
    """
    if (folder / "training.json").exists():
        return int(json.loads((folder / "training.json").read_text(encoding="utf-8"))["images"])
    if folder.name.startswith("images-"):
        return int(folder.name.removeprefix("images-")) + int(before(folder.parents[1]).get("images", 0))
    raise SystemExit(f"{folder}: neither a checkpoint (images-N) nor an exported model with a training.json")


def grow(folders: Iterable[Path], run: str, judge_folder: Path, data_folder: Path, curve: Path) -> list[Row]:
    """Measure what has no row yet, append it to `curve`, and return all rows of this run and judge, by images seen."""
    weights = judge_folder / "judge.safetensors"
    if not weights.exists():
        raise SystemExit(f"{weights}: no judge there; run recipes/emoji/train_judge.py first")
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()[:12]
    lines = curve.read_text(encoding="utf-8").splitlines() if curve.exists() else []
    rows = [row for row in map(json.loads, lines) if (row["run"], row["judge"]) == (run, digest)]
    there = {row["images"] for row in rows}
    new = {seen: folder for folder in folders if (seen := images_seen(folder)) not in there}
    if new:
        data, judge, teacher = Data.load(data_folder), load_judge(judge_folder), Teacher()
    for seen, folder in sorted(new.items()):
        start = time.time()
        with tempfile.TemporaryDirectory() as scratch:
            exported = (folder / "model_index.json").exists()
            model = folder if exported else export_checkpoint(folder, Path(scratch) / "model")
            row = {"run": run, "judge": digest, "images": seen} | measure(model, data, judge, teacher)
        with curve.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        rows.append(row)
        shown = {key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()}
        print(f"{shown} in {time.time() - start:.0f} s", flush=True)
    return sorted(rows, key=lambda row: row["images"])


# ---- the plot

Line = tuple[str, str, list[float]]
"""Name, colour, a value for each row."""

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM, _FONT = 620, 380, 60, 20, 34, 46, 13


def panel(title: str, seen: list[int], lines: list[Line], step: float, percent: bool) -> Image.Image:
    """A line plot over images seen, from 0 in both directions.

    Args:
        title: above it.
        seen: images seen, increasing.
        lines: what is drawn, with a legend at the lower right.
        step: distance of the horizontal lines.
        percent: values are shares; the axis ends at 100%.
    """
    image = Image.new("RGB", (_WIDTH, _HEIGHT), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(_FONT)
    top = 1.0 if percent else step * (int(max(max(values) for _, _, values in lines) / step) + 1)
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        return _LEFT + x / seen[-1] * (right - _LEFT), bottom - min(y, top) / top * (bottom - _TOP)

    for number in range(round(top / step) + 1):
        value = number * step
        _, y = place(0, value)
        draw.line([(_LEFT, y), (right, y)], fill="#dddddd" if number else "black")
        draw.text((_LEFT - 6, y), f"{value:.0%}" if percent else f"{value:g}", font=font, fill="black", anchor="rm")
    for number in range(6):
        x, _ = place(seen[-1] * number / 5, 0)
        draw.line([(x, bottom), (x, bottom + 4)], fill="black")
        draw.text((x, bottom + 6), f"{seen[-1] * number / 5000:,.0f}", font=font, fill="black", anchor="ma")
    draw.line([(_LEFT, _TOP), (_LEFT, bottom)], fill="black")
    draw.text((_LEFT, 8), title, font=font, fill="black")
    draw.text(((_LEFT + right) / 2, _HEIGHT - 20), "thousand images seen", font=font, fill="black", anchor="ma")
    for number, (name, colour, values) in enumerate(lines):
        points = [place(x, y) for x, y in zip(seen, values, strict=True)]
        draw.line(points, fill=colour, width=2)
        for x, y in points:
            draw.ellipse([x - 3, y - 3, x + 3, y + 3], fill=colour)
        x, y = right - 8, (bottom - 14 - 18 * (len(lines) - 1 - number)) if percent else _TOP + 10 + 18 * number
        draw.text((x, y), name, font=font, fill=colour, anchor="rm")
    return image


def plot(rows: list[Row]) -> Image.Image:
    """Retrieval and colour on the left, the Frechet distance in units of the real pictures' own on the right."""
    seen = [int(row["images"]) for row in rows]  # type: ignore[call-overload]
    shares = {"train": ("training captions", "#1f5fbf"), "held_out_pairs": ("held-out pairs", "#d9730d")}
    shares |= {"held_out_emoji": ("held-out emoji", "#2e8b57"), "colour": ("colour obeyed", "#8a8a8a")}
    left = [(name, colour, [float(row[key]) for row in rows]) for key, (name, colour) in shares.items()]  # type: ignore[arg-type]
    ratio = [float(row["frechet"]) / float(row["frechet, real"]) for row in rows]  # type: ignore[arg-type]
    step = 10.0 ** max(0, len(str(int(max(ratio)))) - 1)
    panels = (
        panel("right caption among 100; colour", seen, left, 0.2, percent=True),
        panel("Frechet distance, real against real = 1", seen, [("drawn", "#b03060", ratio)], step, percent=False),
    )
    both = Image.new("RGB", (2 * _WIDTH, _HEIGHT), "white")
    for number, image in enumerate(panels):
        both.paste(image, (number * _WIDTH, 0))
    return both


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="*", help="exported models of the same run, or single checkpoints")
    parser.add_argument("--run", type=Path, default=Path("runs/emoji-64"))
    parser.add_argument("--judge", type=Path, default=WORK / "judge")
    parser.add_argument("--data", type=Path, default=WORK / "data")
    parser.add_argument("--curve", type=Path, default=CURVE)
    parser.add_argument("--plot", type=Path, default=Path("docs/images") / CURVE_PLOT)
    options = parser.parse_args()
    folders = [*list_checkpoints(options.run / "checkpoints"), *options.models]
    rows = grow(folders, options.run.name, options.judge, options.data, options.curve)
    if not rows:
        raise SystemExit(f"{options.run}: no checkpoint there, none named, and no row of it in {options.curve}")
    save_sheet(plot(rows), options.plot)
    print(f"{len(rows)} rows; plotted: {options.plot}")


if __name__ == "__main__":
    main()
