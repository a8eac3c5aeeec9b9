"""What the routes share: checks of what was asked for, time limits, links."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
from collections.abc import Awaitable, Iterator, Sequence
from typing import TypeVar

from galip.errors import InputError
from galip.generation.noise import SEED_LIMIT
from galip.generation.prompts import clean_caption
from galip.serving.http.errors import RequestError
from galip.serving.http.links import ImageLinks
from galip.serving.http.settings import Settings
from galip.serving.pool import EncodedImage, ImageRequest, WorkerPool

Answer = TypeVar("Answer")

MEDIA_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp", "gif": "image/gif", "mp4": "video/mp4"}

_RANDOM_SEEDS = 2**32
_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")


class Service:
    """A pool of workers behind the settings of whoever runs it.

    Args:
        pool: generates.
        settings: limits.

    Attributes:
        pool, settings: as given.
        links: images that are kept for a while.
    """

    def __init__(self, pool: WorkerPool, settings: Settings) -> None:
        self.pool, self.settings = pool, settings
        self.links = ImageLinks(settings.link_lifetime, settings.link_bytes)
        self._videos = 0

    def check_model(self, model: str | None) -> None:
        """Make sure that a request means the served model.

        Raises:
            RequestError: it names another one.
        """
        served = self.pool.info().name
        if model not in (None, served):
            message = f"there is no model {model!r} here, only {served!r}; model may be left out"
            raise RequestError(404, message, "model", "model_not_found")

    def clean_prompt(self, prompt: str, param: str = "prompt") -> str:
        """A prompt as the model is given it.

        Args:
            prompt: as it was sent.
            param: what errors call it.

        Raises:
            RequestError: it is too long, empty, or not text.
        """
        limit = self.settings.max_prompt
        if len(prompt) > limit:
            raise RequestError(
                400, f"{param} has {len(prompt)} characters, and at most {limit} are taken", param, "too_long"
            )
        try:
            return clean_caption(prompt)
        except InputError as error:
            raise RequestError(400, f"{param}: {error}", param, "invalid_value") from error

    def side(self, size: int | str | None, param: str = "size") -> int | None:
        """The side of an image in pixels; None for the model's own.

        Args:
            size: "auto", a square such as "512x512", or its side.
            param: what errors call it.

        Raises:
            RequestError: it is not a square, smaller than the model's images, or larger than `max_size`.
        """
        own, largest = self.pool.info().image_size, self.settings.max_size
        if size in (None, "auto"):
            return None
        if isinstance(size, str):
            found = _SIZE.fullmatch(size)
            if found is None or found[1] != found[2]:
                raise RequestError(
                    400, f'{param} {size!r}: use "auto" or a square such as "{own}x{own}"', param, "invalid_value"
                )
            size = int(found[1])
        assert size is not None
        if not own <= size <= max(own, largest):
            message = (
                f"{param} {size}: the model's images are {own} x {own} pixels and can be enlarged up to "
                f"{largest} x {largest}"
            )
            raise RequestError(400, message, param, "invalid_value")
        return None if size == own else size

    def seeds(self, first: int | None, count: int) -> list[int]:
        """Seeds of the images of one request: random ones, or counted on from the first.

        Raises:
            RequestError: the last one would be too large.
        """
        if first is None:
            return [secrets.randbelow(_RANDOM_SEEDS) for _ in range(count)]
        if first + count > SEED_LIMIT:
            raise RequestError(
                400, f"seed {first}: with n = {count} the last seed would be too large", "seed", "invalid_value"
            )
        return list(range(first, first + count))

    async def generate(self, requests: Sequence[ImageRequest]) -> list[EncodedImage]:
        """Generate the images of one request in the time that it may take.

        Raises:
            RequestError: it took too long.
            GalipError: as `WorkerPool.generate`.
        """
        return await self.in_time(self.pool.generate(requests), self.settings.time_limit)

    async def in_time(self, answer: Awaitable[Answer], limit: float) -> Answer:
        """Wait for something, but not for ever.

        Raises:
            RequestError: it took longer than `limit` seconds.
        """
        try:
            return await asyncio.wait_for(answer, limit)
        except (TimeoutError, asyncio.TimeoutError):
            raise RequestError(
                504, f"it took longer than the {limit:g} s that a request may take", code="timeout"
            ) from None

    @contextlib.contextmanager
    def video_slot(self) -> Iterator[None]:
        """One of the videos that may be made at the same time.

        Raises:
            RequestError: as many are being made as may be.
        """
        if self._videos >= self.settings.max_videos:
            message = f"{self._videos} videos are being made already; try again in a while"
            raise RequestError(429, message, code="queue_full", headers={"Retry-After": "5"})
        self._videos += 1
        try:
            yield
        finally:
            self._videos -= 1
