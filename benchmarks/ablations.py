"""The paper's ablations on a small model: each trained equally long from the same seeds, with figures and intervals.

    python benchmarks/ablations.py --data recipes/emoji/work/data/train --clip recipes/emoji/work/clip
    python benchmarks/ablations.py ... --only paper no-prompts --seeds 0 1 --images 20000
    python benchmarks/ablations.py --write                   # the table of overrides, and figures where there are some

Every ablation is one override of a configuration (`galip train coco OVERRIDE`). Here they are overrides of a run at
64 px with the paper's objective and its form of the generator, through a CLIP-ViT of four blocks. Runs that are there
already are not repeated, so the command goes on where it was stopped. `--write` fills docs/ablations.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from common import RESULTS, table, write_result

from galip.distributed import Distributed
from galip.evaluation.protocols import get_protocol
from galip.evaluation.references import References
from galip.evaluation.runner import evaluate
from galip.evaluation.runner import resolved as resolved_protocol
from galip.training.config import TrainConfig
from galip.training.config_file import apply_override, parse_config
from galip.training.run import open_run
from galip.utils.provenance import machine


@dataclass(frozen=True)
class Ablation:
    """A change of the paper's setup.

    Attributes:
        title: what is changed.
        override: of a configuration with ViT-B/32; empty: none.
        small: of the small model's, where that is another; None: it cannot be made with the small model's CLIP.
    """

    title: str
    override: str
    small: str | None = ""

    @property
    def of_small(self) -> str | None:
        """The override of the small model's configuration."""
        return self.override if self.small == "" else self.small


ABLATIONS: dict[str, Ablation] = {
    "paper": Ablation("nothing: as in the paper", ""),
    "d-shallow": Ablation("D taps early blocks only", "discriminator.tap_blocks=[1]", "discriminator.tap_blocks=[0]"),
    "d-deep": Ablation(
        "D taps late blocks only", "discriminator.tap_blocks=[10, 11]", "discriminator.tap_blocks=[2, 3]"
    ),
    "d-many": Ablation(
        "D taps more blocks", "discriminator.tap_blocks=[1, 3, 5, 8, 11]", "discriminator.tap_blocks=[0, 1, 2, 3]"
    ),
    "d-pixels": Ablation("D without CLIP: plain convolutions, equal size", "discriminator.looks_at=pixels"),
    "no-prompts": Ablation("no prompts", "generator.prompt_blocks=[]"),
    "prompts-early": Ablation(
        "prompts in early blocks only", "generator.prompt_blocks=[1, 2, 3, 4]", "generator.prompt_blocks=[1]"
    ),
    "prompts-late": Ablation(
        "prompts in late blocks only", "generator.prompt_blocks=[8, 9, 10, 11]", "generator.prompt_blocks=[3]"
    ),
    "prompts-all": Ablation(
        "prompts in every block",
        "generator.prompt_blocks=[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]",
        "generator.prompt_blocks=[0, 1, 2, 3]",
    ),
    "two-tokens": Ablation("two prompt tokens a block", "generator.prompt_tokens=2"),
    "bridge-only": Ablation("G without the CLIP path: the bridge feature alone", "generator.concept_scale=0"),
    "concepts-1": Ablation("visual concepts in full, not a tenth", "generator.concept_scale=1.0"),
    "no-mismatch": Ablation("no mismatch term", "loss.mismatch=0"),
    "no-penalty": Ablation("no gradient penalty", "loss.penalty_k=0"),
    "penalty-pixels": Ablation("gradient penalty on pixels", "loss.penalty_on=pixels"),
    "no-similarity": Ablation("no CLIP similarity", "loss.similarity=0"),
    "bridge-1": Ablation("one residual block in the Bridge-FP", "generator.bridge_blocks=1"),
    "bridge-8": Ablation("eight residual blocks in the Bridge-FP", "generator.bridge_blocks=8"),
    "noise-16": Ablation("noise of 16 numbers", "generator.z_dim=16"),
    "noise-256": Ablation("noise of 256 numbers", "generator.z_dim=256"),
    "t5": Ablation("T5 encodes the captions", "model.text=google/t5-v1_1-large", None),
    "b16": Ablation("ViT-B/16", "model.preset=b16-224", None),
    "l14": Ablation("ViT-L/14", "model.preset=l14-256", None),
}
"""Every ablation by name; the first is what the others are compared with."""

BASE, *_ = ABLATIONS
DOCS = Path(__file__).parents[1] / "docs" / "ablations.md"
BEGIN, END = "<!-- table: written by benchmarks/ablations.py --write -->", "<!-- end of the table -->"
PROTOCOL = "emoji64"
METRICS = {"fd_judge": "FD (judge)", "clip_score_judge": "CLIP score (judge)", "diversity_judge": "diversity"}

# Of Student's t, two-sided 95 %, by degrees of freedom; 1.96 beyond.
_T = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26}


