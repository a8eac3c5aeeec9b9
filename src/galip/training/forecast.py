"""How long something will take, from its first few steps."""

from __future__ import annotations

import time

_SKIPPED, _MEASURED = 1, 3
"""The first step is slower than all others."""


class Forecast:
    """Measures a few steps.

    Args:
        images: still to come.
    """

    def __init__(self, images: int) -> None:
        self.images, self._steps, self._begun = images, 0, 0.0

    def step(self, images: int) -> str | None:
        """Called after each step of so many images: "about 12 min at 66 images/s" after the fourth, else None."""
        self._steps += 1
        if self._steps == _SKIPPED:
            self._begun = time.perf_counter()
        if self._steps != _SKIPPED + _MEASURED:
            return None
        speed = _MEASURED * images / max(1e-9, time.perf_counter() - self._begun)
        return f"about {duration(self.images / speed)} at {speed:.0f} images/s"


def duration(seconds: float) -> str:
    """A time as people say it: "40 s", "12 min", "3.2 h"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
