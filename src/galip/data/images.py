"""From the bytes of an image to the pixels that training sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from galip._deprecated import renamed
from galip.data.protocol import BrokenRecordError

# A JPEG is decoded at no less than this many times the size it will be scaled to, so that the scaling still has
# several pixels to average (Pillow's own choice in `thumbnail`).
_GAP = 2


class Decoded(NamedTuple):
    """A decoded image, and what its file was.

    Attributes:
        image: 8-bit RGB or RGBA.
        kind: Pillow's name of the format, such as "JPEG".
        mode: Pillow's name of the pixel type in the file; "RGBA" for an RGB file with a transparent colour.
        frames: 1 unless it is animated.
    """

    image: Image.Image
    kind: str
    mode: str
    frames: int


def decode_image(file: Path | BinaryIO, name: str, needed: int = 0, channels: int = 3) -> Image.Image:
    """Decode an image to 8-bit RGB or RGBA, EXIF rotation applied.

    Args:
        file: a path, or an opened file.
        name: what an error calls it.
        needed: the shorter side, in pixels, that the image will be scaled to; lets JPEGs be decoded at a half, a
            quarter or an eighth of their size, where at least twice `needed` is left. 0: at full size.
        channels: 3 lays what is transparent on white; 4 keeps the alpha channel, 255 where the image has none.

    Raises:
        BrokenRecordError: this is not a readable image.
    """
    return decode(file, name, needed, channels).image


def decode(file: Path | BinaryIO, name: str, needed: int = 0, channels: int | None = 3) -> Decoded:
    """As `decode_image`, with what the file was.

    Args:
        file, name, needed, channels: as there; channels None: 4 where anything may be transparent, else 3.
    """
    try:
        with Image.open(file) as opened:
            if needed:
                opened.draft(None, (_GAP * needed, _GAP * needed))
            kind, mode, frames = opened.format or "", opened.mode, getattr(opened, "n_frames", 1)
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I;16"):
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            if "A" in image.getbands() or "transparency" in image.info:
                image = image.convert("RGBA")
                mode = "RGBA" if mode == "RGB" else mode
            elif channels != 4:
                image = image.convert("RGB")
            if channels == 4:
                image = image.convert("RGBA")
            elif channels == 3 and image.mode == "RGBA":
                on_white = Image.new("RGBA", image.size, "white")
                on_white.alpha_composite(image)
                image = on_white.convert("RGB")
            return Decoded(image, kind, mode, frames)
    except Exception as error:  # damaged files make Pillow's decoders fail in many ways, and none may end a run
        # Of a format it does not know, Pillow says no more than the file's address in memory.
        why = "unknown format" if isinstance(error, UnidentifiedImageError) else str(error)
        raise BrokenRecordError(
            name, f"not a readable image ({why}); replace it or remove it with its caption"
        ) from error


def resize_and_crop(image: Image.Image, shorter_side: int, size: int, where: tuple[float, float]) -> Image.Image:
    """Scale the shorter side to `shorter_side`, then cut a `size` square.

    Args:
        image: any size.
        shorter_side: in pixels, at least `size`.
        size: side of the result in pixels.
        where: position of the square within what is left over, (x, y) each in [0, 1]; (0.5, 0.5) is the centre.
    """
    width, height = image.size
    scale = shorter_side / min(width, height)
    wanted = (max(shorter_side, round(width * scale)), max(shorter_side, round(height * scale)))
    if wanted != image.size:
        image = image.resize(wanted, Image.Resampling.BICUBIC)
    left, top = (round(share * (side - size)) for share, side in zip(where, image.size, strict=True))
    return image.crop((left, top, left + size, top + size)) if image.size != (size, size) else image


def as_array(image: Image.Image) -> NDArray[np.uint8]:
    """uint8 [C, H, W]: RGB, or RGBA whose colour is white where it is fully transparent.

    What stands under full transparency is never seen and differs with the program that wrote the file; a network that
    learns colour and alpha should not learn that.
    """
    pixels = np.asarray(image, dtype=np.uint8)
    if pixels.shape[2] == 4:
        pixels = np.where(pixels[..., 3:] == 0, np.array([255, 255, 255, 0], np.uint8), pixels)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def __getattr__(name: str) -> Any:
    return renamed(__name__, name)
