"""A training checkpoint -> the bundled model: fp16 weights, and a card with the figures of `evaluate.py`.

python recipes/emoji/export.py [--run runs/emoji-64] [--out src/galip/assets/emoji-64] [--truncation 0.5]
                               [--figures figures.json]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from emoji_common import HERE, WORK, before
from pictures import CURVE_PLOT, FAILURES

from galip.models.discriminator import MateDiscriminator
from galip.torch_backend.pipeline import GALIPPipeline
from galip.training.checkpoint import find_checkpoint
from galip.training.config_file import with_new_names
from galip.training.export import export_checkpoint

ASSET = HERE.parents[1] / "src" / "galip" / "assets" / "emoji-64"
FIGURES = HERE / "figures.json"
# Chosen by the judge: captions are met best, and seeds still differ enough (README.md).
TRUNCATION = 0.5
UNKNOWN = "hardware that was not recorded"
PICTURES = HERE.parents[1] / "docs" / "images"


def export(run: Path, out: Path, truncation: float = 1.0) -> None:
    """Write the newest checkpoint's averaged generator, its CLIP and D in fp16, replacing what is in `out`.

    `truncation`: the generator is to draw from noise of so much less spread (`MateGenerator.truncate`); 1 for a model
    that is to be trained on.

    Raises:
        SystemExit: the run went on from a model whose noise had been scaled already.
    """
    earlier = before(run)
    if earlier.get("truncation", 1.0) != 1.0:
        raise SystemExit(
            f"{run}/start.json: the run went on from a model of scaled noise; export that with --truncation 1"
        )
    with tempfile.TemporaryDirectory() as scratch:
        model = export_checkpoint(find_checkpoint(run, "latest"), Path(scratch) / "model")
        half = out.with_name(f".unfinished-{out.name}")
        shutil.rmtree(half, ignore_errors=True)
        pipe = GALIPPipeline.from_pretrained(model)
        pipe.generator.truncate(truncation)
        pipe.to(torch.float16).save_pretrained(half)
        discriminator = MateDiscriminator.from_pretrained(model, subfolder="discriminator")
        for parameter in discriminator.parameters():
            parameter.data = parameter.data.half()
        discriminator.save_pretrained(half / "discriminator")
        forget_paths(half)
        training = json.loads((model / "training.json").read_text())
        training["hours"] = hours_of(run / "log.jsonl")
        training["truncation"] = truncation
        stages = [stage_of(training, hardware_of(run))]
        if earlier:  # what that had seen counts too, and its CLIP is the same
            stages = [*earlier.get("stages", [stage_of(earlier, UNKNOWN)]), *stages]
            training["images"] += earlier["images"]
            training["hours"] += earlier["hours"]
            training["clip"] = earlier["clip"]
        else:
            training["clip"] = json.loads((WORK / "clip" / "log.json").read_text())[-1]
        training["stages"] = stages
        (half / "training.json").write_text(json.dumps(training, indent=1) + "\n")
        shutil.rmtree(out, ignore_errors=True)
        os.replace(half, out)


def stage_of(training: dict[str, Any], hardware: str) -> dict[str, Any]:
    """What a stage of the training was, for the card."""
    batch = with_new_names(training["config"])[0]["schedule"]["batch"]
    return {"images": training["images"], "hours": training["hours"], "batch": batch, "hardware": hardware}


def hardware_of(run: Path) -> str:
    """What a run's `environment.json` says it computed on, in words."""
    path = run / "environment.json"
    said = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if gpu := said.get("gpu"):
        return f"one {gpu}"
    return f"a CPU (threads: {said['threads']})" if said.get("device") == "cpu" and "threads" in said else UNKNOWN


def forget_paths(folder: Path) -> None:
    """Remove the path of the scratch folder, which diffusers notes down wherever it loads and saves."""
    for path in [folder / "model_index.json", *folder.glob("*/config.json")]:
        values = json.loads(path.read_text())
        if values.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(values, indent=2) + "\n")


def hours_of(log: Path) -> float:
    """Hours that a run trained, from the speed of each row of its `log.jsonl`; steps done twice count once."""
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    by_images = {row["images"]: row["images_per_second"] for row in rows if "images_per_second" in row}
    seen = [0, *sorted(by_images)]
    return sum((after - before) / by_images[after] for before, after in pairwise(seen)) / 3600


def duration(hours: float) -> str:
    """ "7 hours", or minutes where there are fewer than two hours."""
    return f"{hours:.0f} hours" if hours >= 2 else f"{60 * hours:.0f} minutes"


def share(estimate: dict[str, float]) -> str:
    """A share with its interval: "52% (49 to 55)"."""
    return f"{estimate['value']:.0%} ({100 * estimate['low']:.0f} to {100 * estimate['high']:.0f})"


