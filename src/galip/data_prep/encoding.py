"""An image as it goes into a shard: checked, cut, scaled down if asked for, and encoded only where it must be."""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from PIL import Image

from galip._deprecated import renamed
from galip.data.images import decode, decode_image
from galip.data.protocol import BrokenRecordError
from galip.errors import GalipError, InputError

UNREADABLE, TOO_SMALL, OUTSIDE = "unreadable", "too small", "box outside the image"

_KEPT = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
_LOSSLESS = frozenset({"PNG", "BMP", "TIFF", "GIF", "PPM", "DIB", "TGA", "ICO"})


@dataclass(frozen=True)
class ImageOptions:
    """What is asked of images.

    Args:
        shorter_side: scale images down so that their shorter side has this many pixels; smaller ones, and all
            without it, keep their size.
        min_side: leave images out whose shorter side, after cutting, has fewer pixels.
        quality: of JPEG where an image is encoded again, 1 to 100.
        keep_alpha: keep alpha channels; else what is transparent is laid on white.

    Raises:
        InputError: a value is out of range, or `min_side` is above `shorter_side`.
    """

    shorter_side: int | None = None
    min_side: int = 1
    quality: int = 95
    keep_alpha: bool = False

    def __post_init__(self) -> None:
        if self.shorter_side is not None and self.shorter_side < 1:
            raise InputError(f"--shorter-side {self.shorter_side}: give a number of pixels")
        if self.min_side < 1:
            raise InputError(f"--min-side {self.min_side}: give a number of pixels")
        if not 1 <= self.quality <= 100:
            raise InputError(f"--quality {self.quality}: give a JPEG quality from 1 to 100")

    def recorded(self) -> dict[str, Any]:
        """The options as JSON."""
        found = asdict(self)
        if not found["keep_alpha"]:
            del found["keep_alpha"]  # as it was before there was this option
        return found


class UnusableError(GalipError):
    """An image is left out; `reason` is one of the reasons that a report counts."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Encoded(NamedTuple):
    """An image's bytes, their suffix, and whether they are the original's."""

    content: bytes
    suffix: str
    kept: bool


def check(content: bytes, options: ImageOptions) -> None:
    """Decode an image that stays as it is.

    Raises:
        UnusableError: it cannot be read, or is too small.
    """
    try:
        image = decode_image(io.BytesIO(content), "image")
    except BrokenRecordError as error:
        raise UnusableError(UNREADABLE) from error
    if min(image.size) < options.min_side:
        raise UnusableError(TOO_SMALL)


def encode(content: bytes, options: ImageOptions, box: tuple[int, int, int, int] | None = None) -> Encoded:
    """Check an image by decoding all of it, and give the bytes to store.

    The original bytes are kept where they are an RGB JPEG, PNG or WebP (or RGBA, where alpha is kept) that needs no
    cutting or scaling. Otherwise an image of a lossless format, or with alpha that is kept, becomes a PNG and any other
    a JPEG of full colour resolution.

    Args:
        content: of the file.
        options: what is asked of images.
        box: (left, upper, right, lower) in pixels; clipped at the image's borders.

    Raises:
        UnusableError: it cannot be read, is too small, or lies outside the box.
    """
    try:
        found = decode(io.BytesIO(content), "image", channels=None if options.keep_alpha else 3)
    except BrokenRecordError as error:
        raise UnusableError(UNREADABLE) from error
    image, kind = found.image, found.kind
    plain = found.frames == 1 and found.mode == image.mode and found.mode in ("RGB", "RGBA")
    if box is not None:
        left, upper = max(0, box[0]), max(0, box[1])
        right, lower = min(image.width, box[2]), min(image.height, box[3])
        if left >= right or upper >= lower:
            raise UnusableError(OUTSIDE)
        image = image.crop((left, upper, right, lower))
    if min(image.size) < options.min_side:
        raise UnusableError(TOO_SMALL)
    scaled = options.shorter_side is not None and min(image.size) > options.shorter_side
    if plain and kind in _KEPT and box is None and not scaled:
        return Encoded(content, _KEPT[kind], kept=True)
    if scaled and options.shorter_side is not None:
        scale = options.shorter_side / min(image.size)
        wanted = [max(options.shorter_side, round(side * scale)) for side in image.size]
        image = image.resize((wanted[0], wanted[1]), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    if kind in _LOSSLESS or image.mode == "RGBA":
        image.save(buffer, "PNG")
        return Encoded(buffer.getvalue(), "png", kept=False)
    # 4:4:4: halved colour resolution shows at the sizes that models are trained on.
    image.save(buffer, "JPEG", quality=options.quality, subsampling=0)
    return Encoded(buffer.getvalue(), "jpg", kept=False)


def __getattr__(name: str) -> Any:
    return renamed(__name__, name)
