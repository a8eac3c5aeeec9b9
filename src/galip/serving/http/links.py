"""Images behind links: for a while, and never more than a given amount of memory."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from galip.serving.pool import EncodedImage


@dataclass(frozen=True)
class _Kept:
    image: EncodedImage
    until: float


class ImageLinks:
    """Keeps images under names that nobody can guess.

    Args:
        lifetime: seconds for which a name is good.
        capacity: bytes of all images together; beyond it the oldest are dropped.
        now: seconds of a clock that never goes back.
    """

    def __init__(self, lifetime: float, capacity: int, now: Callable[[], float] = time.monotonic) -> None:
        self._lifetime, self._capacity, self._now = lifetime, capacity, now
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._size = 0

    def add(self, image: EncodedImage) -> str:
        """Keep an image; gives its name, such as "x3Fq....png"."""
        self._forget()
        name = f"{secrets.token_urlsafe(24)}.{image.format}"
        self._kept[name] = _Kept(image, self._now() + self._lifetime)
        self._size += len(image.data)
        while self._size > self._capacity and len(self._kept) > 1:
            self._drop(next(iter(self._kept)))
        return name

    def get(self, name: str) -> EncodedImage | None:
        """The image, or None if it is not kept any more."""
        self._forget()
        kept = self._kept.get(name)
        return None if kept is None else kept.image

    def _forget(self) -> None:
        while self._kept and next(iter(self._kept.values())).until <= self._now():
            self._drop(next(iter(self._kept)))

    def _drop(self, name: str) -> None:
        self._size -= len(self._kept.pop(name).image.data)
