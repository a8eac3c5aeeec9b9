"""What a pipeline returns, and the one place where pictures become 8-bit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from galip.errors import GalipError, InputError

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass
class GALIPPipelineOutput:
    """The pictures of one call and the seeds that made them.

    It can be unpacked like a pair, `images, seeds = pipe(...)`, and indexed by place or by name.

    Attributes:
        images: N pictures in the order of the prompts, all pictures of one prompt together: a list of PIL images
            (`output_type="pil"`), a float array [N, H, W, 3] (`"np"`) or a float tensor [N, 3, H, W] (`"pt"`), the
            floats in [0, 1].
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


def to_uint8(images: ArrayLike) -> NDArray[np.uint8]:
    """Turn float pictures into 8-bit ones: clamp to [0, 1], scale by 255, round to the nearest (a tie to the even).

    Args:
        images: floats, [H, W, 3] or [N, H, W, 3], meant to lie in [0, 1].

    Returns:
        uint8 of the same shape.

    Raises:
        InputError: if these are no floats or not of this shape.
        GalipError: if a number is not finite. Such a picture is broken, and hiding it would hide a broken model.
    """
    array = np.asarray(images)
    if not np.issubdtype(array.dtype, np.floating):
        raise InputError(f"pictures of type {array.dtype}: floats in [0, 1] are needed")
    if array.ndim not in (3, 4) or array.shape[-1] != 3:
        raise InputError(f"pictures of shape {list(array.shape)}: [H, W, 3] or [N, H, W, 3] is needed")
    # float16 cannot hold 255 levels times 255 exactly; float64 stays as it is.
    array = array.astype(np.promote_types(array.dtype, np.float32))
    if not np.isfinite(array).all():
        raise GalipError("a picture holds numbers that are not finite: the model's weights or its inputs are broken")
    return np.rint(np.clip(array, 0.0, 1.0) * 255.0).astype(np.uint8)


def to_pil(images: ArrayLike) -> list[Image]:
    """Float pictures as PIL images in RGB.

    Args:
        images: as for `to_uint8`; a single [H, W, 3] picture gives a list of one.

    Raises:
        InputError, GalipError: as `to_uint8`.
    """
    from PIL import Image

    pixels = to_uint8(images)
    return [Image.fromarray(picture) for picture in (pixels[None] if pixels.ndim == 3 else pixels)]
