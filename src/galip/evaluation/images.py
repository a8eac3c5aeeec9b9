"""The images that are compared: of one size, and 8-bit unless the protocol forbids it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from galip.data.images import as_array, resize_and_crop
from galip.data.open import open_source
from galip.data.protocol import ImageSource
from galip.data.streaming import StreamedShards
from galip.errors import GalipError, InputError
from galip.generation.output import to_uint8


def open_images(name: str, called: str) -> ImageSource:
    """Captioned images that can be read in any order.

    Args:
        name: what `galip.data.open.open_source` takes.
        called: what an error calls them.

    Raises:
        InputError: they are streamed.
        GalipError: as `open_source`.
    """
    source = open_source(name)
    if isinstance(source, StreamedShards):
        raise InputError(
            f"{called} {name}: streamed shards have no order and no number; download them, and name the folder"
        )
    return source


def real_images(source: ImageSource, numbers: Sequence[int], resolution: int) -> Tensor:
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
