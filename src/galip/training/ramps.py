"""What grows or fades over a stage: blur, similarity, and whether G listens to the feature networks' heads."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from galip.training.config import TrainConfig
from galip.training.tensors import Bundle

_REACH = 3.0


@dataclass(frozen=True)
class Ramps(Bundle):
    """The values of one step, as tensors without dimensions: a captured step reads them anew each time.

    Attributes:
        heads: 0 while the heads warm up, then 1.
        similarity: what lambda is multiplied with, from 0 up to 1.
        blur: standard deviation in pixels of what the feature networks' images are blurred with; None: they are not.
        reach: of the blur's kernel, in pixels to each side; that of the stage's first step.
    """

    heads: Tensor
    similarity: Tensor
    blur: Tensor | None = None
    reach: int = 0


def ramps_at(config: TrainConfig, seen: int, size: int, device: torch.device) -> Ramps | None:
    """The ramps of a step.

    Args:
        config: of the stage.
        seen: images of the stage before the step.
        size: side of the images in pixels.
        device: where the step computes.

    Returns:
        None where the stage has no ramps.
    """
    loss, augmentation = config.loss, config.augmentation.features
    if not config.model.feature_networks and not loss.similarity_ramp:
        return None
    rising = min(1.0, seen / loss.similarity_ramp) if loss.similarity_ramp else 1.0
    left = max(0.0, 1 - seen / augmentation.blur_images) if augmentation.blur_images else 0.0
    widest = augmentation.blur * size
    values = torch.tensor([float(seen >= loss.heads_warmup), rising, left * widest]).to(device)
    blur, reach = (values[2], max(1, round(_REACH * widest))) if left and widest else (None, 0)
    return Ramps(values[0], values[1], blur, reach)


def blurred(images: Tensor, ramps: Ramps | None) -> Tensor:
    """Images [B, C, H, W] blurred by a Gaussian of `ramps.blur`; differentiable."""
    if ramps is None or ramps.blur is None:
        return images
    places = torch.arange(-ramps.reach, ramps.reach + 1, device=images.device, dtype=torch.float32)
    kernel = torch.exp(-((places / ramps.blur.clamp(min=1e-3)) ** 2) / 2)
    kernel = (kernel / kernel.sum()).to(images.dtype).expand(images.shape[1], 1, 1, -1)
    padded = F.pad(images, (ramps.reach,) * 4, mode="replicate")
    rows = F.conv2d(padded, kernel, groups=images.shape[1])
    return F.conv2d(rows, kernel.transpose(2, 3), groups=images.shape[1])
