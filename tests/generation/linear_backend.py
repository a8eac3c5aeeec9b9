"""The smallest backend that there can be: images and vectors are linear in what they are made of. numpy alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from galip.generation.backend import ModelSizes
from galip.utils.arrays import FloatArray


class LinearBackend:
    """See `galip.generation.backend.Backend`.

    Args:
        channels: of its images.
        text_encoder: which kind it says to have.
        has_image_encoder: whether it can look at images.
    """

    name, device, precision, gradients = "linear", "cpu", "fp32", None
    not_finite_hint = "mend the matrices"

    def __init__(
        self,
        channels: int = 3,
        text_encoder: Literal["clip", "t5"] | None = "clip",
        has_image_encoder: bool = True,
    ) -> None:
        self.sizes = ModelSizes(z_dim=6, cond_dim=5, num_stages=3, image_size=4, image_channels=channels)
        self.text_encoder, self.has_image_encoder = text_encoder, has_image_encoder
        random = np.random.Generator(np.random.Philox(key=0))
        pixels = channels * 16
        self.of_noise = random.normal(size=(6, pixels)).astype(np.float32) * 0.2
        self.of_sentences = random.normal(size=(15, pixels)).astype(np.float32) * 0.2
        self.of_images = random.normal(size=(48, 5)).astype(np.float32)
        self.encoded: list[str] = []
        self.batches: list[int] = []

    def encode(self, prompts: Sequence[str]) -> FloatArray:
        """Sentence vectors [N, 5] that depend on each prompt alone."""
        self.encoded += prompts
        keys = [int.from_bytes(prompt.encode(), "big") % 2**64 for prompt in prompts]
        return np.stack([np.random.Generator(np.random.Philox(key=key)).normal(size=5) for key in keys]).astype(
            np.float32
        )

    def generate(self, z: FloatArray, e: FloatArray) -> FloatArray:
        """Images [B, C, 4, 4]."""
        self.batches.append(len(z))
        stages = np.repeat(e[:, None], 3, axis=1) if e.ndim == 2 else e
        flat = [
            one @ self.of_noise + other.reshape(-1) @ self.of_sentences for one, other in zip(z, stages, strict=True)
        ]
        return np.stack(flat).reshape(len(z), -1, 4, 4)

    def embed_images(self, images: FloatArray) -> FloatArray:
        """Vectors [B, 5] of images [B, 3, 4, 4]."""
        assert self.has_image_encoder
        return np.stack([image.reshape(-1) @ self.of_images for image in images])
