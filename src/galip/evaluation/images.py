"""The images that are compared: of one size, and 8-bit unless the protocol forbids it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from galip.data.images import as_array, resize_and_crop
from galip.errors import GalipError
from galip.evaluation.extractors.inception import resized
from galip.evaluation.image_sets import ImageSet
from galip.evaluation.metrics.settings import InceptionResize
from galip.generation.output import to_uint8


def native_images(source: ImageSet, numbers: Sequence[int], how: InceptionResize) -> Tensor:
    """Images as the tools for FID see them: each of its own size and shape, brought to Inception's.

    Args:
        source: the images.
        numbers: which.
        how: the way to Inception's 299 px.

    Returns:
        Floats [B, 3, 299, 299] in [0, 1].

    Raises:
        BrokenRecordError: an image cannot be read.
    """
    images = []
    for number in numbers:
        image, _ = source.read(number)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()  # [H, W, 3] -> [1, 3, H, W]
        images.append(resized(pixels, how))
    return torch.cat(images) / 255


def real_images(source: ImageSet, numbers: Sequence[int], resolution: int) -> Tensor:
    """Real images as every protocol sees them: shorter side to `resolution`, antialiased bicubic, centre crop.

    Args:
        source: the captioned images.
        numbers: of the records.
        resolution: side in pixels.

    Returns:
        uint8 [B, 3, resolution, resolution].

    Raises:
        BrokenRecordError: an image cannot be read. None is passed over: N would not be N.
    """
    images = []
    for number in numbers:
        image, _ = source.read(number)
        images.append(as_array(resize_and_crop(image, resolution, resolution, (0.5, 0.5))))
    return torch.from_numpy(np.stack(images))


def at_resolution(images: Tensor, resolution: int, quantise: bool) -> Tensor:
    """Evaluated images as a protocol compares them.

    Args:
        images: [B, 3, S, S], uint8 or floats in [0, 1].
        resolution: side in pixels; where it differs from S, antialiased bicubic before quantising.
        quantise: whether floats become 8-bit.

    Returns:
        uint8, or fp32 in [0, 1] without `quantise`.
    """
    if images.dtype == torch.uint8:
        if images.shape[-1] == resolution:
            return images if quantise else images.float() / 255
        images = images.float() / 255
    images = images.float()
    if not images.isfinite().all():
        raise GalipError("a generated image holds numbers that are not finite: the model's weights are broken")
    if images.shape[-1] != resolution:
        images = F.interpolate(images, (resolution, resolution), mode="bicubic", antialias=True).clamp(0, 1)
    if not quantise:
        return images
    as_bytes = to_uint8(images.permute(0, 2, 3, 1).cpu().numpy())  # [B, 3, H, W] -> [B, H, W, 3]
    return torch.from_numpy(as_bytes).permute(0, 3, 1, 2).contiguous()
