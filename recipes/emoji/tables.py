"""The bundled model's result as tables in README.md and docs/evaluation.md, between their markers.

galip evaluate emoji-64 --protocol emoji64 -o recipes/emoji/emoji64.json
python recipes/emoji/tables.py
"""

from __future__ import annotations

import re
from pathlib import Path

from emoji_common import HERE

from galip.evaluation import Result, read_result
from galip.evaluation.report.comparison import Row, rows_of, shown_with_interval
from galip.evaluation.result import Number

RESULT = HERE / "emoji64.json"
ROOT = HERE.parents[1]
MARKER = "<!-- emoji64 -->"
SHORT = ("fd_judge", "clip_score_judge", "r_precision_judge")


def cell(number: Number | None) -> str:
    """A number with its interval."""
    if number is None:
        return ""
    value, interval = shown_with_interval(number)
    return f"{value} ({interval})" if interval else value


def table(rows: list[Row]) -> str:
    """Markdown: generated beside real images, categories below their metric."""
    lines = ["| | generated | real images |", "| --- | --- | --- |"]
    for row in rows:
        name = f"- {row.group}" if row.group else row.meaning.headed
        lines.append(f"| {name} | {cell(row.numbers[0])} | {cell(row.baseline)} |")
    return "\n".join(lines)


def tables(result: Result) -> dict[Path, str]:
    """The table of each page: the README's has the main numbers only, and retrieval by kind of caption."""
    rows = rows_of([result])
    real = [group for group in result.groups if group in result.group_real_baseline]
    short = [
        row
        for row in rows
        if row.name in SHORT and (not row.group or (row.group in real and row.name == "r_precision_judge"))
    ]
    return {ROOT / "README.md": table(short), ROOT / "docs" / "evaluation.md": table(rows)}


def filled(page: str, content: str) -> str:
    """A page with what stands between its markers replaced."""
    if page.count(MARKER) != 2:
        raise SystemExit(f"the page must hold {MARKER} twice")
    return re.sub(f"{MARKER}.*{MARKER}", lambda _: f"{MARKER}\n{content}\n{MARKER}", page, flags=re.DOTALL)


def main() -> None:
    for path, content in tables(read_result(RESULT)).items():
        unfinished = path.with_name(f".{path.name}.writing")
        unfinished.write_text(filled(path.read_text(encoding="utf-8"), content), encoding="utf-8")
        unfinished.replace(path)


if __name__ == "__main__":
    main()
