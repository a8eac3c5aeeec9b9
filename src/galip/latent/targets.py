"""Images that a person brings, as the generator would have made them: RGB, square, of its side."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from galip.errors import GalipError, InputError
from galip.utils.checks import one_of

if TYPE_CHECKING:
    from PIL.Image import Image

Fit = Literal["crop", "pad"]

_PNG_MODES = ("1", "L", "LA", "I;16", "P", "RGB", "RGBA")
_SHOWN_AS = {"PA": "RGBA", "La": "LA", "RGBa": "RGBA"}
"""Modes with transparency that a PNG cannot hold."""


def as_target(image: Image | str | Path, side: int, fit: Fit = "crop") -> Image:
    """An image of any size and mode as the generator's: EXIF rotation applied, white under transparency.

    Args:
        image: an open one, or a file.
        side: of the result, in pixels.
        fit: what becomes of an image that is not square: "crop" keeps the square in its middle, as training does;
            "pad" keeps all of it, on white.

    Returns:
        8-bit RGB, side x side.

    Raises:
        InputError: it is neither an image nor a file, or `fit` is unknown.
        GalipError: the file cannot be read as an image.
    """
    from PIL import Image

    from galip.data.images import decode_image, resize_and_crop
    from galip.data.protocol import BrokenRecordError

    one_of("fit", fit, Fit)
    if isinstance(image, str | Path):
        if not Path(image).is_file():
            raise InputError(f"{image}: there is no such file; name an image")
        try:
            rgb = decode_image(Path(image), str(image))
        except BrokenRecordError as error:
            raise GalipError(f"{image}: {error.why.partition(';')[0]}; give a PNG, JPEG or WebP file") from error
    elif isinstance(image, Image.Image):
        rgb = decode_image(_as_file(image), "the image")
    else:
        raise InputError(f"the image is a {type(image).__name__}: give a PIL image or a file's name")
    if fit == "pad" and rgb.width != rgb.height:
        longer = max(rgb.size)
        square = Image.new("RGB", (longer, longer), "white")
        square.paste(rgb, ((longer - rgb.width) // 2, (longer - rgb.height) // 2))
        rgb = square
    return resize_and_crop(rgb, side, side, (0.5, 0.5))


def _as_file(image: Image) -> Any:
    """An image that is open already as a PNG in memory, so that there is one way from images to RGB."""
    import numpy as np
    from PIL import Image

    buffer = io.BytesIO()
    exif = image.getexif()
    kept = image
    if image.mode == "I":  # what a 16-bit image was opened as by older Pillows
        kept = Image.fromarray(np.clip(np.asarray(image), 0, 2**16 - 1).astype(np.uint16))
    elif image.mode not in _PNG_MODES:
        try:
            kept = image.convert(_SHOWN_AS.get(image.mode, "RGB"))
        except (ValueError, KeyError) as error:
            raise InputError(f"the image is of mode {image.mode}, which has no one way to RGB; convert it") from error
    kept.save(buffer, "PNG", exif=exif, compress_level=0)
    buffer.seek(0)
    return buffer
