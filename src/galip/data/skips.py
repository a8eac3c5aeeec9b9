"""What was left out of a data set: how much, for which reason, and some names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

MAX_EXAMPLES = 20
"""So many names are kept for each reason."""

NO_CAPTION = "no caption"
NO_TEXT = "no caption file"
TEXT_ALONE = "caption file without an image"
BROKEN_TEXT = "captions cannot be read"
NOT_UTF8 = "captions are not UTF-8"
MISSING = "missing file"
UNUSABLE_TYPE = "image type that cannot be read"
TOO_LARGE = "member too large"


class Skipped(NamedTuple):
    """One thing that is left out: why, and what it is called."""

    reason: str
    name: str


@dataclass
class Skips:
    """What was left out, counted.

    Attributes:
        reasons: reason -> {"count": how many, "examples": the first names}.
    """

    reasons: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, skipped: Iterable[Skipped]) -> Skips:
        """The same things, counted."""
        skips = cls()
        for skip in skipped:
            skips.add(*skip)
        return skips

    def __bool__(self) -> bool:
        return bool(self.reasons)

    @property
    def total(self) -> int:
        """How many were left out."""
        return sum(found["count"] for found in self.reasons.values())

    def add(self, reason: str, name: str) -> None:
        """Count one."""
        self._add(reason, 1, [encodable(name)])

    def update(self, other: Skips) -> None:
        """Count what was left out later."""
        for reason, found in other.reasons.items():
            self._add(reason, found["count"], found["examples"])

    def described(self, names: int = 3) -> Iterator[str]:
        """A line for each reason, such as "no caption: 12 (a.png, b.png, c.png, ...)"."""
        for reason, found in self.reasons.items():
            shown = found["examples"][:names] + (["..."] if found["count"] > names else [])
            yield f"{reason}: {found['count']:,} ({', '.join(shown)})"

    def _add(self, reason: str, count: int, names: list[str]) -> None:
        found = self.reasons.setdefault(reason, {"count": 0, "examples": []})
        found["count"] += count
        found["examples"] += names[: MAX_EXAMPLES - len(found["examples"])]


def encodable(name: str) -> str:
    """A file name as text that can be written as UTF-8: bytes of it that are none stand as escapes."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
