"""A model as tools of an assistant: an MCP server (Model Context Protocol) that generates images, walks and grids."""

from __future__ import annotations

import asyncio
import functools
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

from mcp.server import MCPServer
from mcp.server.mcpserver import Image as ImageContent
from mcp.server.mcpserver.exceptions import ToolError
from PIL import Image
from pydantic import Field

from galip import __version__
from galip.errors import GalipError, InputError
from galip.generation.noise import SEED_LIMIT
from galip.generation.prompts import clean_caption
from galip.serving.model_worker import ModelWorker
from galip.serving.pool import EncodedImage, ImageRequest, WeightedPrompt
from galip.serving.videos import frame_requests, num_frames
from galip.utils.contact_sheet import labelled_grid, sheet_side
from galip.utils.video import writing

_MAX_PROMPT = 1000
_RANDOM_SEEDS = 2**31

Prompt = Annotated[str, Field(max_length=_MAX_PROMPT, description="What the image shows.")]
Prompts = Annotated[list[Prompt], Field(min_length=1)]
Seed = Annotated[int, Field(ge=0, lt=SEED_LIMIT, description="The same prompt and seed give the same image.")]
Size = Annotated[int | None, Field(description="Side in pixels; left out: the model's own.")]
Truncation = Annotated[float, Field(ge=0, le=10, description="Scale of the noise: less is more typical.")]


@dataclass(frozen=True)
class Limits:
    """What one call of a tool may ask for.

    Attributes:
        images: of `generate` and `grid`.
        frames: of `walk`.
        size: side of an image in pixels.
    """

    images: int = 16
    frames: int = 120
    size: int = 1024


def create_server(worker: ModelWorker, limits: Limits = Limits()) -> MCPServer:
    """Make a server around a model.

    Args:
        worker: generates.
        limits: of one call.

    Returns:
        A server with the tools `generate`, `walk` and `grid`; its `run()` speaks over standard input and output.
    """
    server = MCPServer(
        "galip", version=__version__, instructions=f"Generates images of {worker.info.image_size} pixels from prompts."
    )
    tools = _Tools(worker, limits)
    for tool in (tools.generate, tools.walk, tools.grid):
        server.tool(structured_output=False)(_with_reasons(tool))
    return server


def _with_reasons(tool: Callable[..., Awaitable[list[Any]]]) -> Callable[..., Awaitable[list[Any]]]:
    """A tool whose errors of ours reach the assistant in words; of any other it is told only that there was one."""

    @functools.wraps(tool)
    async def call(*args: Any, **kwargs: Any) -> list[Any]:
        try:
            return await tool(*args, **kwargs)
        except GalipError as error:
            raise ToolError(str(error)) from error

    return call


