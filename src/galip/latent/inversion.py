"""Inversion: the noise z and the sentence vector e whose image is most like a given one.

Many starts are generated and compared, the best of them are optimised together (Adam on z and e), and the worse half is
given up at a third of the way. The loss compares pixels at several scales, coarse ones too, which still pull where
edges do not overlap yet, and what a CLIP sees. Noise and sentence vector keep plausible lengths
(`galip.latent.gradients`).

An image that the generator made comes back. For any other image the result is what the generator can make, and how
near that comes is part of the result.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from galip._deprecated import renamed_arguments
from galip.errors import GalipError, InputError
from galip.generation import inputs
from galip.generation.noise import check_seed, noise
from galip.generation.output import to_pil, to_uint8
from galip.generation.pipeline import TextToImage
from galip.latent.clip import Scorer
from galip.latent.gradients import Differentiable, to_length, to_plausible_length
from galip.latent.targets import Fit, as_target
from galip.utils.arrays import FloatArray
from galip.utils.progress import Progress, no_progress

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

RESTARTS, STEPS, STARTS = 4, 300, 64

CLIP_WEIGHT = 0.2
"""Of one minus the cosine, beside the mean squared errors of pixels in [-1, 1]."""

LENGTH_FREEDOM = 0.3
"""How much the sentence vector may become longer or shorter than it began, as a share."""

PSNR_LIMIT = 100.0
"""dB, said of equal images, whose ratio would be infinite."""

_USUAL_PROMPT = "a picture"
"""Its sentence vector is as long as those of prompts are."""

_RATE_Z, _RATE_E = 0.06, 0.03
_SCALES = (1, 2, 4, 8)
_GIVEN_UP_AT = 1 / 3


@dataclass(frozen=True)
class Inversion:
    """What was found for an image.

    Attributes:
        z: float32 [z_dim], the noise, to be generated from with truncation 1.
        e: float32 [cond_dim], the sentence vector; [num_stages, cond_dim] where each stage got its own.
        target: the image as it was compared, of the generator's side.
        image: the image of z and e.
        psnr: of the two as 8-bit images, in dB; 100 where they are equal.
        similarity: the cosine of the two in the CLIP of the loss.
        loss: of the result.
        start_loss, start_psnr: of the best start, before any step.
        prompt: the prompt that it began with, or None.
        seed: the first seed of the starts.
    """

    z: FloatArray
    e: FloatArray
    target: Image
    image: Image
    psnr: float
    similarity: float
    loss: float
    start_loss: float
    start_psnr: float
    prompt: str | None
    seed: int


@renamed_arguments(caption="prompt", picture="image")
def invert(
    pipe: TextToImage,
    image: Image | str | Path,
    *,
    prompt: str | None = None,
    restarts: int = RESTARTS,
    steps: int = STEPS,
    starts: int = STARTS,
    per_stage: bool = False,
    clip: Scorer | str | Path | None = None,
    clip_weight: float = CLIP_WEIGHT,
    fit: Fit = "crop",
    seed: int = 0,
    progress: Progress = no_progress,
) -> Inversion:
    """Find the noise and the sentence vector of an image.

    Args:
        pipe: a pipeline of torch's, in fp32.
        image: an image or a file, of any size and mode.
        prompt: what it shows: the sentence vector then begins as this prompt's, which makes editing easier. None: it
            begins as the image's own vector in the model's CLIP.
        restarts: how many starts are optimised.
        steps: of the optimisation.
        starts: how many starts are generated to choose them from, with the seeds s, s + 1, ...
        per_stage: whether each stage of the generator gets a sentence vector of its own. It comes nearer to an image
            that the generator did not make, and leaves the prompts' world further behind.
        clip: the CLIP of the loss, as for `best_of`.
        clip_weight: how much it counts beside the pixels; 0 leaves it out of the loss.
        fit: what becomes of an image that is not square; see `as_target`.
        seed: s.
        progress: told ("inverting", steps done, steps in all).

    Raises:
        InputError: an argument is of the wrong kind or out of range, the engine has no gradients, or the model
            cannot begin without a prompt.
        GalipError: the image or the CLIP cannot be read.
    """
    import torch

    model = Differentiable(pipe, clip)
    for name, value in (("restarts", restarts), ("steps", steps), ("starts", starts)):
        inputs.positive_int(name, value)
    check_seed(check_seed(seed) + max(starts, restarts) - 1)
    if inputs.finite("clip_weight", clip_weight) < 0:
        raise InputError(f"clip_weight is {clip_weight}: give 0 or more")
    words = None if prompt is None else inputs.clean_prompts([prompt])[0]
    target = as_target(image, model.sizes.image_size, fit)
    pixels = torch.from_numpy(np.array(target)).permute(2, 0, 1)[None].to(model.device).float() / 127.5 - 1
    loss = _Loss(model, pixels, clip_weight)
    z, e = _starts(pipe, loss, words, seed, max(starts, restarts), restarts, per_stage)
    found = _descend(loss, z, e, steps, progress)
    best = found.image.permute(1, 2, 0).cpu().numpy() * 0.5 + 0.5
    first = found.start.permute(1, 2, 0).cpu().numpy() * 0.5 + 0.5
    with torch.no_grad():
        similarity = float((model.image_vectors(found.image[None].clamp(-1, 1)) * loss.target_vector).sum())
    return Inversion(
        z=found.z.cpu().numpy(),
        e=found.e.cpu().numpy(),
        target=target,
        image=to_pil(best)[0],
        psnr=psnr(to_uint8(best), np.asarray(target)),
        similarity=similarity,
        loss=found.loss,
        start_loss=found.start_loss,
        start_psnr=psnr(to_uint8(first), np.asarray(target)),
        prompt=words,
        seed=seed,
    )


def psnr(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio of two 8-bit images of the same shape, in dB, at most `PSNR_LIMIT`."""
    error = float(np.square(one.astype(np.float64) - other).mean())
    return PSNR_LIMIT if error == 0 else min(PSNR_LIMIT, 10 * math.log10(255**2 / error))


