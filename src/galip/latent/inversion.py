"""Inversion: the noise z and the sentence vector e that draw a picture most like a given one.

Many starts are drawn and looked at, the best of them are optimised together (Adam on z and e), and the worse half is
given up at a third of the way. The loss compares pixels at several scales, coarse ones too, which still pull where
edges do not overlap yet, and what a CLIP sees. Noise and sentence vector keep plausible lengths
(`galip.latent.gradients`).

A picture that the generator drew comes back. For any other picture the result is what the generator can draw, and how
near that comes is part of the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from galip.errors import GalipError, InputError
from galip.generation import inputs
from galip.generation.noise import check_seed, noise
from galip.generation.output import to_pil, to_uint8
from galip.latent.clip import CLIP, clip_of, own_clip
from galip.latent.gradients import differentiable, paint, to_length, to_plausible_length
from galip.latent.targets import Fit, as_target

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from galip.torch_backend.pipeline import GALIPPipeline

RESTARTS, STEPS, STARTS_LOOKED_AT = 4, 300, 64

CLIP_WEIGHT = 0.2
"""Of one minus the cosine, beside the mean squared errors of pixels in [-1, 1]."""

LENGTH_FREEDOM = 0.3
"""How much the sentence vector may become longer or shorter than it began, as a share."""

PSNR_LIMIT = 100.0
"""dB, said of equal pictures, whose ratio would be infinite."""

_RATE_Z, _RATE_E = 0.06, 0.03
_SCALES = (1, 2, 4, 8)
_GIVEN_UP_AT = 1 / 3

Progress = Callable[[int, int, float], None]
"""Called after every step with steps done, steps in all, and the best loss so far."""


@dataclass(frozen=True)
class Inversion:
    """What was found for a picture.

    Attributes:
        z: float32 [z_dim], the noise, to be drawn with truncation 1.
        e: float32 [cond_dim], the sentence vector; [num_stages, cond_dim] where each stage got its own.
        target: the picture as it was compared, of the generator's side.
        image: the picture that z and e draw.
        psnr: of the two as 8-bit pictures, in dB; 100 where they are equal.
        similarity: the cosine of the two in the CLIP of the loss.
        loss: of the result.
        start_loss, start_psnr: of the best start, before any step.
        caption: the caption that it began with, or None.
        seed: the first seed of the starts.
    """

    z: NDArray[np.float32]
    e: NDArray[np.float32]
    target: Image
    image: Image
    psnr: float
    similarity: float
    loss: float
    start_loss: float
    start_psnr: float
    caption: str | None
    seed: int


def invert(
    pipe: Any,
    picture: Image | str | Path,
    *,
    caption: str | None = None,
    restarts: int = RESTARTS,
    steps: int = STEPS,
    starts: int = STARTS_LOOKED_AT,
    per_stage: bool = False,
    clip: CLIP | str | Path | None = None,
    clip_weight: float = CLIP_WEIGHT,
    fit: Fit = "crop",
    seed: int = 0,
    progress: Progress | None = None,
) -> Inversion:
    """Find the noise and the sentence vector of a picture.

    Args:
        pipe: a `GALIPPipeline` in fp32.
        picture: an image or a file, of any size and mode.
        caption: what it shows: the sentence vector then begins as this caption's, which makes editing easier. None: it
            begins as the picture's own vector in the pipeline's CLIP.
        restarts: how many starts are optimised.
        steps: of the optimisation.
        starts: how many starts are drawn to choose them from, with the seeds s, s + 1, ...
        per_stage: whether each stage of the generator gets a sentence vector of its own. It comes nearer to a picture
            that the generator did not draw, and leaves the captions' world further behind.
        clip: the CLIP of the loss, as for `best_of`.
        clip_weight: how much it counts beside the pixels; 0 leaves it out of the loss.
        fit: what becomes of a picture that is not square; see `as_target`.
        seed: s.
        progress: told of every step.

    Raises:
        InputError: an argument is of the wrong kind or out of range, the pipeline cannot be differentiated, or it
            cannot begin without a caption.
        GalipError: the picture or the CLIP cannot be read.
    """
    import torch

    model = differentiable(pipe)
    for name, value in (("restarts", restarts), ("steps", steps), ("starts", starts)):
        inputs.positive_int(name, value)
    check_seed(check_seed(seed) + max(starts, restarts) - 1)
    if inputs.finite("clip_weight", clip_weight) < 0:
        raise InputError(f"clip_weight is {clip_weight}: give 0 or more")
    words = None if caption is None else inputs.clean_prompts([caption])[0]
    looking = clip_of(pipe, clip)
    target = as_target(picture, model.generator.image_size, fit)
    pixels = torch.from_numpy(np.array(target)).permute(2, 0, 1)[None].to(model.generator.device).float() / 127.5 - 1
    loss = _Loss(model, looking, pixels, clip_weight)
    z, e = _starts(model, loss, pixels, words, seed, max(starts, restarts), restarts, per_stage)
    found = _descend(loss, z, e, steps, progress)
    drawn = found.picture.permute(1, 2, 0).cpu().numpy() * 0.5 + 0.5
    first = found.start.permute(1, 2, 0).cpu().numpy() * 0.5 + 0.5
    with torch.no_grad():
        similarity = float((looking.see(found.picture[None].clamp(-1, 1)) * loss.seen).sum())
    return Inversion(
        z=found.z.cpu().numpy(),
        e=found.e.cpu().numpy(),
        target=target,
        image=to_pil(drawn)[0],
        psnr=psnr(to_uint8(drawn), np.asarray(target)),
        similarity=similarity,
        loss=found.loss,
        start_loss=found.start_loss,
        start_psnr=psnr(to_uint8(first), np.asarray(target)),
        caption=words,
        seed=seed,
    )


def psnr(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio of two 8-bit pictures of the same shape, in dB, at most `PSNR_LIMIT`."""
    error = float(np.square(one.astype(np.float64) - other).mean())
    return PSNR_LIMIT if error == 0 else min(PSNR_LIMIT, 10 * math.log10(255**2 / error))


