"""A small CUB_200_2011, with captions and lists of names as AttnGAN's and DF-GAN's users have them."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
from data.trees import encoded, put
from PIL import Image

BIRDS = (
    "001.Black_footed_Albatross/Black_Footed_Albatross_0046_18",
    "001.Black_footed_Albatross/Black_Footed_Albatross_0009_34",
    "002.Laysan_Albatross/Laysan_Albatross_0002_1027",
)
BOXES = ("60.0 27.0 32.0 20.0", "1.9 2.0 20.0 40.9", "10.0 70.0 100.0 30.0")
SIZE = (160, 120)


def ramp() -> Image.Image:
    """An image that says where a pixel is: red is x, green is y; smooth, so that JPEG keeps it to a level or two."""
    x, y = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
    return Image.fromarray(np.stack([x, y, 0 * x], axis=-1).astype(np.uint8))


def write_cub(root: Path) -> Path:
    lines = [f"{number} {name}.jpg" for number, name in enumerate(BIRDS, 1)]
    put(root / "images.txt", "\n".join(lines) + "\n")
    put(root / "bounding_boxes.txt", "".join(f"{number} {box}\n" for number, box in enumerate(BOXES, 1)))
    put(root / "train_test_split.txt", "1 0\n2 1\n3 1\n")
    for name in BIRDS:
        put(root / "images" / f"{name}.jpg", encoded(ramp(), "JPEG", quality=100, subsampling=0))
    return root


def write_texts(root: Path) -> Path:
    for name in BIRDS:
        lines = [f"this bird is number {number} of {name[:3]}" for number in range(10)]
        put(root / f"{name}.txt", "\n".join(lines) + "\n")
    return root


def write_names(root: Path, **parts: list[str]) -> Path:
    for part, names in parts.items():
        put(root / part / "filenames.pickle", pickle.dumps(names, protocol=2))
    return root
