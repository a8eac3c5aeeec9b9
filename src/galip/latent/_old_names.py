"""What version 0.1 called by other names: functions of a pipeline that are now its methods."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from galip.generation.backend import ModelSizes
from galip.generation.pipeline import TextToImage
from galip.utils.arrays import FloatArray


def sizes(pipe: TextToImage) -> ModelSizes:
    """`pipe.sizes`."""
    return pipe.sizes


def embed(pipe: TextToImage, captions: str | Sequence[str]) -> FloatArray:
    """`pipe.embed`."""
    return pipe.embed(captions)


def draw(pipe: TextToImage, z: FloatArray, e: FloatArray, *args: Any, **kwargs: Any) -> Any:
    """`pipe.generate`."""
    return pipe.generate(z, e, *args, **kwargs)


def draw_each(pipe: TextToImage, points: Iterable[tuple[FloatArray, FloatArray]], *args: Any) -> Iterator[Any]:
    """`pipe.generate_each`."""
    return pipe.generate_each(points, *args)
