"""Generating that can be differentiated, and what keeps noise and sentence vectors plausible while they are moved.

In many dimensions a normal vector is known by its length: z ~ N(0, I) of d numbers has length sqrt(d), give or take
0.7. A generator has never seen noise of another length, nor a sentence vector that no prompt has; what is optimised is
kept near both (Menon et al., "PULSE", CVPR 2020, search on that sphere).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from galip.errors import InputError
from galip.generation.output import WITH_ALPHA, on_background
from galip.generation.pipeline import TextToImage
from galip.latent.clip import Scorer, scorer_for

if TYPE_CHECKING:
    from torch import Tensor

_SPREAD = math.sqrt(0.5)
"""Standard deviation of a normal vector's length, whatever its dimension (but for a very small one)."""


class Differentiable:
    """A model as gradients go through it: images and their CLIP vectors as functions of noise and sentence vectors.

    Args:
        pipe: a pipeline of torch's, in fp32.
        clip: what looks at the images: an open CLIP, a model's name, a folder or a hub id; None: the model's own.

    Attributes:
        sizes: of the model.
        device: where tensors have to be.

    Raises:
        InputError: the engine has no gradients, or the weights are in half precision, which loses small ones; or the
            model has no CLIP of its own.
        GalipError: the CLIP cannot be loaded.
    """

    def __init__(self, pipe: TextToImage, clip: Scorer | str | Path | None = None) -> None:
        import torch

        if pipe.backend.gradients is None:
            raise InputError(
                f"engine {pipe.backend.name} only generates; to move noise by gradients load the model with "
                "engine='torch' (an exported model has none: give the one that it was exported from)"
            )
        self._gradients = pipe.backend.gradients
        if self._gradients.dtype not in (torch.float32, torch.float64):
            raise InputError(
                f"the weights are {self._gradients.dtype}, in which small gradients are lost: load the model with "
                "dtype='float32'"
            )
        self.sizes, self.device = pipe.sizes, self._gradients.device
        self._scorer = scorer_for(pipe, clip)
        if self._scorer.gradient_embed is None:
            raise InputError(f"clip {self._scorer.name} has no gradients: name one that torch can open")
        self._embed = self._scorer.gradient_embed

    def generate(self, z: Tensor, e: Tensor) -> Tensor:
        """Images [B, 3, S, S] in about [-1, 1], not clamped, laid on white where the model has an alpha channel."""
        images = self._gradients.generate(z, e)
        if images.shape[1] == WITH_ALPHA:
            images = on_background(images * 0.5 + 0.5, "white") * 2 - 1
        return images

    def image_vectors(self, images: Tensor) -> Tensor:
        """Unit vectors [B, D] of images [B, 3, S, S] in [-1, 1]; gradients flow back to them."""
        from torch.nn.functional import normalize

        return normalize(self._embed(images), dim=1).to(self.device)

    def prompt_vectors(self, prompts: Sequence[str]) -> Tensor:
        """Unit vectors [N, D] of cleaned prompts, without gradient."""
        import torch
        from torch.nn.functional import normalize

        return normalize(torch.from_numpy(self._scorer.prompt_vectors(prompts)).to(self.device), dim=1)


def to_length(vectors: Tensor, length: Tensor) -> Tensor:
    """Vectors [..., D] scaled to `length` [..., 1]."""
    return vectors * (length / vectors.norm(dim=-1, keepdim=True).clamp_min(1e-12))


def to_plausible_length(z: Tensor, deviations: float = 3.0) -> Tensor:
    """Noise [B, D] whose length a normal vector has within so many standard deviations; what has it is left alone."""
    typical = math.sqrt(z.shape[-1])
    length = z.norm(dim=-1, keepdim=True)
    return to_length(z, length.clamp(max(typical - deviations * _SPREAD, 0.0), typical + deviations * _SPREAD))


def within_angle(vectors: Tensor, start: Tensor, degrees: float) -> Tensor:
    """Vectors [..., D] turned back to at most so many degrees from `start`, their lengths kept."""
    import torch

    length = vectors.norm(dim=-1, keepdim=True)
    axis = to_length(start, torch.ones_like(length))
    along = (vectors * axis).sum(-1, keepdim=True)
    aside = vectors - along * axis
    bound = math.radians(degrees)
    angle = torch.atan2(aside.norm(dim=-1, keepdim=True), along)
    turned = length * (axis * math.cos(bound) + to_length(aside, torch.ones_like(length)) * math.sin(bound))
    return torch.where(angle > bound, turned, vectors)


def degrees_between(a: Tensor, b: Tensor) -> Tensor:
    """Angles [...] between vectors [..., D], in degrees."""
    import torch

    # Not the arc cosine, which loses half of the digits where the angle is small.
    one, two = to_length(a, torch.ones_like(a[..., :1])), to_length(b, torch.ones_like(b[..., :1]))
    return torch.rad2deg(2 * torch.atan2((one - two).norm(dim=-1), (one + two).norm(dim=-1)))
