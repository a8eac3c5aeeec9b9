"""Sets of images that an evaluation reads: captioned ones, and plain folders as the tools for FID read them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from PIL import Image

from galip.data.open import open_source
from galip.data.protocol import BrokenRecordError
from galip.data.shards import INDEX, tars_in
from galip.data.streaming import StreamedShards
from galip.errors import GalipError, InputError

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""Of images in plain folders: pytorch-fid's."""


class ImageSet(Protocol):
    """Images with numbers, what an evaluation asks of `galip.data.protocol.ImageSource`."""

    def __len__(self) -> int:
        """How many images there are."""

    def read(self, number: int) -> tuple[Image.Image, tuple[str, ...]]:
        """An image in 8-bit RGB, and its captions; raises BrokenRecordError."""

    def captions_at(self, number: int) -> tuple[str, ...]:
        """An image's captions."""

    def name_of(self, number: int) -> str:
        """What a message calls the image."""

    @property
    def state(self) -> str:
        """Like `digest`, and another one when a file was written anew."""

    @property
    def digest(self) -> str:
        """Hexadecimal hash of what the images are."""


class ImageFolder:
    """All images of a folder and of the folders in it, by name, without captions.

    They are read as pytorch-fid and clean-fid do: an alpha channel is dropped, a rotation in EXIF is not applied.

    Args:
        folder: the folder.

    Raises:
        GalipError: it is not there, or holds no image.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not folder.is_dir():
            raise GalipError(f"{folder}: no such folder; name a folder of images")
        self.names = sorted(_image_names(folder))
        if not self.names:
            raise GalipError(f"{folder}: no image in it ({', '.join(sorted(SUFFIXES))}); name a folder of images")

    def __len__(self) -> int:
        return len(self.names)

    def read(self, number: int) -> tuple[Image.Image, tuple[str, ...]]:
        """An image in 8-bit RGB, and no captions."""
        path = self.folder / self.names[number]
        try:
            with Image.open(path) as image:
                return image.convert("RGB"), ()
        except Exception as error:  # damaged files make Pillow's decoders fail in many ways
            raise BrokenRecordError(str(path), f"not a readable image ({' '.join(str(error).split())})") from error

    def captions_at(self, number: int) -> tuple[str, ...]:
        """None: a folder of images has no captions."""
        return ()

    def name_of(self, number: int) -> str:
        """Path of the image."""
        return str(self.folder / self.names[number])

    @property
    def digest(self) -> str:
        """SHA-256 of the images' names and sizes in bytes."""
        return self._hash([[os.fsencode(name).hex(), self._stat(name).st_size] for name in self.names])

    @property
    def state(self) -> str:
        """`digest` with the times at which the images were written."""
        return self._hash([self.digest, *(self._stat(name).st_mtime_ns for name in self.names)])

    def _stat(self, name: str) -> os.stat_result:
        try:
            return (self.folder / name).stat()
        except OSError as error:
            raise GalipError(f"{self.folder / name}: cannot be read ({error.strerror or error})") from error

    @staticmethod
    def _hash(facts: list[object]) -> str:
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _image_names(folder: Path) -> Iterator[str]:
    for top, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        for name in files:
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES:
                yield os.path.relpath(os.path.join(top, name), folder)


def open_captioned(name: str, called: str) -> ImageSet:
    """Captioned images that can be read in any order.

    Args:
        name: what `galip.data.open.open_source` takes.
        called: what an error calls them.

    Raises:
        InputError: they are streamed.
        GalipError: as `open_source`.
    """
    source = open_source(name)
    if isinstance(source, StreamedShards):
        raise InputError(
            f"{called} {name}: streamed shards have no order and no number; download them, and name the folder"
        )
    return source


def open_images(name: str, called: str) -> ImageSet:
    """Images of any kind: a plain folder without a look at captions; shards as `open_captioned`.

    Raises:
        InputError, GalipError: as `ImageFolder` and `open_captioned`.
    """
    path = Path(name).expanduser()
    if path.is_dir() and not (path / INDEX).exists() and not tars_in(path):
        return ImageFolder(path)
    return open_captioned(name, called)
