"""A toy data set of coloured squares and a run small enough for a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tiny
from models import tiny as parts
from PIL import Image

from galip.training.config import TrainConfig

CAPTIONS = {"red heart": (220, 30, 30), "sleepy cat": (60, 60, 60), "rain": (40, 80, 220), "two birds": (240, 220, 60)}


def pictures(folder: Path, copies: int = 3) -> Path:
    """`copies` of each caption's picture, a plain square on white, as metadata.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for caption, colour in CAPTIONS.items():
        for copy in range(copies):
            picture = Image.new("RGB", (32, 32), "white")
            picture.paste(colour, (6 + copy, 6, 26 + copy, 26))
            name = f"{caption.replace(' ', '-')}-{copy}.png"
            picture.save(folder / name)
            rows.append({"file_name": name, "captions": [caption, f"the {caption}"]})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def clip(folder: Path) -> Path:
    """A tiny random CLIP (inside a model folder)."""
    return tiny.save(folder)


def config(data: Path, clip_folder: Path, **run: Any) -> TrainConfig:
    """Six steps of a batch of four on the toy data, unless `run` says otherwise."""
    generator = parts.generator().config
    discriminator = parts.discriminator().config
    tree = {
        "name": "toy",
        "model": {
            "preset": "mini-64",
            "clip": str(clip_folder),
            "generator": {key: value for key, value in generator.items() if not key.startswith("_")},
            "discriminator": {key: value for key, value in discriminator.items() if not key.startswith("_")},
        },
        "data": {"source": str(data)},
        "loss": {"shift": 0.07, "penalty_k": run.pop("penalty_k", 2.0), "similarity": run.pop("similarity", 4.0)},
        "optimizer": run.pop("optimizer", {}),
        "run": {"images": 24, "batch": 4, "device": "cpu", "log_every": 4, "threads": 1} | run,
    }
    return TrainConfig.model_validate(tree)
