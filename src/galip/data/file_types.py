"""Which files are images, by the ends of their names."""

from __future__ import annotations

IMAGE_TYPES = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "avif", "jfif")
"""Suffixes of images that are read, in lower case; of several with one name in a tar the first counts."""

UNUSABLE_TYPES = frozenset(
    "heic heif hif jxl jp2 j2k jpx svg psd xcf eps dng raw cr2 cr3 nef arw orf rw2 raf tga ico icns exr hdr dds "
    "ppm pgm pbm pnm".split()
)
"""Suffixes of images that are not read; they are left out and named."""

_MACOS = "__MACOSX"


def is_litter(path: str) -> bool:
    """Whether a file, or a folder, is what macOS leaves beside the files that a person knows of."""
    return any(part.startswith("._") or part == _MACOS for part in path.split("/"))
