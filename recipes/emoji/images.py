"""The prepared emoji as arrays with alpha, and how networks are shown them: moved, zoomed, on a colour."""

from __future__ import annotations

import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from galip.data.shards import INDEX, scan_tar

WHITE_SHARE = 0.25
"""Share of the backgrounds that are white; the others are any colour."""


@dataclass
class EmojiImages:
    """The images of one split: uint8 RGBA [N, S, S, 4], and their records."""

    rgba: NDArray[np.uint8]
    rows: list[dict[str, Any]]

    @property
    def canonical(self) -> list[str]:
        """Each image's canonical caption."""
        return [row["captions"][0] for row in self.rows]

    @property
    def weights(self) -> torch.Tensor:
        """How often training draws each image, [N]."""
        return torch.tensor([float(row["weight"]) for row in self.rows])

    def select(self, numbers: list[int]) -> EmojiImages:
        """Some of the images, in memory."""
        return EmojiImages(np.ascontiguousarray(self.rgba[numbers]), [self.rows[i] for i in numbers])

    def untoned(self) -> list[int]:
        """Numbers of the images without a skin tone: one of each base and style."""
        return [number for number, row in enumerate(self.rows) if row["emoji"] == row["base"]]

    def batch(self, numbers: torch.Tensor) -> torch.Tensor:
        """Images as float [B, 4, S, S] in [0, 1], colours multiplied by alpha."""
        return premultiplied(torch.from_numpy(self.rgba[numbers.numpy()]))


def load_images(folder: Path) -> EmojiImages:
    """Read a split that `prepare.py` wrote; decoded once into `cache/` beside it, from then on mapped into memory."""
    cache = folder.parent / "cache"
    array, records = cache / f"{folder.name}.npy", cache / f"{folder.name}.json"
    if not records.exists():
        if not (folder / INDEX).exists():
            raise FileNotFoundError(f"{folder}/{INDEX}: not there; run recipes/emoji/prepare.py first")
        rows, images = [], []
        for shard in json.loads((folder / INDEX).read_text(encoding="utf-8"))["shards"]:
            with (folder / shard["file"]).open("rb") as tar:
                for place in scan_tar(folder / shard["file"]):
                    tar.seek(place.text_offset)
                    rows.append(json.loads(tar.read(place.text_size)))
                    tar.seek(place.image_offset)
                    images.append(np.asarray(Image.open(io.BytesIO(tar.read(place.image_size))).convert("RGBA")))
        cache.mkdir(exist_ok=True)
        np.save(array, np.stack(images))
        writing = records.with_suffix(f".{os.getpid()}")
        writing.write_text(json.dumps(rows), encoding="utf-8")
        writing.rename(records)
    return EmojiImages(np.load(array, mmap_mode="r"), json.loads(records.read_text(encoding="utf-8")))


def premultiplied(rgba: torch.Tensor) -> torch.Tensor:
    """uint8 [B, S, S, 4] -> float [B, 4, S, S] in [0, 1], colours multiplied by alpha."""
    images = rgba.permute(0, 3, 1, 2).float().div_(255)
    images[:, :3] *= images[:, 3:]
    return images


def jittered(images: torch.Tensor, amount: float, generator: torch.Generator) -> torch.Tensor:
    """Premultiplied images, moved by up to `amount` of their side and zoomed by up to the same."""
    count = len(images)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = 1 + amount * (2 * torch.rand(count, generator=generator) - 1)
    theta[:, :, 2] = 2 * amount * (2 * torch.rand(count, 2, generator=generator) - 1)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="zeros", align_corners=False)


def colours(count: int, generator: torch.Generator) -> torch.Tensor:
    """Background colours [B, 3, 1, 1] in [0, 1]: `WHITE_SHARE` of them white, the others uniform."""
    drawn = torch.rand(count, 3, 1, 1, generator=generator)
    return torch.where(torch.rand(count, 1, 1, 1, generator=generator) < WHITE_SHARE, torch.ones(()), drawn)


def on_colour(images: torch.Tensor, colour: torch.Tensor | float = 1.0) -> torch.Tensor:
    """Premultiplied images [B, 4, S, S] on a colour [B, 3, 1, 1], white by default: [B, 3, S, S] in [-1, 1]."""
    return (images[:, :3] + colour * (1 - images[:, 3:])) * 2 - 1
