"""Videos: frames generated batch by batch and encoded as they come."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from galip.latent.interpolation import Easing, ease
from galip.serving.pool import EncodedImage, ImageFormat, ImageRequest, QueueFullError, WeightedPrompt, WorkerPool
from galip.utils.video import writing

_PAUSE = 0.1
"""Seconds after which a video that has begun asks for its next frames again, when others have filled the queue."""


def frame_requests(
    keyframes: Sequence[WeightedPrompt],
    frames: int,
    loop: bool,
    easing: Easing,
    truncation: float,
    size: int | None,
    format: ImageFormat,
) -> Iterator[ImageRequest]:
    """The frames of a video, as `galip.latent.walk` places them: keyframes exactly, noise by slerp between them.

    Args:
        keyframes: two or more.
        frames: from each keyframe to the next.
        loop: whether the last leg leads back to the first keyframe.
        easing: how each leg is passed.
        truncation, format: of every image.
        size: side of every image in pixels; None: the model's own.
    """
    sides = None if size is None else (size, size)
    legs = len(keyframes) - (0 if loop else 1)
    for number in range(num_frames(len(keyframes), frames, loop)):
        leg, step = divmod(number, frames)
        start = keyframes[leg % len(keyframes)]
        prompts: tuple[WeightedPrompt, ...] = (start,)
        if step and leg < legs:
            stop = keyframes[(leg + 1) % len(keyframes)]
            share = float(ease(easing, step / frames))
            prompts = (
                WeightedPrompt(start.prompt, start.seed, 1 - share),
                WeightedPrompt(stop.prompt, stop.seed, share),
            )
        yield ImageRequest(prompts, truncation, sides, format=format)


def num_frames(keyframes: int, frames: int, loop: bool) -> int:
    """Number of frames of a video."""
    return keyframes * frames if loop else (keyframes - 1) * frames + 1


async def generate_frames(
    pool: WorkerPool, requests: Iterator[ImageRequest], batch_size: int
) -> AsyncIterator[EncodedImage]:
    """Generate images a batch at a time; in between it is the turn of others.

    Raises:
        QueueFullError: there is no room for the first batch. Later ones wait.
    """
    begun = False
    while batch := list(islice(requests, batch_size)):
        while True:
            try:
                images = await pool.generate(batch)
                break
            except QueueFullError:
                if not begun:
                    raise
                await asyncio.sleep(_PAUSE)
        begun = True
        for image in images:
            yield image


async def encode_video(images: AsyncIterator[EncodedImage], format: str, fps: float, texts: dict[str, str]) -> bytes:
    """Make a video of images in the format "rgb".

    Args:
        images: its frames.
        format: "mp4", "webp" or "gif".
        fps: frames per second.
        texts: what is told of it in the file.

    Returns:
        The file's bytes.

    Raises:
        GalipError: as `galip.utils.video.writing`, and whatever generating them raises.
    """
    with tempfile.TemporaryDirectory(prefix="galip-video-") as folder:
        path = Path(folder) / f"video.{format}"
        with writing(path, fps, texts) as video:
            async for image in images:
                frame = Image.frombytes("RGB", (image.width, image.height), image.data)
                await _in_thread(video.write, frame)
        return path.read_bytes()


async def _in_thread(function: Callable[..., Any], *arguments: Any) -> None:
    """Run something beside the event loop. Whoever is cancelled waits for it: the file must not be closed under it."""
    running = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
