"""What the recipe's CLIP learns from: batches of what is easily confused, contrast, legible pixels and layout."""

from __future__ import annotations

import math
import random
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TAPPED = (0, 2)
"""The blocks whose features D sees."""
THUMBNAIL = 16


class Confusing:
    """Batches of image numbers: a quarter groups of one emoji, three eighths groups of near captions, the rest random.

    Args:
        rows: the records of the training images.
        weights: how often each image is drawn, [N].
        group: images of one group.
    """

    def __init__(self, rows: list[dict[str, Any]], weights: Tensor, group: int = 4) -> None:
        self.weights, self.group = weights, group
        self.of_base: dict[str, list[int]] = {}
        self.of_style: dict[tuple[str, str], list[int]] = {}
        for number, row in enumerate(rows):
            self.of_base.setdefault(row["base"], []).append(number)
            self.of_style.setdefault((row["base"], row["style"]), []).append(number)
        self.bases = sorted(self.of_base)
        self.styles: dict[str, list[str]] = {}
        for base, style in self.of_style:
            self.styles.setdefault(base, []).append(style)
        self.near: list[list[int]] = []

    def refresh(self, vectors: Tensor, count: int = 12) -> None:
        """Whose captions are near: from one unit vector for each of `bases`, [bases, D]."""
        cosines = vectors @ vectors.T
        cosines.fill_diagonal_(-2)
        self.near = cosines.topk(count).indices.tolist()
        self.hardness = cosines.amax(1).clamp(min=0.05) ** 2

    def draw(self, batch: int, rng: random.Random) -> tuple[Tensor, int]:
        """Image numbers [batch], and how many of them, the first ones, come in groups."""
        drawn: list[int] = []
        while len(drawn) < batch // 4:
            members = self.of_base[rng.choice(self.bases)]
            drawn += rng.sample(members, min(self.group, len(members)))
        centres = torch.multinomial(self.hardness, batch, replacement=True).tolist()
        while len(drawn) < 5 * batch // 8:
            base = centres.pop()
            style = rng.choice(self.styles[self.bases[base]])
            others = [other for other in self.near[base] if (self.bases[other], style) in self.of_style]
            chosen = [base, *rng.sample(others, min(self.group - 1, len(others)))]
            drawn += [rng.choice(self.of_style[self.bases[one], style]) for one in chosen]
        random_part = torch.multinomial(self.weights, batch).tolist()
        grouped = list(dict.fromkeys(drawn))[:batch]  # no image twice
        seen = set(grouped)
        rest = [number for number in random_part if number not in seen][: batch - len(grouped)]
        return torch.tensor(grouped + rest), len(grouped)


class Adapter(nn.Module):
    """The teacher's vector of a subject [B, 384] and a style, seen as the CLIP's sentence vector [B, D]."""

    def __init__(self, dim: int, styles: int, width: int = 768) -> None:
        super().__init__()
        self.straight, self.style = nn.Linear(384, dim), nn.Embedding(styles, dim)
        self.first, self.first_style = nn.Linear(384, width), nn.Embedding(styles, width)
        self.second = nn.Linear(width, dim)
        nn.init.normal_(self.style.weight, std=0.05)
        nn.init.normal_(self.first_style.weight, std=0.3)

    def forward(self, taught: Tensor, style: Tensor) -> Tensor:
        hidden = F.gelu(self.first(taught * math.sqrt(384) / 2) + self.first_style(style))
        result: Tensor = self.straight(taught) + self.style(style) + self.second(hidden)
        return result


class ThumbnailReader(nn.Module):
    """Reads a small version of the image off a sentence vector, which must tell layouts apart for that.

    The loss is the squared error in parts of the thumbnails' variance.
    """

    def __init__(self, dim: int, width: int = 768) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(dim, width), nn.GELU(), nn.Linear(width, 4 * THUMBNAIL**2))
        self.scale = math.sqrt(dim)

    def forward(self, vectors: Tensor, thumbnails: Tensor, variance: float) -> Tensor:
        """`thumbnails` [B, 4 * 16 * 16]; `variance` is their mean variance over all images."""
        read = self.net(F.normalize(vectors, dim=1) * self.scale)
        return (read - thumbnails).square().mean() / variance


