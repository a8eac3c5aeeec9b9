"""What `galip evaluate --protocol emoji64` needs, so that it needs nothing else: the judge, its captions and features.

    python recipes/emoji/bundle.py [--out src/galip/assets/protocols/emoji64]

Drawn pictures are compared with 1,920 real ones: every other held-out picture, and training pictures. Drawn are the
captions of 1,920 others: the other half of the held-out ones, and training pictures again. Beside these the rest of the
held-out captions, the synonyms and the prompt suite `emoji` are scored. No picture goes into the package, only the
judge's features of them (`galip.evaluation.bundle` says in which files).
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from emoji_common import HERE, WORK, Pictures, Teacher, to_float
from measure import Data, halves, joined, part_of
from safetensors.torch import save_file
from train_judge import Judge, load_judge

from galip.evaluation.bundle import CAPTIONS, FEATURES, JUDGE, REFERENCE, SUITE_CAPTIONS, read_bundle
from galip.evaluation.pixel_facts import PixelFacts
from galip.evaluation.statistics import Moments, Statistics, write_statistics
from galip.evaluation.suites import read_suite

OUT = HERE.parents[1] / "src" / "galip" / "assets" / "protocols" / "emoji64"
HALF, TRAIN_CAPTIONS = 1920, 1000
SUITE = "emoji"

_CARD = """\
# emoji64

What `galip evaluate --protocol emoji64` measures by: a small network (the judge), captions, and the judge's features of
real emoji pictures. Made by `recipes/emoji/bundle.py`. The judge took part in no training of a generator; it learnt
from the same training pictures as the bundled model, whose sources and licences are in `../../emoji-64/README.md`.
"""


@dataclass
class _Row:
    caption: str
    picture: torch.Tensor
    compared: bool = False
    groups: list[str] = field(default_factory=list)


class _Rows:
    """Captions with their real pictures, each once, in the order in which they were first asked for."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, bytes], _Row] = {}

    def add(self, data: Pictures, compared: bool = False, group: str = "") -> None:
        for caption, picture in zip(data.canonical, data.images, strict=True):
            row = self.rows.setdefault((caption, picture.numpy().tobytes()), _Row(caption, picture))
            row.compared |= compared
            if group and group not in row.groups:
                row.groups.append(group)


def look(judge: Judge, images: Iterable[torch.Tensor]) -> torch.Tensor:
    """The judge's vectors [N, D] of uint8 pictures, not normalised."""
    with torch.inference_mode():
        return torch.cat([judge.pictures(to_float(part)) for part in torch.stack(list(images)).split(256)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=WORK / "data")
    parser.add_argument("--judge", type=Path, default=WORK / "judge")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    data, judge, teacher = Data.load(options.data), load_judge(options.judge), Teacher()
    judge.half().float()  # as it is stored
    train = part_of(data.train, len(data.train.rows))
    mixed = joined(data.held_out_pairs, data.held_out_emoji)
    asked, reference = halves(train, part_of(mixed, len(mixed.rows)), HALF)
    kept = _Rows()
    kept.add(asked, compared=True)
    kept.add(part_of(data.train, TRAIN_CAPTIONS), group="training captions")
    kept.add(data.held_out_pairs, group="held-out pairs")
    kept.add(data.held_out_emoji, group="held-out emoji")
    kept.add(data.synonyms, group="synonyms")
    rows = sorted(kept.rows.values(), key=lambda row: not row.compared)
    prompts = [prompt.text for prompt in read_suite(SUITE).prompts]
    with torch.inference_mode():
        texts = judge.read(teacher.encode_once([row.caption for row in rows]))
        suite_texts = judge.read(teacher.encode_once(prompts))
    real, seen = look(judge, (row.picture for row in rows)), look(judge, reference.images)
    unfinished = options.out.with_name(f".{options.out.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    (unfinished / JUDGE).mkdir(parents=True)
    lines = [{"caption": row.caption, "compared": row.compared, "groups": row.groups} for row in rows]
    (unfinished / CAPTIONS).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (unfinished / SUITE_CAPTIONS).write_text(json.dumps(prompts, indent=0) + "\n", encoding="utf-8")
    tensors = {"texts": texts, "suite_texts": suite_texts, "real": real}
    stored = {name: tensor.half().contiguous() for name, tensor in tensors.items()}
    save_file(stored | {"facts": PixelFacts()(reference.images)}, unfinished / FEATURES)
    moments = Moments.of(seen.numpy())
    about = {"network": "the judge of emoji64", "pictures": "emoji, the half that is compared with"}
    features = seen.numpy().astype(np.float16)
    write_statistics(
        unfinished / REFERENCE, Statistics(moments.mean, moments.covariance, moments.count, features, about)
    )
    (unfinished / JUDGE / "config.json").write_text(json.dumps(judge.config, indent=1) + "\n", encoding="utf-8")
    weights = {name: value.half().contiguous() for name, value in judge.pictures.state_dict().items()}
    save_file(weights, unfinished / JUDGE / "model.safetensors")
    (unfinished / "README.md").write_text(_CARD, encoding="utf-8")
    read_bundle(unfinished)
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    unfinished.replace(options.out)
    compared = sum(row.compared for row in rows)
    print(f"{options.out}: {len(rows)} captions, {compared} of them compared with {len(seen)} real pictures")


if __name__ == "__main__":
    main()
