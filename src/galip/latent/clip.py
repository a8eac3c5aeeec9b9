"""The CLIP that says how near an image is to a prompt: the model's own, on every engine, or another one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from galip._deprecated import renamed
from galip.errors import InputError
from galip.generation.backend import Backend, compares_prompts
from galip.generation.pipeline import TextToImage
from galip.model_repo.export_folder import is_export
from galip.model_repo.index import read_index
from galip.model_repo.resolve import fetch
from galip.utils.arrays import FloatArray

if TYPE_CHECKING:
    from torch import Tensor

    from galip.torch_backend.clip import CLIP


class Scorer(Protocol):
    """Both sides of a CLIP behind numpy arrays; `galip.torch_backend.clip.CLIP` is one.

    Attributes:
        name: what is told of it with a result.
    """

    name: str

    @property
    def gradient_embed(self) -> Callable[[Tensor], Tensor] | None:
        """`image_vectors` of torch's tensors, with gradients to the images; None without torch."""

    def image_vectors(self, images: FloatArray) -> FloatArray:
        """Vectors [B, D], not normalised, of images [B, 3, S, S] in [-1, 1]."""

    def prompt_vectors(self, prompts: Sequence[str]) -> FloatArray:
        """Vectors [N, D], not normalised, of cleaned prompts."""


class OwnCLIP:
    """The CLIP that a model is made with: its sentence vectors are one side, what its generator looks through is the
    other.

    Args:
        backend: of the model.

    Raises:
        InputError: the model has no such CLIP; see `compares_prompts`.
    """

    name = "the model's own"

    def __init__(self, backend: Backend) -> None:
        if backend.text_encoder == "t5":
            raise InputError("this model reads prompts with a T5, which cannot see images: name a CLIP that is to look")
        if not compares_prompts(backend):
            raise InputError(
                "this model has no CLIP of its own that sees images and reads prompts: name a CLIP, for an exported "
                "model the one that it was exported from"
            )
        self._backend = backend

    @property
    def gradient_embed(self) -> Callable[[Tensor], Tensor] | None:
        """`image_vectors` of torch's tensors, with gradients to the images; None without torch."""
        gradients = self._backend.gradients
        return None if gradients is None else gradients.embed_images

    def image_vectors(self, images: FloatArray) -> FloatArray:
        """Vectors [B, D], not normalised, of images [B, 3, S, S] in [-1, 1]."""
        return self._backend.embed_images(images)

    def prompt_vectors(self, prompts: Sequence[str]) -> FloatArray:
        """Vectors [N, D], not normalised, of cleaned prompts."""
        return self._backend.encode(prompts)


def scorer_for(pipe: TextToImage, clip: Scorer | str | Path | None = None, model: str | Path | None = None) -> Scorer:
    """The CLIP that a caller means.

    Args:
        pipe: a pipeline of any engine.
        clip: one that is open; a bundled model's name, a folder or a hub id, which torch opens on the pipeline's
            device; None: the model's own.
        model: what the pipeline was loaded from: torch opens its own CLIP where the engine has kept no image side.

    Raises:
        InputError: the model has none of its own that can read prompts and see images.
        GalipError: it cannot be loaded, or torch is not installed.
    """
    if clip is None and model is not None and not pipe.backend.has_image_encoder:
        clip = fetch(model)
    if clip is None:
        return OwnCLIP(pipe.backend)
    return open_clip(clip, pipe.backend.device) if isinstance(clip, str | Path) else clip


def open_clip(name: str | Path, device: str = "cpu") -> CLIP:
    """Load a CLIP with torch; see `galip.torch_backend.clip.CLIP.open`.

    Raises:
        GalipError: it cannot be loaded, or torch is not installed.
    """
    from galip.generation.select import require_torch

    require_torch(f"--clip {name}")
    from galip.torch_backend.clip import CLIP

    return CLIP.open(name, device)


def has_own_clip(model: str | Path) -> bool:
    """Whether a model, a bundled one's name, a folder or a hub id, can look at its images; nothing is loaded.

    Raises:
        GalipError: there is no such model.
    """
    folder = fetch(model)
    if is_export(folder):
        return False
    return bool(read_index(folder)["text_encoder"][1] == "CLIPTextModelWithProjection")


def unit_image_vectors(scorer: Scorer, images: NDArray[np.floating[Any]]) -> FloatArray:
    """Unit vectors [B, D] of images as pipelines give them, floats [B, H, W, 3] in [0, 1]."""
    channels_first = np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32)
    return _unit(scorer.image_vectors(channels_first * np.float32(2) - np.float32(1)))


def unit_prompt_vectors(scorer: Scorer, prompts: Sequence[str]) -> FloatArray:
    """Unit vectors [N, D] of cleaned prompts."""
    return _unit(scorer.prompt_vectors(prompts))


def _unit(vectors: FloatArray) -> FloatArray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))


def __getattr__(name: str) -> Any:
    return renamed(__name__, name)
