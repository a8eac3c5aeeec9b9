"""From the bytes of a picture to the pixels that training sees."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from galip.data.protocol import BrokenRecordError

# A JPEG is decoded at no less than this many times the size it will be scaled to, so that the scaling still has
# several pixels to average (Pillow's own choice in `thumbnail`).
_GAP = 2


def decode_rgb(file: Path | BinaryIO, name: str, needed: int = 0) -> Image.Image:
    """Decode a picture to 8-bit RGB: EXIF rotation applied, white under transparency.

    Args:
        file: a path, or an opened file.
        name: what an error calls it.
        needed: the shorter side, in pixels, that the picture will be scaled to; lets JPEGs be decoded at a half, a
            quarter or an eighth of their size, where at least twice `needed` is left. 0: at full size.

    Raises:
        BrokenRecordError: this is no readable picture.
    """
    try:
        with Image.open(file) as opened:
            if needed:
                opened.draft(None, (_GAP * needed, _GAP * needed))
            picture = ImageOps.exif_transpose(opened)
            if picture.mode.startswith("I;16"):
                picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
            if "A" in picture.getbands() or "transparency" in picture.info:
                picture = picture.convert("RGBA")
                on_white = Image.new("RGBA", picture.size, "white")
                on_white.alpha_composite(picture)
                picture = on_white
            return picture.convert("RGB")
    except Exception as error:  # damaged files make Pillow's decoders fail in many ways, and none may end a run
        # Of a format it does not know, Pillow says no more than the file's address in memory.
        why = "unknown format" if isinstance(error, UnidentifiedImageError) else str(error)
        raise BrokenRecordError(
            name, f"not a readable picture ({why}); replace it or remove it with its caption"
        ) from error


def resize_and_crop(picture: Image.Image, shorter_side: int, size: int, where: tuple[float, float]) -> Image.Image:
    """Scale the shorter side to `shorter_side`, then cut a `size` square.

    Args:
        picture: any size.
        shorter_side: in pixels, at least `size`.
        size: side of the result in pixels.
        where: position of the square within what is left over, (x, y) each in [0, 1]; (0.5, 0.5) is the centre.
    """
    width, height = picture.size
    scale = shorter_side / min(width, height)
    wanted = (max(shorter_side, round(width * scale)), max(shorter_side, round(height * scale)))
    if wanted != picture.size:
        picture = picture.resize(wanted, Image.Resampling.BICUBIC)
    left, top = (round(share * (side - size)) for share, side in zip(where, picture.size, strict=True))
    return picture.crop((left, top, left + size, top + size)) if picture.size != (size, size) else picture


def as_array(picture: Image.Image) -> NDArray[np.uint8]:
    """uint8 [3, H, W]."""
    return np.ascontiguousarray(np.asarray(picture, dtype=np.uint8).transpose(2, 0, 1))
