"""Images on disk: file names, files that say how they were made, and their size in pixels."""

from __future__ import annotations

import hashlib
import io
import json
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from galip import _deprecated
from galip.errors import InputError
from galip.utils.atomic import write_bytes

_SLUG_LENGTH = 40
_DIGEST_LENGTH = 12
_IMAGE_DESCRIPTION = 0x010E  # an EXIF tag
_MAX_EXIF = 60_000  # JPEG ends at 64 KiB

ImageFormat = Literal["png", "webp", "jpeg"]
FORMATS: dict[str, ImageFormat] = {".png": "png", ".webp": "webp", ".jpg": "jpeg", ".jpeg": "jpeg"}
"""Ending of a file's name -> format of an image."""

SUFFIXES: dict[ImageFormat, str] = {"png": ".png", "webp": ".webp", "jpeg": ".jpg"}
"""Format -> the ending that files of it are given."""

QUALITY = 90
"""Of WebP and JPEG, out of 100."""

Resampling = Literal["lanczos", "nearest"]
_RESAMPLING = {"lanczos": Image.Resampling.LANCZOS, "nearest": Image.Resampling.NEAREST}


def image_name(prompt: str, seed: int, settings: Mapping[str, object], format: ImageFormat = "png") -> str:
    """The file name of an image: the same for the same prompt, seed and settings, and for no other.

    Lower-case ASCII, well below 100 characters, so that it is safe in any file system, also where case or the form of
    accents is lost: the beginning of the prompt for people, the seed, a digest of everything for uniqueness.

    Args:
        prompt: any text.
        seed: the image's seed.
        settings: whatever else the image depends on, as JSON values: weights, truncation.
        format: of the file, which its ending tells.
    """
    text = unicodedata.normalize("NFKD", prompt[: 4 * _SLUG_LENGTH]).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", text).strip("-")
    if len(slug) > _SLUG_LENGTH:
        cut = slug[: _SLUG_LENGTH + 1].rsplit("-", 1)[0]  # at the end of a word, unless it is all one word
        slug = cut[:_SLUG_LENGTH]
    content = json.dumps([prompt, seed, dict(settings)], sort_keys=True, ensure_ascii=True)
    digest = hashlib.sha256(content.encode()).hexdigest()[:_DIGEST_LENGTH]
    return f"{slug or 'caption'}-s{seed}-{digest}{SUFFIXES[format]}"


def encode_image(
    image: Image.Image, format: ImageFormat, texts: Mapping[str, str] | None = None, quality: int = QUALITY
) -> bytes:
    """An image as a file's bytes.

    Args:
        image: the image.
        format: "png", "webp" or "jpeg".
        texts: what is written into the file beside the pixels, for example prompt and seed: PNG's iTXt, or JSON in
            EXIF's description, which is left out where it would be too long for that.
        quality: of WebP and JPEG, 0 to 100.
    """
    file = io.BytesIO()
    if format == "png":
        info = PngInfo()
        for key, value in (texts or {}).items():
            info.add_itxt(key, value)
        # Level 1 is several times faster than the usual 6, for files a few per cent larger.
        image.save(file, "PNG", pnginfo=info, compress_level=1)
    else:
        exif = Image.Exif()
        description = json.dumps(dict(texts or {}))
        if texts and len(description) <= _MAX_EXIF:
            exif[_IMAGE_DESCRIPTION] = description
        image.save(file, format.upper(), quality=quality, exif=exif)
    return file.getvalue()


def save_image(image: Image.Image, path: Path, texts: Mapping[str, str] | None = None, quality: int = QUALITY) -> None:
    """Write an image so that `path` holds either all of it or nothing.

    Args:
        image: the image.
        path: where it goes, in the format of its ending: .png, .webp, .jpg or .jpeg. A file there is replaced. A write
            that was killed leaves a hidden file, which `galip.utils.atomic.clear_folder` removes.
        texts, quality: as for `encode_image`.

    Raises:
        InputError: the name has another ending.
        OSError: it cannot be written.
    """
    content = encode_image(image, format_of(path), texts, quality)
    write_bytes(path, content, durable=False)


def format_of(path: Path) -> ImageFormat:
    """The format that a file's ending names.

    Raises:
        InputError: it names none of ours.
    """
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        raise InputError(f"{path}: an image file is written; name it {', '.join(FORMATS)}") from None


def read_texts(path: Path) -> dict[str, str]:
    """What `save_image` wrote into a file beside the pixels; empty where there is nothing of that kind.

    Raises:
        OSError: it is not an image that can be read.
    """
    with Image.open(path) as image:
        texts = getattr(image, "text", None)  # only PNG's have any
        if texts is None:
            try:
                texts = json.loads(image.getexif().get(_IMAGE_DESCRIPTION, "{}"))
            except ValueError:
                texts = {}
    return {str(key): str(value) for key, value in texts.items()} if isinstance(texts, dict) else {}


def resized(image: Image.Image, side: int | None, resampling: Resampling = "lanczos") -> Image.Image:
    """A square image at another size, in RGB.

    Args:
        image: the image.
        side: wanted side in pixels; None: as it is.
        resampling: "lanczos" is smooth, "nearest" shows the pixels that were generated.
    """
    image = image.convert("RGB")
    if side is None or image.size == (side, side):
        return image
    return image.resize((side, side), _RESAMPLING[resampling])


def __getattr__(name: str) -> Any:
    return _deprecated.renamed(__name__, name)
