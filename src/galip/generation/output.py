"""What a call returns, and the one place where images become 8-bit and where transparent ones are laid on white."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from galip.errors import GalipError, InputError
from galip.utils.arrays import FloatArray
from galip.utils.checks import one_of

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    Images = TypeVar("Images", FloatArray, Tensor)

OutputType = Literal["pil", "np", "pt"]
Background = Literal["white", "transparent"]

WITH_ALPHA = 4
"""Channels of an image that has an alpha channel: red, green, blue, alpha (not premultiplied)."""


@dataclass
class GALIPPipelineOutput:
    """The images of one call and the seeds that made them.

    It can be unpacked like a pair, `images, seeds = pipe(...)`, and indexed by place or by name.

    Attributes:
        images: N images in the order of the prompts, all images of one prompt together: a list of PIL images
            (`output_type="pil"`), a float array [N, H, W, 3] (`"np"`) or a float tensor [N, 3, H, W] (`"pt"`), the
            floats in [0, 1]; with a transparent background RGBA, 4 channels.
        seeds: the N seeds, or None where the noise did not come from seeds.
    """

    images: Any
    seeds: list[int] | None = None

    def to_tuple(self) -> tuple[Any, list[int] | None]:
        """The pair `(images, seeds)`."""
        return self.images, self.seeds

    def __iter__(self) -> Iterator[Any]:
        return iter(self.to_tuple())

    def __getitem__(self, key: int | str) -> Any:
        if isinstance(key, str):
            if key not in ("images", "seeds"):
                raise KeyError(key)
            return getattr(self, key)
        return self.to_tuple()[key]


def check_background(background: Any, channels: int) -> Background:
    """`background`, which must be one that a model with so many channels can give.

    Raises:
        InputError: there is no such background, or it is transparent and the model has no alpha channel.
    """
    one_of("background", background, Background)
    if background == "transparent" and channels != WITH_ALPHA:
        raise InputError("background 'transparent': this model's images have no alpha channel; use 'white'")
    return background  # type: ignore[no-any-return]


def on_background(images: Images, background: Background) -> Images:
    """Images [B, C, H, W] in [0, 1] as a caller asked for them: laid on white unless the background is transparent.

    Images without an alpha channel come back as they are.
    """
    if images.shape[1] != WITH_ALPHA or background == "transparent":
        return images
    colour, alpha = images[:, :3], images[:, 3:]
    return colour * alpha + (1 - alpha)


def to_uint8(images: ArrayLike) -> NDArray[np.uint8]:
    """Turn float images into 8-bit ones: clamp to [0, 1], scale by 255, round to the nearest (a tie to the even).

    Args:
        images: floats, [H, W, C] or [N, H, W, C] with 3 or 4 channels, meant to lie in [0, 1].

    Returns:
        uint8 of the same shape.

    Raises:
        InputError: these are not floats or not of this shape.
        GalipError: a number is not finite. Such an image is broken, and hiding it would hide a broken model.
    """
    array = np.asarray(images)
    if not np.issubdtype(array.dtype, np.floating):
        raise InputError(f"images of type {array.dtype}: floats in [0, 1] are needed")
    if array.ndim not in (3, 4) or array.shape[-1] not in (3, WITH_ALPHA):
        raise InputError(f"images of shape {list(array.shape)}: [H, W, 3] or [N, H, W, 3] is needed (4 with alpha)")
    # float16 cannot hold 255 levels times 255 exactly; float64 stays as it is.
    array = array.astype(np.promote_types(array.dtype, np.float32))
    if not np.isfinite(array).all():
        raise GalipError("an image holds numbers that are not finite: the model's weights or its inputs are broken")
    return np.rint(np.clip(array, 0.0, 1.0) * 255.0).astype(np.uint8)


def to_pil(images: ArrayLike) -> list[Image]:
    """Float images as PIL images, RGB or RGBA.

    Args:
        images: as for `to_uint8`; a single [H, W, C] image gives a list of one.

    Raises:
        InputError, GalipError: as `to_uint8`.
    """
    from PIL import Image

    pixels = to_uint8(images)
    return [Image.fromarray(image) for image in (pixels[None] if pixels.ndim == 3 else pixels)]
