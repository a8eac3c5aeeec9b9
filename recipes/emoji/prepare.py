"""Emoji pictures and captions from registry packages -> shards; the same as `galip data prepare emoji`.

    python recipes/emoji/prepare.py --out recipes/emoji/work/data

`npm pack` fetches the packages (or `--packages DIR` names a folder that already holds the archives). The result:

    data/train/             shards, as `docs/data.md` describes them
    data/held_out_pairs/    single (emoji, style) pairs whose emoji is trained in other styles
    data/held_out_emoji/    emoji that no training picture shows, in any style or skin tone
    data/split.json         which is which
    data/report.json        counts, and what found no picture or no label

Each record holds `captions` (ten, the canonical one first), and `emoji`, `style`, `label`, `tags`, which the evaluation
reads.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from galip.data_prep.base import WritingOptions
from galip.data_prep.emoji import emoji
from galip.data_prep.encoding import ImageOptions
from galip.data_prep.parallel import usable_cores
from galip.data_prep.report import summary
from galip.data_prep.writing import prepare as write_shards


def prepare(out: Path, packages: Path, workers: int = 1) -> dict[str, object]:
    """Write the shards, `report.json` and `split.json` into `out`; returns the report."""
    writing = WritingOptions(shard_mb=16, images=ImageOptions(keep_alpha=True))
    report = write_shards(emoji(packages, writing), out, writing, workers)
    (out / "split.json").write_text(json.dumps(report["notes"]["split"], indent=1) + "\n")
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = Path(__file__).parent
    parser.add_argument("--out", type=Path, default=here / "work" / "data")
    parser.add_argument("--packages", type=Path, default=here / "work" / "packages")
    options = parser.parse_args()
    for line in summary(prepare(options.out, options.packages, usable_cores()), options.out):
        print(line)


if __name__ == "__main__":
    main()
