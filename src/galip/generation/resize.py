"""Images at another size than the model's own."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from PIL import Image

from galip.errors import InputError
from galip.generation import inputs
from galip.generation.output import OutputType, to_pil
from galip.utils.arrays import FloatArray

ImageFit = Literal["pad", "crop"]

MAX_SIDE = 8192


def check_size(height: Any, width: Any, own: int) -> tuple[int, int] | None:
    """The wanted (width, height); None where it is the model's own.

    Args:
        height, width: in pixels; None: as the other, or the model's own.
        own: side of the model's images.

    Raises:
        InputError: one is not a whole number from 1 to 8192.
    """
    sides = []
    for name, value, other in (("width", width, height), ("height", height, width)):
        side = inputs.positive_int(name, next((v for v in (value, other) if v is not None), own))
        if side > MAX_SIDE:
            raise InputError(f"{name} is {side}: give at most {MAX_SIDE}")
        sides.append(side)
    return None if sides == [own, own] else (sides[0], sides[1])


def resize_output(images: FloatArray, size: tuple[int, int], output_type: OutputType) -> Any:
    """Images [N, H, W, C] in [0, 1] at another size, as the service resizes: a list of PIL images, or floats in 8 bits.

    Args:
        images: the model's.
        size: width and height in pixels.
        output_type: "pil", or "np" for floats [N, height, width, C].
    """
    fitted = [fit_to(image, size, "pad") for image in to_pil(images)]
    return fitted if output_type == "pil" else np.stack([np.asarray(image, np.float32) / 255 for image in fitted])


def fit_to(image: Image.Image, size: tuple[int, int], fit: ImageFit) -> Image.Image:
    """A square image at another size, by Lanczos resampling.

    Args:
        image: the image.
        size: width and height in pixels.
        fit: where these differ, "pad" sets the whole image in the middle of its border's most typical colour, and
            "crop" cuts from its middle what has the wanted shape.
    """
    if image.size == size:
        return image
    side = min(size) if fit == "pad" else max(size)
    resized = image.resize((side, side), Image.Resampling.LANCZOS)  # Pillow premultiplies the alpha channel itself
    if size[0] == size[1]:
        return resized
    left, top = (side - size[0]) // 2, (side - size[1]) // 2
    if fit == "crop":
        return resized.crop((left, top, left + size[0], top + size[1]))
    canvas = Image.new(image.mode, size, _border_colour(image))
    canvas.paste(resized, (-left, -top))  # without a mask: RGBA stays what it is
    return canvas


def _border_colour(image: Image.Image) -> tuple[int, ...]:
    """The median of the outermost pixels, channel by channel."""
    pixels = np.asarray(image)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return tuple(int(value) for value in np.median(border, axis=0))
