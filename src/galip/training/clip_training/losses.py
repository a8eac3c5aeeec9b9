"""What a small CLIP learns from: contrast, and features from which layout and pixels can be read."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

THUMBNAIL = 8


def contrast(images: Tensor, texts: Tensor, scale: Tensor, same: Tensor) -> Tensor:
    """CLIP's symmetric loss over a batch.

    Args:
        images, texts: vectors [B, D].
        scale: the logit scale.
        same: bool [B, B], whether two samples have the same caption, so that neither is a wrong answer.
    """
    logits = scale * F.normalize(images, dim=1) @ F.normalize(texts, dim=1).T
    target = same / same.sum(1, keepdim=True)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


class ThumbnailReader(nn.Module):
    """Reads a small version of the image off the sentence vector, which must tell layouts apart for that.

    Captions whose images look different then have different vectors, however alike their words are. The loss is the
    squared error in parts of the thumbnails' variance.

    Args:
        dim: length of the sentence vector.
        width: of the hidden layer.
    """

    def __init__(self, dim: int, width: int = 512) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(dim, width), nn.GELU(), nn.Linear(width, 3 * THUMBNAIL**2))
        self.scale = math.sqrt(dim)

    def forward(self, vectors: Tensor, images: Tensor) -> Tensor:
        """Loss of sentence vectors [B, dim] and images [B, 3, S, S] on one background."""
        thumbnails = F.adaptive_avg_pool2d(images, THUMBNAIL).flatten(1)
        variance = thumbnails.var(0).mean().clamp(min=1e-4)
        read = self.net(F.normalize(vectors, dim=1) * self.scale)
        return (read - thumbnails).square().mean() / variance


class PixelReader(nn.Module):
    """Reads the pixels of each patch off the features that D taps, by one linear map for each tap.

    The loss is the squared error in parts of the detail, the variance of pixels within their patch: 0 when everything
    can be read, 1 when no more than each patch's mean colour.

    Args:
        width: of the features.
        patch: side of a patch in pixels.
        blocks: transformer blocks after which they are tapped.
    """

    def __init__(self, width: int, patch: int, blocks: Sequence[int]) -> None:
        super().__init__()
        self.patch, self.blocks = patch, tuple(blocks)
        self.readers = nn.ModuleList(nn.Linear(width, 3 * patch**2) for _ in self.blocks)

    def forward(self, states: Sequence[Tensor], images: Tensor) -> Tensor:
        """Loss of the hidden states after each block, [B, 1 + g * g, width], and images [B, 3, S, S] in [-1, 1]."""
        pixels = F.unfold(images, self.patch, stride=self.patch).transpose(1, 2)  # [B, g * g, 3 * patch^2]
        colours = pixels.unflatten(2, (3, -1))
        detail = (colours - colours.mean(3, keepdim=True)).square().mean().clamp(min=1e-4)
        errors = [
            (reader(states[block][:, 1:]) - pixels).square().mean()
            for reader, block in zip(self.readers, self.blocks, strict=True)
        ]
        return torch.stack(errors).mean() / detail


@torch.no_grad()
def seed_patches(weight: Tensor, patches: Tensor) -> None:
    """Start a patch embedding [C, 3, P, P] at the principal components of patches [N, 3 * P * P], of like size each."""
    centred = patches - patches.mean(0)
    values, directions = torch.linalg.eigh(centred.T @ centred / len(centred))
    values, directions = values.flip(0)[: len(weight)], directions.flip(1)[:, : len(weight)]
    # Large components are made smaller, small ones larger, but not equal: noise would drown the layout.
    scaled = directions * (values.clamp(min=1e-6) ** -0.25) * 0.1
    weight[: scaled.shape[1]].copy_(scaled.T.reshape(-1, *weight.shape[1:]))
