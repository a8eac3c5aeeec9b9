"""The pipelines of all engines seen alike: numpy's noise and sentence vectors in, pictures out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from galip.errors import InputError
from galip.generation import inputs
from galip.generation.inputs import BATCH_SIZE
from galip.generation.output import GALIPPipelineOutput

Array = NDArray[np.float32]
OutputType = Literal["pil", "np"]


class Drawing(Protocol):
    """What is asked of a pipeline: torch's `GALIPPipeline` and the engines' `EnginePipeline` have it alike."""

    def encode_prompt(self, prompt: Sequence[str]) -> Any:
        """Sentence vectors [N, cond_dim] of captions."""

    def stream(
        self,
        prompt: Any = None,
        num_images_per_prompt: int = 1,
        seed: Any = None,
        generator: None = None,
        latents: Any = None,
        prompt_embeds: Any = None,
        truncation: float = 1.0,
        batch_size: int = BATCH_SIZE,
        output_type: Any = "pil",
    ) -> Iterator[GALIPPipelineOutput]:
        """Pictures of captions and seeds, or of noise and sentence vectors, batch by batch."""


@dataclass(frozen=True)
class Sizes:
    """What a pipeline's model takes and gives.

    Attributes:
        z_dim: length of the noise z.
        cond_dim: length of a sentence vector e.
        num_stages: stages of the generator that may have a sentence vector of their own.
        side: of its pictures, in pixels.
    """

    z_dim: int
    cond_dim: int
    num_stages: int
    side: int


def sizes(pipe: Drawing) -> Sizes:
    """The sizes of a pipeline's model."""
    manifest = getattr(pipe, "manifest", None)
    found: Any = manifest if manifest is not None else pipe.generator  # type: ignore[attr-defined]
    return Sizes(found.z_dim, found.cond_dim, found.num_stages, found.image_size)


def embed(pipe: Drawing, captions: str | Sequence[str]) -> Array:
    """Sentence vectors of captions, not normalised.

    Args:
        pipe: a pipeline of any engine.
        captions: one or N of them.

    Returns:
        float32 [N, cond_dim].

    Raises:
        InputError: a caption is empty or no text, or the model has no text encoder.
    """
    vectors = pipe.encode_prompt(inputs.clean_prompts(captions))
    if not isinstance(vectors, np.ndarray):
        vectors = vectors.detach().float().cpu().numpy()
    return np.asarray(vectors, np.float32)


def draw(
    pipe: Drawing,
    z: Array,
    e: Array,
    truncation: float = 1.0,
    batch_size: int = BATCH_SIZE,
    output_type: OutputType = "pil",
) -> Any:
    """Draw the pictures of noise and sentence vectors.

    Args:
        pipe: a pipeline of any engine.
        z: noise [N, z_dim].
        e: sentence vectors [N, cond_dim], or one for each stage of the generator, [N, num_stages, cond_dim].
        truncation: multiplies z.
        batch_size: pictures drawn at once. It changes speed and memory, not pictures.
        output_type: "pil" for a list of PIL images, "np" for floats [N, S, S, 3] in [0, 1].

    Raises:
        InputError: z or e has a wrong shape or holds numbers that are not finite.
        GalipError: the generator made numbers that are not finite.
    """
    inputs.check_output_type(output_type, ("pil", "np"))
    z, e = np.asarray(z, np.float32), np.asarray(e, np.float32)
    latents, embeds = (z, e) if hasattr(pipe, "manifest") else _tensors(z, e)
    batches = pipe.stream(
        latents=latents,
        prompt_embeds=embeds,
        truncation=truncation,
        batch_size=batch_size,
        output_type=output_type,
    )
    if output_type == "np":
        return np.concatenate([batch.images for batch in batches])
    return [image for batch in batches for image in batch.images]


def draw_each(
    pipe: Drawing,
    points: Iterable[tuple[Array, Array]],
    truncation: float = 1.0,
    batch_size: int = BATCH_SIZE,
    output_type: OutputType = "pil",
) -> Iterator[Any]:
    """`draw` for pairs of z [z_dim] and e that are made while they are drawn: one batch at a time is in memory.

    Returns:
        An iterator over the pictures, one by one: PIL images or floats [S, S, 3].
    """
    count = inputs.positive_int("batch_size", batch_size)
    coming = iter(points)
    while batch := list(islice(coming, count)):
        z, e = np.stack([z for z, _ in batch]), np.stack([e for _, e in batch])
        yield from draw(pipe, z, e, truncation, count, output_type)


def check_vector(name: str, value: Any, *shapes: tuple[int, ...]) -> Array:
    """A finite array of one of these shapes, as float32.

    Raises:
        InputError: it is none; the message names the argument.
    """
    array = np.asarray(value)
    if array.shape not in shapes:
        expected = " or ".join(str(list(shape)) for shape in shapes)
        raise InputError(f"{name} has shape {list(array.shape)}: {expected} is needed")
    if not np.issubdtype(array.dtype, np.floating) or not np.isfinite(array).all():
        raise InputError(f"{name} must hold finite floating-point numbers")
    return array.astype(np.float32)


def _tensors(z: Array, e: Array) -> tuple[Any, Any]:
    import torch

    # Copies: torch warns of arrays that it may not write to, which broadcast ones are.
    return torch.from_numpy(z.copy()), torch.from_numpy(e.copy())
