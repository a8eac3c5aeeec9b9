"""What the routes share: checks of what was asked for, time limits, links."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
from collections.abc import Awaitable, Iterator, Sequence
from typing import TypeVar
from urllib.parse import quote

from galip.errors import InputError
from galip.generation.noise import SEED_LIMIT
from galip.generation.prompts import clean_caption
from galip.serving.http.errors import RequestError
from galip.serving.http.links import ImageLinks
from galip.serving.http.schemas import ImageOptions, Request
from galip.serving.http.settings import Settings
from galip.serving.pool import Editor, EditRequest, EncodedImage, ImageRequest, WeightedPrompt, WorkerPool

Answer = TypeVar("Answer")

MEDIA_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp", "gif": "image/gif", "mp4": "video/mp4"}

_RANDOM_SEEDS = 2**32
_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")


class Service:
    """A pool of workers behind the settings of whoever runs it.

    Args:
        pool: generates.
        settings: limits.
        editor: generates from images that clients bring; None: nothing does.

    Attributes:
        pool, settings, editor: as given.
        links: images that are kept for a while.
    """

    def __init__(self, pool: WorkerPool, settings: Settings, editor: Editor | None = None) -> None:
        self.pool, self.settings, self.editor = pool, settings, editor
        self.links = ImageLinks(settings.link_lifetime, settings.link_bytes)
        self._videos = 0

    @property
    def model_names(self) -> list[str]:
        """What requests may call the model: its name, and aliases."""
        return [self.pool.info().name, *self.settings.aliases]

    def check_model(self, model: str | None) -> None:
        """Make sure that a request means the served model.

        Raises:
            RequestError: it names another one.
        """
        if model is not None and model not in self.model_names:
            known = ", ".join(map(repr, self.model_names))
            message = f"there is no model {model!r} here, only {known}; model may be left out"
            raise RequestError(404, message, "model", "model_not_found")

    def ignored_header(self, asked: Request) -> dict[str, str]:
        """A header that names the fields of a request that are unknown here.

        Raises:
            RequestError: there are some, and `strict` is set.
        """
        unknown = asked.unknown()
        if unknown and self.settings.strict:
            raise RequestError(400, f"unknown parameter: {unknown[0]}", unknown[0], "unknown_parameter")
        return {"X-Ignored-Fields": quote(",".join(unknown), safe=",[]")[:1000]} if unknown else {}

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

    def size(self, size: int | str | None, param: str = "size") -> tuple[int, int] | None:
        """Width and height of an image in pixels; None for the model's own.

        Args:
            size: "auto", width and height such as "512x768", or the side of a square.
            param: what errors call it.

        Raises:
            RequestError: it is smaller than the model's images, or larger than `max_size`.
        """
        own, largest = self.pool.info().image_size, max(self.settings.max_size, self.pool.info().image_size)
        if size in (None, "auto"):
            return None
        if isinstance(size, str):
            found = _SIZE.fullmatch(size)
            if found is None:
                raise RequestError(
                    400, f'{param} {size!r}: use "auto", or a size such as "{own}x{own}"', param, "invalid_value"
                )
            wanted = (int(found[1]), int(found[2]))
        else:
            assert size is not None
            wanted = (size, size)
        if not own <= min(wanted) <= max(wanted) <= largest:
            message = (
                f"{param} {size}: the model's images are {own} x {own} pixels and can be enlarged up to "
                f"{largest} x {largest}"
            )
            raise RequestError(400, message, param, "invalid_value")
        return None if wanted == (own, own) else wanted

    def transparent(self, background: str, format: str) -> bool:
        """Whether images keep their alpha channel.

        Raises:
            RequestError: they are to, and the model has no such channel, or the format cannot hold it.
        """
        if background != "transparent":
            return False
        if not self.pool.info().has_alpha:
            message = "background transparent: this model's images have no alpha channel; use opaque or auto"
            raise RequestError(400, message, "background", "invalid_value")
        if format == "jpeg":
            message = "background transparent: a JPEG has no alpha channel; use output_format png or webp"
            raise RequestError(400, message, "background", "invalid_value")
        return True

    def check_count(self, count: int) -> None:
        """Make sure that a request is not for more images than one may be for.

        Raises:
            RequestError: it is.
        """
        if count > self.settings.max_n:
            message = f"n is {count}, and at most {self.settings.max_n} images are generated"
            raise RequestError(400, message, "n", "invalid_value")

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

    def requests(self, asked: ImageOptions, prompt: str, seeds: Sequence[int]) -> list[ImageRequest]:
        """What a request asks of the workers: an image for each seed.

        Raises:
            RequestError: its size or its background cannot be had.
        """
        size, transparent = self.size(asked.size), self.transparent(asked.background, asked.output_format)
        return [
            ImageRequest(
                (WeightedPrompt(prompt, seed),),
                asked.truncation,
                size,
                asked.fit,
                asked.output_format,
                asked.output_compression,
                transparent,
            )
            for seed in seeds
        ]

    async def generate(self, requests: Sequence[ImageRequest]) -> list[EncodedImage]:
        """Generate the images of one request in the time that it may take.

        Raises:
            RequestError: it took too long.
            GalipError: as `WorkerPool.generate`.
        """
        return await self.in_time(self.pool.generate(requests), self.settings.time_limit)

    def check_edits(self) -> None:
        """Make sure that images can be edited here.

        Raises:
            RequestError: they cannot.
        """
        if self.editor is None:
            message = (
                "this service edits no images: that takes a model that is not exported, torch on the server, and no "
                "cluster"
            )
            raise RequestError(501, message, code="not_supported")

    async def edit(self, asked: EditRequest) -> list[EncodedImage]:
        """Generate from an image in the time that this may take.

        Raises:
            RequestError: it took too long, or images cannot be edited here.
            GalipError: as `Editor.edit`.
        """
        self.check_edits()
        assert self.editor is not None
        return await self.in_time(self.editor.edit(asked), self.settings.edit_time_limit)

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
