"""Films: frames drawn batch by batch and encoded as they come."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from galip.latent.interpolation import Easing, ease
from galip.serving.backend import Backend, EncodedImage, ImageFormat, Picture, Point, QueueFullError
from galip.utils.video import writing

_PAUSE = 0.1
"""Seconds after which a film that has begun asks for its next frames again, when others have filled the queue."""


def frames(
    keyframes: Sequence[Point],
    count: int,
    loop: bool,
    easing: Easing,
    truncation: float,
    size: int | None,
    format: ImageFormat,
) -> Iterator[Picture]:
    """The frames of a film, as `galip.latent.walk` places them: keyframes exactly, noise by slerp between them.

    Args:
        keyframes: two or more.
        count: frames from each keyframe to the next.
        loop: whether the last leg leads back to the first keyframe.
        easing: how each leg is passed.
        truncation, size, format: of every picture.
    """
    legs = len(keyframes) - (0 if loop else 1)
    for number in range(legs * count + (0 if loop else 1)):
        leg, step = divmod(number, count)
        here = keyframes[leg % len(keyframes)]
        points: tuple[Point, ...] = (here,)
        if step:
            there = keyframes[(leg + 1) % len(keyframes)]
            share = float(ease(easing, step / count))
            points = (Point(here.prompt, here.seed, 1 - share), Point(there.prompt, there.seed, share))
        yield Picture(points, truncation, size, format)


def length(keyframes: int, count: int, loop: bool) -> int:
    """Number of frames of a film."""
    return keyframes * count if loop else (keyframes - 1) * count + 1


async def draw_frames(backend: Backend, pictures: Iterator[Picture], at_once: int) -> AsyncIterator[EncodedImage]:
    """Draw pictures a batch at a time; in between it is the turn of others.

    Raises:
        QueueFullError: there is no room for the first batch. Later ones wait.
    """
    begun = False
    while batch := list(islice(pictures, at_once)):
        while True:
            try:
                images = await backend.draw(batch)
                break
            except QueueFullError:
                if not begun:
                    raise
                await asyncio.sleep(_PAUSE)
        begun = True
        for image in images:
            yield image


async def encode(images: AsyncIterator[EncodedImage], format: str, fps: float, texts: dict[str, str]) -> bytes:
    """Make a film of pictures in the format "rgb".

    Args:
        images: its frames.
        format: "mp4", "webp" or "gif".
        fps: frames per second.
        texts: what is told of it in the file.

    Returns:
        The file's bytes.

    Raises:
        GalipError: as `galip.utils.video.writing`, and whatever drawing them raises.
    """
    with tempfile.TemporaryDirectory(prefix="galip-film-") as folder:
        path = Path(folder) / f"film.{format}"
        with writing(path, fps, texts) as film:
            async for image in images:
                frame = Image.frombytes("RGB", (image.side, image.side), image.data)
                await _in_thread(film.write, frame)
        return path.read_bytes()


async def _in_thread(function: Callable[..., Any], *arguments: Any) -> None:
    """Run something beside the event loop. Whoever is cancelled waits for it: the file must not be closed under it."""
    running = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
