"""How fast images have been generated of late, and so how long a client that is refused had better stay away."""

from __future__ import annotations

import math

_MAX_WAIT = 60  # seconds that a client is told at the most
_MEMORY = 0.8  # share of what was known before


class Rate:
    """Images per second of one worker, the last batches counting most."""

    def __init__(self) -> None:
        self._rate = 0.0

    def add(self, images: int, seconds: float) -> None:
        """A batch has been generated."""
        rate = images / max(seconds, 1e-6)
        self._rate = _MEMORY * self._rate + (1 - _MEMORY) * rate if self._rate else rate

    def retry_after(self, waiting: int, workers: int = 1) -> int:
        """Whole seconds, 1 to 60, after which so many images will have been generated; 1 while no rate is known."""
        if not self._rate:
            return 1
        return min(max(math.ceil(waiting / self._rate / max(workers, 1)), 1), _MAX_WAIT)
