"""A training checkpoint -> the bundled model: fp16 weights, and a card with the figures of `evaluate.py`.

python recipes/emoji/export.py [--run runs/emoji-64] [--out src/galip/assets/emoji-64] [--figures figures.json]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from pathlib import Path

import torch
from common import HERE, WORK

from galip.models.discriminator import MateDiscriminator
from galip.pipeline import GALIPPipeline
from galip.training.checkpoints import find_checkpoint
from galip.training.export import export_checkpoint

ASSET = HERE.parents[1] / "src" / "galip" / "assets" / "emoji-64"
FIGURES = HERE / "figures.json"


def export(run: Path, out: Path) -> None:
    """Write the newest checkpoint's averaged generator, its CLIP and D in fp16, replacing what is in `out`."""
    with tempfile.TemporaryDirectory() as scratch:
        model = export_checkpoint(find_checkpoint(run, "latest"), Path(scratch) / "model")
        half = out.with_name(f".unfinished-{out.name}")
        shutil.rmtree(half, ignore_errors=True)
        GALIPPipeline.from_pretrained(model, dtype=torch.float16).save_pretrained(half)
        discriminator = MateDiscriminator.from_pretrained(model, subfolder="discriminator")
        for parameter in discriminator.parameters():
            parameter.data = parameter.data.half()
        discriminator.save_pretrained(half / "discriminator")
        forget_paths(half)
        training = json.loads((model / "training.json").read_text())
        training["clip"] = json.loads((WORK / "clip" / "log.json").read_text())[-1]
        (half / "training.json").write_text(json.dumps(training, indent=1) + "\n")
        shutil.rmtree(out, ignore_errors=True)
        os.replace(half, out)


def forget_paths(folder: Path) -> None:
    """Remove the path of the scratch folder, which diffusers notes down wherever it loads and saves."""
    for path in [folder / "model_index.json", *folder.glob("*/config.json")]:
        values = json.loads(path.read_text())
        if values.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(values, indent=2) + "\n")


def write_card(out: Path, figures: Path) -> None:
    """Fill `card.md` in with what training and evaluation recorded."""
    training = json.loads((out / "training.json").read_text())
    measured = json.loads(figures.read_text())
    counts = json.loads((WORK / "data" / "report.json").read_text())
    clip, run = training["clip"], training["config"]["run"]
    parts = ("train", "held_out_pairs", "held_out_emoji")
    values = {
        "images": f"{training['images']:,}",
        "steps": f"{training['images'] // run['batch']:,}",
        "batch": run["batch"],
        "seed": run["seed"],
        "pictures": f"{counts['pictures']['train']:,}",
        "emoji": f"{counts['emoji with a picture']:,}",
        "clip_steps": clip["step"],
        "clip_pairs": f"{clip['pairs_top1_of_500']:.0%}",
        "clip_emoji": f"{clip['held_out_emoji_top1_of_100']:.0%}",
        "colour": f"{measured['colour obeyed']:.0%}",
    }
    for part in parts:
        values[f"{part}_n"] = measured[f"{part}: captions"]
        values[f"{part}_drawn"] = f"{measured[f'{part}: top-1 of 100, drawn']:.0%}"
        values[f"{part}_real"] = f"{measured[f'{part}: top-1 of 100, real']:.0%}"
    (out / "README.md").write_text((HERE / "card.md").read_text(encoding="utf-8").format(**values), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/emoji-64"))
    parser.add_argument("--out", type=Path, default=ASSET)
    parser.add_argument("--figures", type=Path, help="only write the card, from these figures of evaluate.py")
    options = parser.parse_args()
    if options.figures:
        write_card(options.out, options.figures)
    else:
        export(options.run, options.out)
    print(f"written: {options.out}")


if __name__ == "__main__":
    main()
