"""What became of the images of a source: counts, what was left out and why, and how a person is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from galip.data.skips import Skips

REPORT = "report.json"


@dataclass
class Tally:
    """Counts of one block, or of many added up.

    Attributes:
        skipped: what was left out.
        kept: images whose bytes are the original's.
        encoded: images that were encoded again.
        captions_dropped: captions that hold nothing, or no text.
    """

    skipped: Skips = field(default_factory=Skips)
    kept: int = 0
    encoded: int = 0
    captions_dropped: int = 0

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Tally:
        """What `as_json` gave."""
        return cls(**{**found, "skipped": Skips(found["skipped"])})

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        return {**vars(self), "skipped": self.skipped.reasons}

    def add(self, other: Tally) -> None:
        """Add the counts of what comes after."""
        self.skipped.update(other.skipped)
        self.kept += other.kept
        self.encoded += other.encoded
        self.captions_dropped += other.captions_dropped


def summary(report: dict[str, Any], out: Path) -> Iterator[str]:
    """The lines that the command prints at the end.

    Args:
        report: what `report.json` holds.
        out: the folder that it lies in.
    """
    splits = report["splits"]
    records, captions = (sum(split[what] for split in splits.values()) for what in ("records", "captions"))
    yield f"{out}: {counted(records, 'image')} with {counted(captions, 'caption')}"
    for name, split in splits.items():
        yield (
            f"  {name}: {counted(split['records'], 'image')}, {counted(split['captions'], 'caption')}, "
            f"{counted(split['shards'], 'shard')}, {split['bytes'] / 1e6:,.1f} MB"
        )
    if report["encoded"]:
        yield f"encoded again: {report['encoded']:,}; kept as they were: {report['kept']:,}"
    if report["captions_dropped"]:
        yield f"captions that hold no text, dropped: {report['captions_dropped']:,}"
    for line in Skips(report["skipped"]).described():
        yield f"skipped, {line}"
    yield ("nothing was skipped" if not report["skipped"] else "more names") + f": {out / REPORT}"


def counted(number: int, noun: str) -> str:
    """The number 1 and the noun "shard" are "1 shard"."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
