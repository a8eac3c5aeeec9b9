"""Latent refinement: a few gradient steps on the noise that bring the picture nearer to its caption, seen by a CLIP.

The noise moves on the sphere that it lies on, by no more than an angle, so that it stays the normal vector that the
generator was trained with. What the CLIP is pleased by need not please anybody else: a gradient finds its blind spots
too, which is what the angle, and looking at shifted copies of the picture, are against.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from galip.errors import InputError
from galip.generation import inputs
from galip.generation.inputs import BATCH_SIZE
from galip.generation.noise import noise
from galip.generation.output import to_pil
from galip.latent.clip import CLIP, clip_of
from galip.latent.gradients import degrees_between, differentiable, paint, to_length, within_angle

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from galip.torch_backend.pipeline import GALIPPipeline

STEPS = 20

ANGLE = 20.0
"""Degrees. Larger ones please the CLIP that is climbed more, and no other one: see docs/control.md."""

_SHIFT = 1 / 16
"""Of the side: how far the copies that the CLIP looks at are shifted, at most."""


@dataclass(frozen=True)
class Refined:
    """Pictures before and after.

    Attributes:
        captions: N captions, cleaned.
        seeds: the seeds that the noise came from.
        images: the refined pictures.
        z: float32 [N, z_dim], the noise that they are drawn from, with truncation 1.
        e: float32 [N, cond_dim], their sentence vectors.
        scores, start_scores: [N], cosines of picture and caption, after and before.
        angles: [N], degrees by which the noise was turned.
    """

    captions: list[str]
    seeds: list[int]
    images: list[Image]
    z: NDArray[np.float32]
    e: NDArray[np.float32]
    scores: list[float]
    start_scores: list[float]
    angles: list[float]


def refine(
    pipe: Any,
    prompt: str | Sequence[str],
    *,
    seed: int | Sequence[int] | None = None,
    steps: int = STEPS,
    angle: float = ANGLE,
    sentence_angle: float = 0.0,
    clip: CLIP | str | Path | None = None,
    truncation: float = 1.0,
    batch_size: int = BATCH_SIZE,
) -> Refined:
    """Draw one picture of each caption and improve it by gradient steps.

    Each step turns the noise along the gradient of the cosine by the same angle, less and less towards the end. The
    best picture on the way is kept, the first one included: by its own score nothing gets worse.

    Args:
        pipe: a `GALIPPipeline` in fp32.
        prompt: a caption or N of them.
        seed: as in the pipeline's call: one for all captions, or one for each. None: random ones.
        steps: gradient steps; each costs about as much as four pictures.
        angle: how far the noise may be turned, in degrees, above 0 and below 90, where it would have nothing of what it
            was.
        sentence_angle: the same of the sentence vector; 0 leaves it alone.
        clip: the CLIP that is pleased, as for `best_of`.
        truncation: multiplies the noise before it is refined.
        batch_size: pictures refined together. It changes speed and memory alone.

    Raises:
        InputError: an argument is of the wrong kind or out of range, or the pipeline cannot be differentiated.
        GalipError: the CLIP cannot be loaded.
    """
    import torch

    model = differentiable(pipe)
    captions = inputs.clean_prompts(prompt)
    seeds = inputs.seeds_of(seed, len(captions), 1)
    inputs.positive_int("steps", steps)
    inputs.positive_int("batch_size", batch_size)
    scale = inputs.finite("truncation", truncation)
    for name, value, least in (("angle", angle, 0.1), ("sentence_angle", sentence_angle, 0.0)):
        if not least <= inputs.finite(name, value) < 90:
            raise InputError(f"{name} is {value}: give degrees, from {least:g} to less than 90")
    looking = clip_of(pipe, clip)
    parts: list[list[Tensor]] = []
    images: list[Image] = []
    for start in range(0, len(captions), batch_size):
        rows = slice(start, start + batch_size)
        z = torch.from_numpy(noise(seeds[rows], model.generator.z_dim)).to(model.generator.device) * scale
        e = model.encode_prompt(captions[rows]).to(model.generator.device)
        texts = looking.read(captions[rows])
        *numbers, pictures = _climb(model, looking, z, e, texts, steps, (angle, sentence_angle))
        parts.append(numbers)
        images += to_pil(pictures.permute(0, 2, 3, 1).cpu().numpy() * 0.5 + 0.5)  # [B, 3, S, S] -> [B, S, S, 3]
    z, e, scores, first, angles = (torch.cat(column).cpu() for column in zip(*parts, strict=True))
    lists = (scores.tolist(), first.tolist(), angles.tolist())
    return Refined(captions, seeds, images, z.numpy(), e.numpy(), *lists)


def _climb(
    pipe: GALIPPipeline,
    clip: CLIP,
    z: Tensor,
    e: Tensor,
    texts: Tensor,
    steps: int,
    most: tuple[float, float],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(z, e, scores, scores before, angles of z, pictures) of a batch; rows do not touch each other."""
    import torch

    starts = (z, e)
    moving = [degrees > 0 for degrees in most]
    best: list[Tensor] = []
    first = torch.empty(0)
    for step in range(steps + 1):
        points = [point.detach().requires_grad_(moves) for point, moves in zip((z, e), moving, strict=True)]
        with torch.enable_grad():
            pictures = paint(pipe, *points)
            views = [pictures, *_shifted(pictures, step)]
            cosines = torch.stack([(clip.see(view.clamp(-1, 1)) * texts).sum(1) for view in views])
        now = [z, e, cosines[0].detach(), pictures.detach()]
        if step == 0:
            best, first = now, now[2]
        better = now[2] > best[2]
        best = [torch.where(_like(better, new), new, old) for new, old in zip(now, best, strict=True)]
        if step == steps:
            break
        wanted = [point for point, moves in zip(points, moving, strict=True) if moves]
        gradients = iter(torch.autograd.grad(cosines.mean(0).sum(), wanted))
        share = 1 - step / steps
        z, e = (
            _turn(point.detach(), next(gradients), start, degrees, share * min(3 / steps, 1.0) * degrees)
            if moves
            else point
            for point, start, degrees, moves in zip((z, e), starts, most, moving, strict=True)
        )
    z, e, scores, pictures = best
    return z, e, scores, first, degrees_between(z, starts[0]), pictures


