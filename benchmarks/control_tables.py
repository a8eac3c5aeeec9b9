"""The tables of docs/control.md, filled in from `results/control.json`.

python benchmarks/control.py
python benchmarks/control_tables.py
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from common import RESULTS

PAGE = Path(__file__).parents[1] / "docs" / "control.md"
SHOWN_STEPS = (1e-3, 1e-2)

Row = dict[str, Any]


def with_interval(number: dict[str, float] | None, digits: int) -> str:
    """A number as "0.49 (0.41 to 0.57)"; empty for None."""
    if number is None:
        return ""
    value, low, high = (f"{number[end]:.{digits}f}" for end in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def reranking(found: Row) -> list[list[str]]:
    return [
        [
            f"{row['k']}",
            f"{row['own']['value']:.3f}",
            with_interval(row["judge"], 3),
            with_interval(row["gain"], 3),
            f"{row['right_of_100']['value']:.2f}",
            f"{row['seconds']:.2f}",
            f"{row['judge_choosing']['value']:.3f}",
        ]
        for row in found["rows"]
    ]


def refinement(found: Row) -> list[list[str]]:
    def cells(row: Row) -> list[str]:
        return [f"{row['own']['value']:.3f}", with_interval(row["judge"], 3), with_interval(row.get("gain"), 3)]

    def right(row: Row) -> str:
        return f"{row['right_of_100']['value']:.2f}"

    before = found["before"]
    return [["before", "", *cells(before), right(before), ""]] + [
        [f"{row['angle']:.0f}°", f"{row['sentence_angle']:.0f}°", *cells(row), right(row), f"{row['seconds']:.2f}"]
        for row in found["rows"]
    ]


def inversion(found: Row) -> list[list[str]]:
    return [
        [
            "drawn by the model" if row["pictures"] == "drawn" else "real",
            "caption" if row["caption"] else "picture",
            "one a stage" if row["per_stage"] else "one",
            f"{row['start_psnr']['value']:.1f}",
            with_interval(row["psnr"], 1),
            f"{row['psnr_least']:.1f}",
            f"{row['judge']['value']:.3f}",
            f"{row['seconds']:.0f}",
        ]
        for row in found["rows"]
    ]


def smoothness(found: Row) -> list[list[str]]:
    names = {"noise": "noise to noise", "captions": "caption to caption"}
    return [
        [
            names[row["walk"]],
            f"{row['epsilon']:g}",
            with_interval(row, 2),
            f"{row['median']:.2f}",
            with_interval({"value": row["ratio"], "low": row["ratio_low"], "high": row["ratio_high"]}, 1),
        ]
        for row in found["rows"]
        if row["epsilon"] in SHOWN_STEPS
    ]


TABLES = {"reranking": reranking, "refinement": refinement, "inversion": inversion, "smoothness": smoothness}
"""By the word after `--only` of the command that stands above the table."""


def filled(page: str, found: dict[str, Any]) -> str:
    """The page with the rows of each table replaced.

    Raises:
        SystemExit: a table is not where it was.
    """
    for name, rows in TABLES.items():
        lines = "".join(f"| {' | '.join(row)} |\n" for row in rows(found[name]))
        table = rf"(control\.py --only {name}\n```\n\n\|[^\n]*\n\|[ |-]*\n)(?:\|[^\n]*\n)+"
        page, count = re.subn(table, lambda match, lines=lines: match[1] + lines, page)  # type: ignore[misc]
        if count != 1:
            raise SystemExit(f"{PAGE}: no table below the command with --only {name}")
    return page


def main() -> None:
    found = json.loads((RESULTS / "control.json").read_text(encoding="utf-8"))
    writing = PAGE.with_name(f".{PAGE.name}.writing")
    writing.write_text(filled(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")
    writing.replace(PAGE)


if __name__ == "__main__":
    main()
