"""Drawing that can be differentiated, and what keeps noise and sentence vectors plausible while they are moved.

In many dimensions a normal vector is known by its length: z ~ N(0, I) of d numbers has length sqrt(d), give or take
0.7. A generator has never seen noise of another length, nor a sentence vector that no caption has; what is optimised is
kept near both (Menon et al., "PULSE", CVPR 2020, search on that sphere).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from galip.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from galip.torch_backend.pipeline import GALIPPipeline

_SPREAD = math.sqrt(0.5)
"""Standard deviation of a normal vector's length, whatever its dimension (but for a very small one)."""


def differentiable(pipe: Any) -> GALIPPipeline:
    """The pipeline, which must be torch's and in fp32.

    Raises:
        InputError: it is an exported model, which has no gradients, or in half precision, which loses small ones.
    """
    import torch

    if not hasattr(pipe, "generator"):
        raise InputError(
            "an exported model only draws; to move noise by gradients load the model with engine='torch' (from the "
            "folder that it was exported from)"
        )
    if pipe.generator.dtype not in (torch.float32, torch.float64):
        raise InputError(
            f"the weights are {pipe.generator.dtype}, in which small gradients are lost: load the model with "
            "dtype='float32'"
        )
    found: GALIPPipeline = pipe
    return found


def paint(pipe: GALIPPipeline, z: Tensor, e: Tensor) -> Tensor:
    """Pictures [B, 3, S, S] in about [-1, 1], not clamped, with gradients to `z` and `e`."""
    out: Tensor = pipe.generator(z, e, pipe.vision)
    return out.float()


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
    most = math.radians(degrees)
    angle = torch.atan2(aside.norm(dim=-1, keepdim=True), along)
    turned = length * (axis * math.cos(most) + to_length(aside, torch.ones_like(length)) * math.sin(most))
    return torch.where(angle > most, turned, vectors)


def degrees_between(a: Tensor, b: Tensor) -> Tensor:
    """Angles [...] between vectors [..., D], in degrees."""
    import torch

    # Not the arc cosine, which loses half of the digits where the angle is small.
    one, two = to_length(a, torch.ones_like(a[..., :1])), to_length(b, torch.ones_like(b[..., :1]))
    return torch.rad2deg(2 * torch.atan2((one - two).norm(dim=-1), (one + two).norm(dim=-1)))
