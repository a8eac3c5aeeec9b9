"""Latent refinement: a few gradient steps on the noise that bring the image nearer to its prompt, seen by a CLIP.

The noise moves on the sphere that it lies on, by no more than an angle, so that it stays the normal vector that the
generator was trained with. What the CLIP is pleased by need not please anybody else: a gradient finds its blind spots
too, which is what the angle, and looking at shifted copies of the image, are against.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from galip.errors import InputError
from galip.generation import inputs
from galip.generation.inputs import BATCH_SIZE
from galip.generation.noise import noise
from galip.generation.output import to_pil
from galip.generation.pipeline import TextToImage
from galip.latent.clip import Scorer
from galip.latent.gradients import Differentiable, degrees_between, to_length, within_angle
from galip.utils.arrays import FloatArray

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

STEPS = 20

ANGLE = 20.0
"""Degrees. Larger ones please the CLIP that is climbed more, and no other one: see docs/control.md."""

_SHIFT = 1 / 16
"""Of the side: how far the copies that the CLIP looks at are shifted, at most."""


@dataclass(frozen=True)
class Refined:
    """Images before and after.

    Attributes:
        prompts: N prompts, cleaned.
        seeds: the seeds that the noise came from.
        images: the refined images.
        z: float32 [N, z_dim], the noise that they are generated from, with truncation 1.
        e: float32 [N, cond_dim], their sentence vectors.
        scores, start_scores: [N], cosines of image and prompt, after and before.
        angles: [N], degrees by which the noise was turned.
    """

    prompts: list[str]
    seeds: list[int]
    images: list[Image]
    z: FloatArray
    e: FloatArray
    scores: list[float]
    start_scores: list[float]
    angles: list[float]


def refine(
    pipe: TextToImage,
    prompt: str | Sequence[str],
    *,
    seed: int | Sequence[int] | None = None,
    steps: int = STEPS,
    angle: float = ANGLE,
    sentence_angle: float = 0.0,
    clip: Scorer | str | Path | None = None,
    truncation: float = 1.0,
    batch_size: int = BATCH_SIZE,
) -> Refined:
    """Generate one image of each prompt and improve it by gradient steps.

    Each step turns the noise along the gradient of the cosine by the same angle, less and less towards the end. The
    best image on the way is kept, the first one included: by its own score nothing gets worse.

    Args:
        pipe: a pipeline of torch's, in fp32.
        prompt: a prompt or N of them.
        seed: as in the pipeline's call: one for all prompts, or one for each. None: random ones.
        steps: gradient steps; each costs about as much as four images.
        angle: how far the noise may be turned, in degrees, above 0 and below 90, where it would have nothing of what it
            was.
        sentence_angle: the same of the sentence vector; 0 leaves it alone.
        clip: the CLIP that is pleased, as for `best_of`.
        truncation: multiplies the noise before it is refined.
        batch_size: images refined together. It changes speed and memory alone.

    Raises:
        InputError: an argument is of the wrong kind or out of range, or the engine has no gradients.
        GalipError: the CLIP cannot be loaded.
    """
    import torch

    model = Differentiable(pipe, clip)
    prompts = inputs.clean_prompts(prompt)
    seeds = inputs.seeds_of(seed, len(prompts), 1)
    inputs.positive_int("steps", steps)
    inputs.positive_int("batch_size", batch_size)
    scale = inputs.truncation_factor(truncation)
    for name, value, low in (("angle", angle, 0.1), ("sentence_angle", sentence_angle, 0.0)):
        if not low <= inputs.finite(name, value) < 90:
            raise InputError(f"{name} is {value}: give degrees, from {low:g} to less than 90")
    parts: list[list[Tensor]] = []
    images: list[Image] = []
    for start in range(0, len(prompts), batch_size):
        rows = slice(start, start + batch_size)
        z = torch.from_numpy(noise(seeds[rows], model.sizes.z_dim)).to(model.device) * scale
        e = torch.from_numpy(pipe.embed(prompts[rows])).to(model.device)
        texts = model.prompt_vectors(prompts[rows])
        *numbers, refined = _climb(model, z, e, texts, steps, (angle, sentence_angle))
        parts.append(numbers)
        images += to_pil(refined.permute(0, 2, 3, 1).cpu().numpy() * 0.5 + 0.5)  # [B, 3, S, S] -> [B, S, S, 3]
    z, e, scores, first, angles = (torch.cat(column).cpu() for column in zip(*parts, strict=True))
    lists = (scores.tolist(), first.tolist(), angles.tolist())
    return Refined(prompts, seeds, images, z.numpy(), e.numpy(), *lists)


def _climb(
    model: Differentiable,
    z: Tensor,
    e: Tensor,
    texts: Tensor,
    steps: int,
    max_degrees: tuple[float, float],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(z, e, scores, scores before, angles of z, images) of a batch; rows do not touch each other."""
    import torch

    starts = (z, e)
    moving = [degrees > 0 for degrees in max_degrees]
    best: list[Tensor] = []
    first = torch.empty(0)
    for step in range(steps + 1):
        points = [point.detach().requires_grad_(moves) for point, moves in zip((z, e), moving, strict=True)]
        with torch.enable_grad():
            images = model.generate(*points)
            views = [images, *_shifted(images, step)]
            cosines = torch.stack([(model.image_vectors(view.clamp(-1, 1)) * texts).sum(1) for view in views])
        now = [z, e, cosines[0].detach(), images.detach()]
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
            for point, start, degrees, moves in zip((z, e), starts, max_degrees, moving, strict=True)
        )
    z, e, scores, images = best
    return z, e, scores, first, degrees_between(z, starts[0]), images


def _turn(point: Tensor, gradient: Tensor, start: Tensor, max_degrees: float, step: float) -> Tensor:
    """Turn vectors [B, D] uphill by `step` degrees on their sphere, and back to `max_degrees` from where they began."""
    length = point.norm(dim=-1, keepdim=True)
    axis = point / length.clamp_min(1e-12)
    uphill = gradient - (gradient * axis).sum(-1, keepdim=True) * axis
    # No gradient, no direction: such a row stays where it is.
    uphill = uphill / uphill.norm(dim=-1, keepdim=True).clamp_min(1e-20)
    moved = length * (axis * math.cos(math.radians(step)) + uphill * math.sin(math.radians(step)))
    return within_angle(to_length(moved, length), start, max_degrees)


def _shifted(images: Tensor, step: int) -> list[Tensor]:
    """Two copies of the images, shifted by a few pixels that depend on the step alone; borders are repeated."""
    from torch.nn.functional import pad

    side = images.shape[-1]
    reach = max(1, round(side * _SHIFT))
    padded = pad(images, [reach] * 4, mode="replicate")
    corners = np.random.Generator(np.random.Philox(key=step)).integers(0, 2 * reach + 1, (2, 2)).tolist()
    return [padded[:, :, top : top + side, left : left + side] for top, left in corners]


def _like(rows: Tensor, tensor: Tensor) -> Tensor:
    """A flag [B] for each row of a tensor, to be used with all of it."""
    return rows.view(-1, *[1] * (tensor.ndim - 1))
