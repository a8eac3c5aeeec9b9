"""What can be said of an image without a network; broken generators show here first."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from typing_extensions import Self

SATURATED, DEVIATION, HASH_HIGH, HASH_LOW = range(4)
"""Columns: share of the values that are at either end of the range; standard deviation of a channel's values, in
[0, 1]; and the two halves of a 32-bit hash of the image."""


class PixelFacts:
    """A feature extractor that needs no weights."""

    name = "pixels"
    weights = ""
    digest = ""
    dim = 4
    takes: Literal["uint8", "float"] = "uint8"

    def to(self, device: str | torch.device) -> Self:
        """Nothing: it works where the bytes are."""
        return self

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 [B, 3, H, W] -> fp32 [B, 4]."""
        flat = images.cpu().flatten(1)
        saturated = ((flat == 0) | (flat == 255)).float().mean(1)
        # Within the channels: an image of one colour has none, however far its red is from its blue.
        deviation = (images.cpu().flatten(2).double() / 255).var(2, correction=0).mean(1).sqrt().float()
        hashes = [zlib.crc32(row.numpy().tobytes()) for row in flat]
        halves = torch.tensor([[value >> 16, value & 0xFFFF] for value in hashes], dtype=torch.float32)
        return torch.cat([torch.stack([saturated, deviation], dim=1), halves], dim=1)


def hashes_of(facts: NDArray[np.float32]) -> NDArray[np.uint32]:
    """The 32-bit hashes [N] in facts [N, 4]."""
    high, low = facts[:, HASH_HIGH].astype(np.uint32), facts[:, HASH_LOW].astype(np.uint32)
    return (high << np.uint32(16)) | low
