"""Differentiable augmentation of what CLIP sees in training, real and generated images alike.

Translation, colour and cutout after Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training", 2020.
What happens to a sample is a function of (run seed, sample number).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from galip.data.rng import Stream, sample_rng
from galip.training.config import AugmentationConfig
from galip.training.feature_config import FeatureAugmentationConfig
from galip.training.tensors import Bundle

_GREY = 0.0
_WHITE_SHARE = 0.25


@dataclass(frozen=True)
class Augmentation(Bundle):
    """What happens to B images. None: nothing of this kind.

    Attributes:
        offsets: int64 [B, 2], pixels to the right and down.
        colours: float32 [B, 3]: added brightness (in [-0.5, 0.5]), factor of saturation ([0, 2]), of contrast
            ([0.5, 1.5]).
        corners: int64 [B, 2], left and top of the square that is cut out; may lie outside.
        hole: its side in pixels.
    """

    offsets: Tensor | None = None
    colours: Tensor | None = None
    corners: Tensor | None = None
    hole: int = 0

    def __call__(self, images: Tensor) -> Tensor:
        """Augment `images` [B, 3, H, W]; differentiable."""
        images = recolour(shift(images, self.offsets), self.colours)
        return images if self.corners is None else cut_out(images, self.corners, self.hole)


Streams = tuple[Stream, Stream, Stream]
"""Of translation, colour and cutout."""

CLIPS: Streams = (Stream.SHIFT, Stream.COLOUR, Stream.CUTOUT)
FEATURES: Streams = (Stream.FEATURE_SHIFT, Stream.FEATURE_COLOUR, Stream.FEATURE_CUTOUT)


def random_augmentations(
    options: AugmentationConfig | FeatureAugmentationConfig,
    size: int,
    run_seed: int,
    indices: list[int],
    streams: Streams = CLIPS,
) -> tuple[Augmentation, Augmentation]:
    """The augmentation of the real and of the generated images of samples `indices`, on the CPU.

    Args:
        options: the run's `augmentation` section, or its `features`.
        size: side of the images in pixels.
        run_seed: the run's seed.
        indices: sample numbers.
        streams: which random numbers: `CLIPS` or `FEATURES`.
    """
    moving, colouring, covering = streams
    largest, hole = round(options.shift * size), round(options.cutout * size)
    nothing: tuple[None, None] = (None, None)
    shifts = torch.from_numpy(random_shifts(run_seed, indices, largest, moving)) if largest else nothing
    colours: Tensor | tuple[None, None] = nothing
    if options.colour:
        drawn = np.stack([sample_rng(run_seed, index, colouring).random((2, 3)) for index in indices], axis=1)
        middle, reach = np.array([0.0, 1.0, 1.0]), np.array([0.5, 1.0, 0.5])
        colours = torch.from_numpy((middle + options.colour * reach * (2 * drawn - 1)).astype(np.float32))
    corners: Tensor | tuple[None, None] = nothing
    if hole:
        placed = [
            sample_rng(run_seed, index, covering).integers(-(hole // 2), size - hole // 2, (2, 2)) for index in indices
        ]
        corners = torch.from_numpy(np.stack(placed, axis=1))
    real, fake = (Augmentation(shifts[side], colours[side], corners[side], hole) for side in range(2))
    return real, fake


def random_backgrounds(run_seed: int, indices: list[int]) -> Tensor:
    """The plain colours that samples with an alpha channel are laid on, [B, 3] in [-1, 1]: a quarter of them white."""
    rows = np.stack([sample_rng(run_seed, index, Stream.BACKGROUND).random(4) for index in indices])
    colours = np.where(rows[:, :1] < _WHITE_SHARE, 1.0, 2 * rows[:, 1:] - 1)
    return torch.from_numpy(colours.astype(np.float32))


def lay_on(images: Tensor, colours: Tensor | None) -> Tensor:
    """Lay images with an alpha channel on plain colours; differentiable.

    Args:
        images: [B, 4, H, W], or [B, 3, H, W], which come back as they are; in about [-1, 1], not clamped.
        colours: [B, 3] in [-1, 1]; None: white.

    Returns:
        [B, 3, H, W].
    """
    if images.shape[1] == 3:
        return images
    alpha = (images[:, 3:] + 1) / 2
    behind = images.new_ones(()) if colours is None else colours[:, :, None, None].to(images.dtype)
    return images[:, :3] * alpha + behind * (1 - alpha)


def random_shifts(run_seed: int, indices: list[int], largest: int, stream: Stream = Stream.SHIFT) -> NDArray[np.int64]:
    """Translations in pixels from -largest to largest, [2, B, 2]: one for the real and one for the generated image."""
    rows = [sample_rng(run_seed, index, stream).integers(-largest, largest, (2, 2), endpoint=True) for index in indices]
    return np.stack(rows, axis=1)


def shift(images: Tensor, offsets: Tensor | None) -> Tensor:
    """Translate each image; the border's pixels are repeated into what comes free.

    Args:
        images: [B, C, H, W].
        offsets: int64 [B, 2], pixels to the right and down; None leaves the images as they are.

    Returns:
        [B, C, H, W], differentiable with respect to `images`.
    """
    if offsets is None:
        return images
    return shift_by_slices(images, offsets) if offsets.device.type == "cpu" else shift_by_gather(images, offsets)


def shift_by_slices(images: Tensor, offsets: Tensor) -> Tensor:
    """`shift` by a slice of each padded image: quickest on a CPU."""
    margin = int(offsets.abs().max())
    height, width = images.shape[2:]
    padded = F.pad(images, (margin,) * 4, mode="replicate")
    cut = [
        picture[:, margin - down : margin - down + height, margin - right : margin - right + width]
        for picture, (right, down) in zip(padded.unbind(), offsets.tolist(), strict=True)
    ]
    return torch.stack(cut)


def shift_by_gather(images: Tensor, offsets: Tensor) -> Tensor:
    """`shift` without a look at the offsets' values, for a GPU: it need not wait for them, and may be recorded."""
    _, channels, height, width = images.shape
    rows = (torch.arange(height, device=images.device) - offsets[:, 1, None]).clamp(0, height - 1)
    columns = (torch.arange(width, device=images.device) - offsets[:, 0, None]).clamp(0, width - 1)
    moved = images.gather(2, rows[:, None, :, None].expand(-1, channels, -1, width))
    return moved.gather(3, columns[:, None, None, :].expand(-1, channels, height, -1))


def recolour(images: Tensor, colours: Tensor | None) -> Tensor:
    """Change brightness, then saturation, then contrast of each image.

    Args:
        images: [B, 3, H, W] in about [-1, 1].
        colours: [B, 3], see `Augmentation`; None leaves the images as they are.
    """
    if colours is None:
        return images
    brightness, saturation, contrast = (colours[:, i, None, None, None].to(images.dtype) for i in range(3))
    images = images + brightness
    grey = images.mean(dim=1, keepdim=True)
    images = grey + saturation * (images - grey)
    middle = images.mean(dim=(1, 2, 3), keepdim=True)
    return middle + contrast * (images - middle)


def cut_out(images: Tensor, corners: Tensor, hole: int) -> Tensor:
    """Paint a grey square of side `hole` with its left top corner at `corners` [B, 2] into each of `images`."""
    height, width = images.shape[2:]
    columns = torch.arange(width, device=images.device) - corners[:, 0, None]  # [B, W]
    rows = torch.arange(height, device=images.device) - corners[:, 1, None]  # [B, H]
    inside = ((rows >= 0) & (rows < hole))[:, :, None] & ((columns >= 0) & (columns < hole))[:, None]
    return images.masked_fill(inside[:, None], _GREY)