class PixelReader(nn.Module):
    """Reads the pixels of each patch off the features that D taps, by one linear map for each tap.

    The loss is the squared error in parts of the detail, the variance of pixels within their patch: 0 when everything
    can be read, 1 when no more than each patch's mean colour.
    """

    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.readers = nn.ModuleList(nn.Linear(width, 3 * patch**2) for _ in TAPPED)

    def forward(self, states: tuple[Tensor, ...], images: Tensor, shown: Tensor) -> Tensor:
        """
        Args:
            states: the hidden states after each block, the class token first.
            images: [B, 3, S, S] in [-1, 1].
            shown: numbers [B, K] of the patches that the states are of.
        """
        pixels = F.unfold(images, self.patch, stride=self.patch).transpose(1, 2)  # [B, grid * grid, 3 * patch^2]
        pixels = pixels.gather(1, shown[..., None].expand(-1, -1, pixels.shape[2]))
        colours = pixels.unflatten(2, (3, -1))
        detail = (colours - colours.mean(3, keepdim=True)).square().mean()
        errors = [
            (reader(states[block][:, 1:]) - pixels).square().mean()
            for reader, block in zip(self.readers, TAPPED, strict=True)
        ]
        return torch.stack(errors).mean() / detail


def seed_patches(weight: Tensor, patches: Tensor) -> None:
    """Start a patch embedding [C, 3, P, P] at the principal components of patches [N, 3 * P * P], of like size each."""
    centred = patches - patches.mean(0)
    values, directions = torch.linalg.eigh(centred.T @ centred / len(centred))
    values, directions = values.flip(0)[: len(weight)], directions.flip(1)[:, : len(weight)]
    # Large components are made smaller, small ones larger, but not equal: noise would drown the layout.
    scaled = directions * (values.clamp(min=1e-6) ** -0.25) * 0.1
    with torch.no_grad():
        weight.copy_(scaled.T.reshape(weight.shape))


def contrast(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    """CLIP's symmetric loss over one batch; both [B, D]."""
    logits = scale * F.normalize(images, dim=1) @ F.normalize(texts, dim=1).T
    own = torch.arange(len(images))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def crowd_loss(seen: Tensor, target: Tensor, others: Tensor, same: Tensor, scale: Tensor) -> Tensor:
    """Images to captions, among the batch's own captions and many others.

    Args:
        seen, target: vectors [B, D] of images and of their captions.
        others: vectors [N, D] of captions of other images.
        same: bool [B, N], true where the other caption is the image's own and so is no wrong answer.
        scale: the logit scale.
    """
    seen = F.normalize(seen, dim=1)
    near = seen @ F.normalize(target, dim=1).T
    far = (seen @ F.normalize(others, dim=1).T).masked_fill(same, -1.0)
    return F.cross_entropy(scale * torch.cat([near, far], dim=1), torch.arange(len(seen)))


class ImageBank:
    """The newest vector of every image, so that texts can be compared with all of them at the cost of a product."""

    def __init__(self, count: int, dim: int) -> None:
        self.vectors = torch.zeros(count, dim)

    def put(self, numbers: Tensor, vectors: Tensor) -> None:
        """Remember image vectors [B, D]."""
        self.vectors[numbers] = F.normalize(vectors.detach(), dim=1)

    def loss(self, texts: Tensor, numbers: Tensor, scale: Tensor) -> Tensor:
        """Which of all images is each caption's? Images that were not seen yet have vectors of zero."""
        logits = scale * F.normalize(texts, dim=1) @ self.vectors.T
        return F.cross_entropy(logits, numbers)