class _Tools:
    """The tools; their docstrings and arguments are what an assistant is told."""

    def __init__(self, worker: ModelWorker, limits: Limits) -> None:
        self._worker, self._limits = worker, limits

    async def generate(
        self,
        prompt: Prompt,
        n: Annotated[int, Field(ge=1, description="Number of images.")] = 1,
        seed: Seed | None = None,
        size: Size = None,
        truncation: Truncation = 1.0,
    ) -> list[Any]:
        """Generate images from a prompt, in one step each. Says the seeds, with which they can be made again."""
        _at_most("n", n, self._limits.images)
        first = secrets.randbelow(_RANDOM_SEEDS) if seed is None else seed
        sides = self._sides(size)
        words = _cleaned("prompt", prompt)
        requests = [ImageRequest((WeightedPrompt(words, first + number),), truncation, sides) for number in range(n)]
        images = await self._images(requests)
        seeds = ", ".join(str(first + number) for number in range(n))
        return [*(ImageContent(data=image.data, format="png") for image in images), f"prompt: {words}; seeds: {seeds}"]

    async def walk(
        self,
        prompts: Annotated[list[Prompt], Field(min_length=2, description="What the walk leads through, in order.")],
        seeds: Annotated[list[Seed] | None, Field(description="One for each prompt, or one for all.")] = None,
        frames: Annotated[int, Field(ge=1, description="From each prompt to the next.")] = 12,
        fps: Annotated[float, Field(gt=0, le=50, description="Frames per second.")] = 12.0,
        loop: Annotated[bool, Field(description="Lead back to the first prompt.")] = True,
        size: Size = None,
    ) -> list[Any]:
        """Generate an animation (GIF) that turns the image of one prompt into that of the next."""
        words = [_cleaned(f"prompts.{number}", prompt) for number, prompt in enumerate(prompts)]
        numbers = [secrets.randbelow(_RANDOM_SEEDS)] if seeds is None else seeds
        numbers = numbers * len(words) if len(numbers) == 1 else numbers
        if len(numbers) != len(words):
            raise InputError(f"{len(words)} prompts and {len(numbers)} seeds: give one for each, or one for all")
        count = num_frames(len(words), frames, loop)
        _at_most("frames in all", count, self._limits.frames)
        keyframes = [WeightedPrompt(prompt, seed) for prompt, seed in zip(words, numbers, strict=True)]
        sides = self._sides(size)
        side = self._worker.info.image_size if sides is None else sides[0]
        requests = list(frame_requests(keyframes, frames, loop, "linear", 1.0, side, "rgb"))
        images = await self._images(requests)
        data = await asyncio.to_thread(_animate, images, fps)
        told = "; ".join(f"{prompt} (seed {seed})" for prompt, seed in zip(words, numbers, strict=True))
        return [ImageContent(data=data, format="gif"), f"{count} frames: {told}"]

    async def grid(
        self,
        prompts: Annotated[Prompts, Field(description="One row for each.")],
        seeds: Annotated[list[Seed], Field(min_length=1, description="One column for each.")],
        truncation: Truncation = 1.0,
    ) -> list[Any]:
        """Generate a labelled grid, prompts by seeds, as one image: for comparing."""
        _at_most("images", len(prompts) * len(seeds), self._limits.images)
        words = [_cleaned(f"prompts.{number}", prompt) for number, prompt in enumerate(prompts)]
        requests = [
            ImageRequest((WeightedPrompt(prompt, seed),), truncation, format="rgb")
            for prompt in words
            for seed in seeds
        ]
        images = [_opened(image) for image in await self._images(requests)]
        side = sheet_side(self._worker.info.image_size, len(seeds), len(words))
        sheet = labelled_grid(images, [f"seed {seed}" for seed in seeds], words, side=side)
        file = BytesIO()
        sheet.save(file, "PNG")
        return [ImageContent(data=file.getvalue(), format="png"), f"rows: {', '.join(words)}; columns: seeds {seeds}"]

    async def _images(self, requests: Sequence[ImageRequest]) -> list[EncodedImage]:
        """Generate beside the event loop, a batch at a time."""
        images: list[EncodedImage] = []
        for start in range(0, len(requests), self._worker.batch_size):
            batch = requests[start : start + self._worker.batch_size]
            for result in await asyncio.to_thread(self._worker.generate, batch):
                if isinstance(result, GalipError):
                    raise result
                images.append(result)
        return images

    def _sides(self, size: int | None) -> tuple[int, int] | None:
        own = self._worker.info.image_size
        if size is None or size == own:
            return None
        if not own <= size <= max(own, self._limits.size):
            raise InputError(f"size {size}: give {own} to {max(own, self._limits.size)} pixels")
        return size, size


def _animate(images: Sequence[EncodedImage], fps: float) -> bytes:
    with TemporaryDirectory(prefix="galip-walk-") as folder:
        path = Path(folder) / "walk.gif"
        with writing(path, fps) as video:
            for image in images:
                video.write(_opened(image))
        return path.read_bytes()


def _opened(image: EncodedImage) -> Image.Image:
    return Image.frombytes("RGB", (image.width, image.height), image.data)


def _cleaned(name: str, prompt: str) -> str:
    try:
        return clean_caption(prompt)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def _at_most(name: str, value: int, limit: int) -> None:
    if value > limit:
        raise InputError(f"{name}: {value} are asked for, and at most {limit} are generated")
