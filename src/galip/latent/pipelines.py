"""The pipelines of all engines seen alike: numpy's noise and sentence vectors in, pictures out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from galip.generation.backend import ModelSizes
from galip.generation.inputs import check_vector as check_vector
from galip.generation.output import OutputType as OutputType
from galip.generation.pipeline import TextToImage
from galip.utils.arrays import FloatArray

Array = FloatArray
Drawing = TextToImage


def sizes(pipe: TextToImage) -> ModelSizes:
    """The sizes of a pipeline's model."""
    return pipe.sizes


def embed(pipe: TextToImage, captions: str | Sequence[str]) -> Array:
    """Sentence vectors of captions, not normalised; see `TextToImage.embed`."""
    return pipe.embed(captions)


def draw(pipe: TextToImage, z: Array, e: Array, *args: Any, **kwargs: Any) -> Any:
    """The images of noise and sentence vectors; see `TextToImage.generate`."""
    return pipe.generate(z, e, *args, **kwargs)


def draw_each(pipe: TextToImage, points: Iterable[tuple[Array, Array]], *args: Any, **kwargs: Any) -> Iterator[Any]:
    """The images of pairs of z and e; see `TextToImage.generate_each`."""
    return pipe.generate_each(points, *args, **kwargs)
