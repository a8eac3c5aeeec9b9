"""Backend: what runs a model's networks, behind numpy arrays; and what it can be asked for beyond generating."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from galip.utils.arrays import FloatArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class ModelSizes:
    """What a model takes and gives.

    Attributes:
        z_dim: length of the noise z.
        cond_dim: length of a sentence vector e.
        num_stages: stages of the generator that may have a sentence vector of their own.
        image_size: side of its images in pixels (S).
        image_channels: 3 for RGB, 4 where the model generates an alpha channel too (C).
    """

    z_dim: int
    cond_dim: int
    num_stages: int
    image_size: int
    image_channels: int = 3


class Gradients(Protocol):
    """A model's networks as differentiable functions of torch tensors; only torch backends have them.

    Attributes:
        device: where tensors have to be.
        dtype: of the weights. In half precision small gradients are lost.
    """

    @property
    def device(self) -> torch.device: ...
    @property
    def dtype(self) -> torch.dtype: ...

    def generate(self, z: Tensor, e: Tensor) -> Tensor:
        """Images [B, C, S, S] in about [-1, 1], fp32, not clamped; arguments as for `Backend.generate`."""

    def embed_images(self, images: Tensor) -> Tensor:
        """The model's own CLIP's vectors [B, D], not normalised, of images [B, 3, S, S] in [-1, 1]."""


class Backend(Protocol):
    """Runs a model's networks. It may be called from several threads, which then take turns.

    Attributes:
        name: the engine: "onnxruntime", "openvino", "torch" or "compile".
        device: where it computes, in torch's words: "cpu", "cuda:0", ...
        precision: what the generator computes in: "fp32", "bf16", "fp16" or "int8" ("fp64" with torch's doubles).
        sizes: of the model.
        text_encoder: which kind reads prompts; None where the model has none, and only sentence vectors can be given.
        has_image_encoder: whether `embed_images` can be called.
        gradients: the networks as differentiable functions; None without torch.
        not_finite_hint: what to do about images that hold numbers that are not finite, for the end of a message.
    """

    @property
    def name(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def precision(self) -> str: ...
    @property
    def sizes(self) -> ModelSizes: ...
    @property
    def text_encoder(self) -> Literal["clip", "t5"] | None: ...
    @property
    def has_image_encoder(self) -> bool: ...
    @property
    def gradients(self) -> Gradients | None: ...
    @property
    def not_finite_hint(self) -> str: ...

    def encode(self, prompts: Sequence[str]) -> FloatArray:
        """Sentence vectors [N, cond_dim] of N cleaned prompts, not normalised.

        A prompt that is too long is truncated with a `UserWarning` that names it. Called only where `text_encoder` is
        not None.
        """

    def generate(self, z: FloatArray, e: FloatArray) -> FloatArray:
        """Images of noise and sentence vectors.

        Args:
            z: [B, z_dim].
            e: [B, cond_dim], or one for each stage of the generator, [B, num_stages, cond_dim].

        Returns:
            [B, C, S, S] in about [-1, 1], not clamped.
        """

    def embed_images(self, images: FloatArray) -> FloatArray:
        """Vectors [B, D] of images [B, 3, S, S] in [-1, 1] in the model's own CLIP, not normalised.

        Called only where `has_image_encoder`. Where `text_encoder` is "clip", `encode` gives the same CLIP's vectors
        of prompts.
        """


def compares_prompts(backend: Backend) -> bool:
    """Whether the model's own CLIP can say how near an image is to a prompt: both of its sides are there."""
    return backend.has_image_encoder and backend.text_encoder == "clip"