class _Loss:
    """How far images are from the target, each for itself."""

    def __init__(self, model: Differentiable, target: Tensor, clip_weight: float) -> None:
        import torch

        self.model, self.target, self.clip_weight = model, target, clip_weight
        with torch.no_grad():
            self.target_vector = model.image_vectors(target)

    def __call__(self, z: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
        """Losses [B] and images [B, 3, S, S] of noise and sentence vectors."""
        from torch.nn.functional import avg_pool2d

        images = self.model.generate(z, e)
        error = self._error(images)
        total = error.new_zeros(len(error))
        for scale in _SCALES:
            if scale <= error.shape[-1]:
                total = total + avg_pool2d(error, scale).square().flatten(1).mean(1)
        if self.clip_weight:
            cosines = (self.model.image_vectors(images.clamp(-1, 1)) * self.target_vector).sum(1)
            total = total + self.clip_weight * (1 - cosines)
        return total, images

    def _error(self, images: Tensor) -> Tensor:
        """What lies beyond white where the target is white is shown as white, so that it is no error; so for black."""
        import torch

        error = images - self.target
        error = torch.where(self.target >= 1, error.clamp(max=0), error)
        return torch.where(self.target <= -1, error.clamp(min=0), error)


def _starts(
    pipe: TextToImage, loss: _Loss, prompt: str | None, seed: int, count: int, keep: int, per_stage: bool
) -> tuple[Tensor, Tensor]:
    """z [keep, z_dim] and e of the best of `count` starts."""
    import torch

    sizes, device = pipe.sizes, loss.target.device
    e = _first_sentence(pipe, loss, prompt)
    z = torch.from_numpy(noise(range(seed, seed + count), sizes.z_dim)).to(device)
    with torch.no_grad():
        losses = torch.cat([loss(part, e.expand(len(part), -1))[0] for part in z.split(inputs.BATCH_SIZE)])
    chosen = z[losses.argsort(stable=True)[:keep]]
    sentences = e.expand(keep, -1)
    if per_stage:
        sentences = sentences[:, None].expand(-1, sizes.num_stages, -1)
    return chosen, sentences.contiguous()


def _first_sentence(pipe: TextToImage, loss: _Loss, prompt: str | None) -> Tensor:
    """[1, cond_dim]: the prompt's vector, or the image's own brought to the length of a prompt's."""
    import torch

    device = loss.target.device
    if prompt is not None:
        return torch.from_numpy(pipe.embed(prompt)).to(device)
    try:
        own = Differentiable(pipe)
    except InputError as error:
        raise InputError(f"{error}; an inversion without its own CLIP must begin with a prompt") from error
    with torch.no_grad():
        usual = torch.from_numpy(pipe.embed(_USUAL_PROMPT)).to(device)
        return to_length(own.image_vectors(loss.target), usual.norm(dim=1, keepdim=True))


@dataclass
class _Found:
    z: Tensor
    e: Tensor
    image: Tensor
    loss: float
    start: Tensor
    start_loss: float


def _descend(loss: _Loss, z: Tensor, e: Tensor, steps: int, progress: Progress) -> _Found:
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
            total, images = loss(z, e * unit)
        losses = total.detach()
        if not losses.isfinite().all():
            raise GalipError(
                "an image holds numbers that are not finite; the weights are broken: fetch the model again"
            )
        best = int(losses.argmin())
        if found is None:
            start = images[best].detach().clone()
            found = _Found(
                z[best].detach().clone(), e[best].detach() * unit, start, math.inf, start, float(losses[best])
            )
        if float(losses[best]) < found.loss:
            found.z, found.e = z[best].detach().clone(), e[best].detach() * unit
            found.image, found.loss = images[best].detach().clone(), float(losses[best])
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
        progress("inverting", step + 1, steps)
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