def _turn(point: Tensor, gradient: Tensor, start: Tensor, most: float, step: float) -> Tensor:
    """Turn vectors [B, D] uphill by `step` degrees on their sphere, and back to within `most` of where they began."""
    length = point.norm(dim=-1, keepdim=True)
    axis = point / length.clamp_min(1e-12)
    uphill = gradient - (gradient * axis).sum(-1, keepdim=True) * axis
    # No gradient, no direction: such a row stays where it is.
    uphill = uphill / uphill.norm(dim=-1, keepdim=True).clamp_min(1e-20)
    moved = length * (axis * math.cos(math.radians(step)) + uphill * math.sin(math.radians(step)))
    return within_angle(to_length(moved, length), start, most)


def _shifted(pictures: Tensor, step: int) -> list[Tensor]:
    """Two copies of the pictures, shifted by a few pixels that depend on the step alone; borders are repeated."""
    from torch.nn.functional import pad

    side = pictures.shape[-1]
    reach = max(1, round(side * _SHIFT))
    padded = pad(pictures, [reach] * 4, mode="replicate")
    corners = np.random.Generator(np.random.Philox(key=step)).integers(0, 2 * reach + 1, (2, 2)).tolist()
    return [padded[:, :, top : top + side, left : left + side] for top, left in corners]


def _like(rows: Tensor, tensor: Tensor) -> Tensor:
    """A flag [B] for each row of a tensor, to be used with all of it."""
    return rows.view(-1, *[1] * (tensor.ndim - 1))
