"""Small images, and the records of prepared shards."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from galip.data.shards import INDEX, RECORDS_SUFFIX, Place


@dataclass
class Found:
    """One record of a shard folder."""

    key: str
    suffix: str
    content: bytes
    fields: dict[str, Any]

    @property
    def image(self) -> Image.Image:
        return Image.open(io.BytesIO(self.content))

    @property
    def captions(self) -> list[str]:
        return self.fields["captions"]


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(number: int, size: tuple[int, int] = (40, 30), kind: str = "JPEG") -> bytes:
    """An image that no compression makes small, another for each number."""
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return encoded(Image.fromarray(pixels), kind)


def put(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def captioned(root: Path, count: int, size: tuple[int, int] = (40, 30)) -> Path:
    """A folder of JPEGs of noise with one caption each."""
    for number in range(count):
        put(root / f"{number:03d}.jpg", noise(number, size))
        put(root / f"{number:03d}.txt", f"noise number {number}\n")
    return root


def records_of(folder: Path) -> list[Found]:
    """The records by the files of places, in the order of the index."""
    found = []
    for shard in json.loads((folder / INDEX).read_text())["shards"]:
        content = (folder / shard["file"]).read_bytes()
        name = shard["file"].removesuffix(".tar") + RECORDS_SUFFIX
        for place in (Place(*row) for row in json.loads((folder / name).read_text())["records"]):
            image = content[place.image_offset :][: place.image_size]
            text = content[place.text_offset :][: place.text_size]
            found.append(Found(place.key, place.image_suffix, image, json.loads(text)))
    return found


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path inside."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