def card_values(training: dict[str, Any], measured: dict[str, Any], report: dict[str, Any]) -> dict[str, object]:
    """What `card.md` leaves open, from `training.json`, the figures of `evaluate.py` and the data's report."""
    clip, frechet = training["clip"], measured["frechet"]
    values = {
        "images": f"{training['images']:,}",
        "course": "; then ".join(
            f"{stage['images']:,} on {stage['hardware']}, {stage['batch']} a step, in {duration(stage['hours'])}"
            for stage in training["stages"]
        ),
        "truncation": training["truncation"],
        "seed": with_new_names(training["config"])[0]["seed"],
        "pictures": f"{report['splits']['train']['records']:,}",
        "emoji": f"{report['notes']['emoji with a picture']:,}",
        "clip_steps": clip["step"],
        "clip_hours": f"{clip['seconds'] / 3600:.1f}",
        "synonyms": measured["retrieval"]["synonyms"]["captions"],
        "style_real": share(measured["style"]["real held-out"]),
        "style_drawn": share(measured["style"]["drawn"]),
        "style_each": ", ".join(
            f"`{style}` {figure['value']:.0%}" for style, figure in measured["style"]["drawn, by style"].items()
        ),
        "colour": f"{measured['colour']['obeyed']:.0%}",
        "colour_n": measured["colour"]["pictures"],
        "colour_real": f"{measured['colour']['real']['obeyed']:.0%}",
        "colour_real_n": measured["colour"]["real"]["pictures"],
        "colour_captions": len(measured["colour"]["by caption"]),
        "frechet_n": f"{frechet['pictures on each side']:,}",
        "frechet_drawn": f"{frechet['drawn']:.1f}",
        "frechet_real": f"{frechet['real']:.1f}",
        "frechet_ratio": f"{frechet['drawn / real']:.1f}",
        "diversity_judge": f"{measured['diversity']['judge']['value']:.2f}",
        "diversity_pixels": f"{measured['diversity']['pixels']['value']:.2f}",
        "nearest_drawn": f"{measured['nearest']['drawn']['median']:.2f}",
        "nearest_real": f"{measured['nearest']['real held-out']['median']:.2f}",
        "clip_table": "\n".join(f"| {name} | {share(figure)} |" for name, figure in measured["clip"].items()),
    }
    for part, figures in measured["retrieval"].items():
        values |= {f"{part}_n": figures["captions"], f"{part}_drawn": share(figures["drawn"])}
        values |= {f"{part}_real": share(figures["real"]), f"{part}_ratio": share(figures["drawn / real"])}
    return values


def measured_places(curve: Path) -> set[str]:
    """The numbers of images, as the card writes them, at which `curve.py` has measured."""
    if not curve.exists():
        return set()
    return {f"{json.loads(line)['images']:,}" for line in curve.read_text(encoding="utf-8").splitlines()}


def write_card(out: Path, figures: Path, pictures: Path) -> None:
    """Fill `card.md` in with what training and evaluation recorded, and lay its two pictures beside it."""
    needed = [out / "training.json", figures, WORK / "data" / "report.json"]
    try:
        values = card_values(*(json.loads(path.read_text(encoding="utf-8")) for path in needed))
    except KeyError as error:
        raise SystemExit(
            f"{', '.join(map(str, needed))}: {error} is in none of them, so that an earlier version wrote one; run "
            "export.py, evaluate.py or prepare.py again"
        ) from error
    shown = [(FAILURES, "failures.png")]
    values["curve"] = ""
    if values["images"] in measured_places(
        figures.parent / "curve.jsonl"
    ):  # the curve of the run that this model comes from
        shown.append((CURVE_PLOT, "curve.png"))
        values["curve"] = "\n![Retrieval, colour and Frechet distance over images seen](curve.png)\n"
    for source, name in shown:
        if not (pictures / source).exists():
            raise SystemExit(f"{pictures / source}: not there; run curve.py, and evaluate.py --pictures {pictures}")
        shutil.copyfile(pictures / source, out / name)
    (out / "README.md").write_text((HERE / "card.md").read_text(encoding="utf-8").format(**values), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/emoji-64"))
    parser.add_argument("--out", type=Path, default=ASSET)
    parser.add_argument(
        "--truncation", type=float, default=TRUNCATION, help="spread of the noise that the model draws from"
    )
    parser.add_argument("--figures", type=Path, help="only write the card, from these figures of evaluate.py")
    parser.add_argument("--pictures", type=Path, default=PICTURES, help="where evaluate.py and curve.py left theirs")
    options = parser.parse_args()
    if options.figures:
        write_card(options.out, options.figures, options.pictures)
    else:
        export(options.run, options.out, options.truncation)
    print(f"written: {options.out}")


if __name__ == "__main__":
    main()
