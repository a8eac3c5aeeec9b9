"""Images on disk: file names, PNG files that say how they were made, and their size in pixels."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from galip import _deprecated
from galip.utils.atomic import atomic_file

_SLUG_LENGTH = 40
_DIGEST_LENGTH = 12

Resampling = Literal["lanczos", "nearest"]
_RESAMPLING = {"lanczos": Image.Resampling.LANCZOS, "nearest": Image.Resampling.NEAREST}


def image_name(caption: str, seed: int, settings: Mapping[str, object]) -> str:
    """The file name of an image: the same for the same caption, seed and settings, and for no other.

    Lower-case ASCII, well below 100 characters, so that it is safe in any file system, also where case or the form of
    accents is lost: the beginning of the caption for people, the seed, a digest of everything for uniqueness.

    Args:
        caption: any text.
        seed: the image's seed.
        settings: whatever else the image depends on, as JSON values: weights, truncation.
    """
    text = unicodedata.normalize("NFKD", caption[: 4 * _SLUG_LENGTH]).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", text).strip("-")
    if len(slug) > _SLUG_LENGTH:
        cut = slug[: _SLUG_LENGTH + 1].rsplit("-", 1)[0]  # at the end of a word, unless it is all one word
        slug = cut[:_SLUG_LENGTH]
    content = json.dumps([caption, seed, dict(settings)], sort_keys=True, ensure_ascii=True)
    digest = hashlib.sha256(content.encode()).hexdigest()[:_DIGEST_LENGTH]
    return f"{slug or 'caption'}-s{seed}-{digest}.png"


def save_png(image: Image.Image, path: Path, texts: Mapping[str, str] | None = None) -> None:
    """Write an image so that `path` holds either all of it or nothing.

    Args:
        image: the image.
        path: where it goes; a file there is replaced. A write that was killed leaves a hidden file, which
            `galip.utils.atomic.clear_folder` removes.
        texts: what is written into the file beside the pixels (iTXt, so any language), for example prompt and seed.

    Raises:
        OSError: it cannot be written.
    """
    info = PngInfo()
    for key, value in (texts or {}).items():
        info.add_itxt(key, value)
    with atomic_file(path, durable=False) as unfinished:
        # Level 1 is several times faster than the usual 6, for files a few per cent larger.
        image.save(unfinished, format="PNG", pnginfo=info, compress_level=1)


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