class _Loss:
    """How far pictures are from the target, each for itself."""

    def __init__(self, pipe: GALIPPipeline, clip: CLIP, target: Tensor, clip_weight: float) -> None:
        import torch

        self.pipe, self.clip, self.target, self.clip_weight = pipe, clip, target, clip_weight
        with torch.no_grad():
            self.seen = clip.see(target)

    def __call__(self, z: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
        """Losses [B] and pictures [B, 3, S, S] of noise and sentence vectors."""
        from torch.nn.functional import avg_pool2d

        pictures = paint(self.pipe, z, e)
        error = self._error(pictures)
        total = error.new_zeros(len(error))
        for scale in _SCALES:
            if scale <= error.shape[-1]:
                total = total + avg_pool2d(error, scale).square().flatten(1).mean(1)
        if self.clip_weight:
            cosines = (self.clip.see(pictures.clamp(-1, 1)) * self.seen).sum(1)
            total = total + self.clip_weight * (1 - cosines)
        return total, pictures

    def _error(self, pictures: Tensor) -> Tensor:
        """What lies beyond white where the target is white is shown as white, so that it is no error; so for black."""
        import torch

        error = pictures - self.target
        error = torch.where(self.target >= 1, error.clamp(max=0), error)
        return torch.where(self.target <= -1, error.clamp(min=0), error)


def _starts(
    pipe: GALIPPipeline,
    loss: _Loss,
    pixels: Tensor,
    caption: str | None,
    seed: int,
    count: int,
    keep: int,
    per_stage: bool,
) -> tuple[Tensor, Tensor]:
    """z [keep, z_dim] and e of the best of `count` starts."""
    import torch

    generator = pipe.generator
    e = _first_sentence(pipe, pixels, caption)
    z = torch.from_numpy(noise(range(seed, seed + count), generator.z_dim)).to(pixels.device)
    with torch.no_grad():
        losses = torch.cat([loss(part, e.expand(len(part), -1))[0] for part in z.split(inputs.BATCH_SIZE)])
    chosen = z[losses.argsort(stable=True)[:keep]]
    sentences = e.expand(keep, -1)
    if per_stage:
        sentences = sentences[:, None].expand(-1, generator.num_stages, -1)
    return chosen, sentences.contiguous()


def _first_sentence(pipe: GALIPPipeline, pixels: Tensor, caption: str | None) -> Tensor:
    """[1, cond_dim]: the caption's vector, or the picture's own brought to the length of a caption's."""
    import torch

    if caption is not None:
        return pipe.encode_prompt(caption).to(pixels.device)
    try:
        clip = own_clip(pipe)
    except InputError as error:
        raise InputError(f"{error}; an inversion without its own CLIP must begin with a caption") from error
    with torch.no_grad():
        return to_length(clip.see(pixels), pipe.encode_prompt("a picture").to(pixels.device).norm(dim=1, keepdim=True))


@dataclass
class _Found:
    z: Tensor
    e: Tensor
    picture: Tensor
    loss: float
    start: Tensor
    start_loss: float


def _descend(loss: _Loss, z: Tensor, e: Tensor, steps: int, progress: Progress | None) -> _Found:
    """Optimise all starts together and return the best point that any of them passed."""
    import torch

    lengths = e.norm(dim=-1, keepdim=True)
    # Adam's steps are as large as its rate, whatever the gradient: a share of what a sentence vector's numbers are.
    unit = float(e.square().mean().sqrt())
    z, e = z.clone().requires_grad_(True), (e / unit).requires_grad_(True)
    adam = torch.optim.Adam([{"params": [z], "lr": _RATE_Z}, {"params": [e], "lr": _RATE_E}], betas=(0.9, 0.99))
    rates = [group["lr"] for group in adam.param_groups]
    found: _Found | None = None
    for step in range(steps + 1):
        with torch.enable_grad():
            total, pictures = loss(z, e * unit)
        losses = total.detach()
        if not losses.isfinite().all():
            raise GalipError(
                "a picture holds numbers that are not finite; the weights are broken: fetch the model again"
            )
        best = int(losses.argmin())
        if found is None:
            start = pictures[best].detach().clone()
            found = _Found(
                z[best].detach().clone(), e[best].detach() * unit, start, math.inf, start, float(losses[best])
            )
        if float(losses[best]) < found.loss:
            found.z, found.e = z[best].detach().clone(), e[best].detach() * unit
            found.picture, found.loss = pictures[best].detach().clone(), float(losses[best])
        if step == steps:
            break
        z.grad, e.grad = torch.autograd.grad(total.sum(), [z, e])
        for group, rate in zip(adam.param_groups, rates, strict=True):
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        adam.step()
        with torch.no_grad():
            z.copy_(to_plausible_length(z))
            now = (e * unit).norm(dim=-1, keepdim=True)
            bounded = now.clamp(lengths * (1 - LENGTH_FREEDOM), lengths * (1 + LENGTH_FREEDOM))
            e.copy_(to_length(e, bounded / unit))
        if progress is not None:
            progress(step + 1, steps, found.loss)
        if step == round(steps * _GIVEN_UP_AT) and len(z) > 1:
            kept = losses.argsort(stable=True)[: (len(z) + 1) // 2]
            z, e, lengths = _only(adam, 0, kept), _only(adam, 1, kept), lengths[kept]
    assert found is not None
    return found


def _only(adam: Any, group: int, rows: Tensor) -> Tensor:
    """Go on with some rows of a group's parameter, Adam's averages of them kept."""
    old = adam.param_groups[group]["params"][0]
    new: Tensor = old.detach()[rows].clone().requires_grad_(True)
    state = adam.state.pop(old)
    adam.state[new] = {name: value[rows] if value.shape == old.shape else value for name, value in state.items()}
    adam.param_groups[group]["params"][0] = new
    return new