def config_of(name: str, seed: int, data: str, clip: str, images: int, batch: int, device: str) -> TrainConfig:
    """The configuration of a run.

    Args:
        name: of `ABLATIONS`.
        seed: of the run.
        data: captioned images.
        clip: the small CLIP, a folder.
        images: how many images the run sees.
        batch: images in a step.
        device: as `performance.device`.
    """
    override = ABLATIONS[name].of_small
    assert override is not None, f"{name} is not of the small model"
    tree: dict[str, Any] = {
        "name": f"{name}-{seed}",
        "seed": seed,
        "model": {"preset": "mini-64", "clip": clip},
        "data": {"source": data},
        "schedule": {"images": images, "batch": batch},
        "checkpoints": {"every": images, "keep": 1},
        "logging": {"every": max(batch, images // 20), "grid_every": images, "trackers": []},
        "performance": {"device": device},
    }
    if override:
        apply_override(tree, override)
    return parse_config(tree, name)


def run(config: TrainConfig, folder: Path) -> dict[str, float]:
    """Train, evaluate, and give the metrics by name; what is there already is read."""
    result = folder / "result.json"
    if not result.exists():
        if not (folder / "model" / "model_index.json").exists():
            open_run(config, folder, resume="latest" if list(folder.glob("checkpoints/images-*")) else None).fit()
        references = References()
        rules = resolved_protocol(get_protocol(PROTOCOL), references, {}, list(METRICS))
        evaluate(
            folder / "model", rules, references, out=result, distributed=Distributed(config.performance.device, "")
        )
    metrics = json.loads(result.read_text(encoding="utf-8"))["metrics"]
    return {name: float(metrics[name]["value"]) for name in METRICS}


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval over seeds; nan for one seed."""
    count = len(values)
    if count < 2:
        return fmean(values), float("nan")
    return fmean(values), _T.get(count - 1, 1.96) * stdev(values) / count**0.5


def summary(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, dict[str, float]]]:
    """For each ablation and metric: mean and interval, and those of the difference to `BASE`, seed by seed.

    Args:
        found: metrics by ablation and seed.
    """
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for name, by_seed in found.items():
        rows[name] = {}
        for metric in METRICS:
            mean, half = interval([by_seed[seed][metric] for seed in by_seed])
            rows[name][metric] = {"mean": mean, "half_width": half}
            common = [seed for seed in by_seed if seed in found.get(BASE, {})]
            if name != BASE and common:
                change, spread = interval([by_seed[seed][metric] - found[BASE][seed][metric] for seed in common])
                rows[name][metric] |= {"change": change, "change_half_width": spread}
    return rows


def doc_table(rows: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """The table of docs/ablations.md: overrides, and figures where there are some."""
    lines = []
    for name, ablation in ABLATIONS.items():
        override = f"`{ablation.override}`" if ablation.override else ""
        small = ablation.of_small
        of_small = "the same" if small == ablation.override else "" if small is None else f"`{small}`"
        cells = [_cell(rows[name][metric]) if name in rows else "" for metric in METRICS]
        lines.append([ablation.title, override, of_small if ablation.override else "", *cells])
    return table(["", "override", "of the small model", *METRICS.values()], lines)


def _cell(row: Mapping[str, float]) -> str:
    text = f"{row['mean']:.3g} ± {row['half_width']:.2g}"
    return f"{text} ({row['change']:+.2g} ± {row['change_half_width']:.2g})" if "change" in row else text


def write_docs(path: Path, rows: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """Put the table between its marks in a page."""
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n\n{doc_table(rows)}\n\n{END}{after}", encoding="utf-8")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    small = [name for name, ablation in ABLATIONS.items() if ablation.of_small is not None]
    parser.add_argument("--data", help="captioned images of 64 px: the emoji of the recipe")
    parser.add_argument("--clip", help="the recipe's CLIP, a folder")
    parser.add_argument("--only", nargs="+", choices=small, default=small, metavar="NAME", help=", ".join(small))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--images", type=int, default=100_000, help="that each run sees")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--runs", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--out", type=Path, default=RESULTS / "ablations.json")
    parser.add_argument("--write", action="store_true", help=f"put the table into {DOCS.name}")
    given = parser.parse_args()
    if given.data and given.clip:
        found: dict[str, dict[str, dict[str, float]]] = {}
        for seed in given.seeds:  # all ablations of a seed, then the next: a stopped comparison is a fair one
            for name in given.only:
                config = config_of(name, seed, given.data, given.clip, given.images, given.batch, given.device)
                found.setdefault(name, {})[str(seed)] = run(config, given.runs / f"{given.images}" / f"{name}-{seed}")
        settings = {"images": given.images, "batch": given.batch, "protocol": PROTOCOL}
        write_result(given.out, settings | {"machine": machine(), "found": found, "rows": summary(found)})
    elif not given.write:
        parser.error("give --data and --clip, or --write")
    rows = json.loads(given.out.read_text(encoding="utf-8"))["rows"] if given.out.exists() else {}
    print(doc_table(rows))
    if given.write:
        write_docs(DOCS, rows)


if __name__ == "__main__":
    main()
