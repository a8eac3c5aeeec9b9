"""From the bytes of an image to the pixels that training sees."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
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

MAX_PIXELS = 1 << 27
"""Images of more pixels are broken: no image shall cost more than a few hundred megabytes."""
MAX_SIDE = 1 << 14
"""Largest shorter side in pixels that images are scaled to."""
RELEASED_SIDE, RELEASED_CROP = 304, 256
"""Shorter side, and side of the square that is cut, in pixels, of the release's view of training images."""
_MAX_SCALED = 1 << 26  # pixels
_STRIP = 1 << 22  # pixels
_PNG = b"\x89PNG\r\n\x1a\n"
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "MPO", "PPM", "TGA", "ICO", "JPEG2000")


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
        try:
            return _decoded(file, needed, channels)
        except ValueError:  # what Pillow raises of a PNG with more text than it will read
            content = file.read_bytes() if isinstance(file, Path) else (file.seek(0), file.read())[1]
            if not content.startswith(_PNG):
                raise
            return _decoded(io.BytesIO(_without_text(content)), needed, channels)
    except Exception as error:  # damaged files make Pillow's decoders fail in many ways, and none may end a run
        # Of a format it does not know, Pillow says no more than the file's address in memory.
        why = "unknown format" if isinstance(error, UnidentifiedImageError) else str(error) or type(error).__name__
        raise BrokenRecordError(
            name, f"not a readable image ({why}); replace it or remove it with its caption"
        ) from error


def _decoded(file: Path | BinaryIO, needed: int, channels: int | None) -> Decoded:
    with _opened(file) as opened:
        if needed:
            opened.draft(None, (_GAP * needed, _GAP * needed))
        if opened.width * opened.height > MAX_PIXELS:
            raise ValueError(f"{opened.width} x {opened.height} pixels; at most {MAX_PIXELS:,} are read")
        kind, mode, frames = opened.format or "", opened.mode, getattr(opened, "n_frames", 1)
        image = ImageOps.exif_transpose(opened)
        if image.mode.startswith("I;16") or (image.mode == "I" and kind in ("PNG", "PPM")):
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        elif image.mode in ("I", "F"):
            raise ValueError("32-bit pixels, whose range nothing says; save it with 8 or 16 bits")
        if "A" in image.getbands() or "transparency" in image.info:
            image = image.convert("RGBA")
            mode = "RGBA" if mode == "RGB" else mode
        elif channels != 4:
            image = image.convert("RGB")
        if channels == 4:
            image = image.convert("RGBA")
        elif channels == 3 and image.mode == "RGBA":
            image = _on_white(image)
        return Decoded(image, kind, mode, frames)


@contextmanager
def _opened(file: Path | BinaryIO) -> Iterator[Image.Image]:
    """An image of a format whose reader runs no other program (as Pillow's for PostScript does)."""
    Image.init()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\b")  # of metadata, and of sizes that MAX_PIXELS bounds
        with Image.open(file, formats=[kind for kind in _FORMATS if kind in Image.OPEN]) as opened:
            yield opened


def _on_white(image: Image.Image) -> Image.Image:
    """RGBA laid on white, in strips, so that a large image needs no second of its size with four channels."""
    result = Image.new("RGB", image.size)
    rows = max(1, _STRIP // image.width)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        on_white = Image.new("RGBA", strip.size, "white")
        on_white.alpha_composite(strip)
        result.paste(on_white.convert("RGB"), (0, top))
    return result


def _without_text(png: bytes) -> bytes:
    """A PNG without texts and colour profile, which may be larger than Pillow reads."""
    kept, start = [_PNG], len(_PNG)
    while start + 8 <= len(png):
        length, kind = struct.unpack(">I4s", png[start : start + 8])
        end = start + 12 + length
        if kind not in (b"tEXt", b"zTXt", b"iTXt", b"iCCP"):
            kept.append(png[start:end])
        start = end
    return b"".join(kept)


def resize_and_crop(
    image: Image.Image,
    shorter_side: int,
    size: int,
    where: tuple[float, float],
    resampling: Image.Resampling = Image.Resampling.BICUBIC,
) -> Image.Image:
    """Scale the shorter side to `shorter_side`, then cut a `size` square.

    Args:
        image: any size.
        shorter_side: in pixels, at least `size`.
        size: side of the result in pixels.
        where: position of the square within what is left over, (x, y) each in [0, 1]; (0.5, 0.5) is the centre.
        resampling: how it is scaled.
    """
    width, height = image.size
    scale = shorter_side / min(width, height)
    wanted = (max(shorter_side, round(width * scale)), max(shorter_side, round(height * scale)))
    left, top = (round(share * (side - size)) for share, side in zip(where, wanted, strict=True))
    if wanted[0] * wanted[1] > _MAX_SCALED:  # a line of 30,000 x 1 pixels, say: only what is cut from it is scaled
        x, y = width / wanted[0], height / wanted[1]
        box = (left * x, top * y, min(width, (left + size) * x), min(height, (top + size) * y))
        return image.resize((size, size), resampling, box)
    if wanted != image.size:
        image = image.resize(wanted, resampling)
    return image.crop((left, top, left + size, top + size)) if image.size != (size, size) else image


def released_view(image: Image.Image, size: int, where: tuple[float, float]) -> Image.Image:
    """A training image as GALIP's authors show it to CLIP: a square of 256 px, brought to `size` by nearest neighbour.

    Args:
        image: any size; its shorter side is scaled to 304 px, bilinear.
        size: side of the result in pixels; 224 in the release.
        where: position of the square, as for `resize_and_crop`.
    """
    square = resize_and_crop(image, RELEASED_SIDE, RELEASED_CROP, where, Image.Resampling.BILINEAR)
    places = np.arange(size) * RELEASED_CROP // size  # torch's nearest, which is not Pillow's
    return Image.fromarray(np.asarray(square)[places[:, None], places])


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
