"""Differentiable augmentation of what the discriminator sees, the same for real and drawn pictures."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


def shift(images: Tensor, offsets: NDArray[np.int64] | None) -> Tensor:
    """Translate each picture; the border's pixels are repeated into what comes free.

    Args:
        images: [B, C, H, W].
        offsets: integers [B, 2], pixels to the right and down; None leaves the pictures as they are.

    Returns:
        [B, C, H, W], differentiable with respect to `images`.
    """
    if offsets is None:
        return images
    margin = int(abs(offsets).max())
    height, width = images.shape[2:]
    padded = F.pad(images, (margin,) * 4, mode="replicate")
    cut = [
        picture[:, margin - down : margin - down + height, margin - right : margin - right + width]
        for picture, (right, down) in zip(padded.unbind(), offsets.tolist(), strict=True)
    ]
    return torch.stack(cut)
