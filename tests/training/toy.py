"""A toy data set of coloured squares and a run small enough for a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tiny
from diffusers.configuration_utils import ConfigMixin
from models import tiny as parts
from PIL import Image

from galip.data.loader import Loader
from galip.training import run
from galip.training.config import TrainConfig
from galip.training.config_file import parse_config
from galip.training.loop import Trainer
from galip.training.text_vectors import CaptionVectors

CAPTIONS = {"red heart": (220, 30, 30), "sleepy cat": (60, 60, 60), "rain": (40, 80, 220), "two birds": (240, 220, 60)}


def open_run(*arguments: Any, graphs: bool = False, **named: Any) -> Trainer:
    """A run whose model gets no graphs unless they are asked for: exporting takes longer than such a run."""
    return run.open_run(*arguments, graphs=graphs, **named)


def pictures(folder: Path, copies: int = 3, alpha: bool = False) -> Path:
    """`copies` of each caption's image, a plain square on white or (`alpha`) on nothing, as metadata.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for caption, colour in CAPTIONS.items():
        for copy in range(copies):
            picture = Image.new("RGBA", (32, 32), (0, 0, 0, 0)) if alpha else Image.new("RGB", (32, 32), "white")
            picture.paste(colour, (6 + copy, 6, 26 + copy, 26))
            name = f"{caption.replace(' ', '-')}-{copy}.png"
            picture.save(folder / name)
            rows.append({"file_name": name, "captions": [caption, f"the {caption}"]})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def clip(folder: Path) -> Path:
    """A tiny random CLIP (inside a model folder)."""
    return tiny.save(folder)


def config(source: Path, clip_folder: Path, /, **sections: Any) -> TrainConfig:
    """Six steps of a batch of four on the toy data; `sections` say what is otherwise."""
    tree: dict[str, Any] = {
        "name": "toy",
        "model": {"preset": "mini-64", "clip": str(clip_folder)},
        "generator": _arguments(parts.generator()),
        "discriminator": _arguments(parts.discriminator()),
        "data": {"source": str(source)},
        "augmentation": {"shift": 0.07},
        "schedule": {"images": 24, "batch": 4},
        "logging": {"every": 4},
        "performance": {"device": "cpu", "threads": 1},
    }
    for name, values in sections.items():
        tree[name] = {**tree.get(name, {}), **values} if isinstance(values, dict) else values
    return parse_config(tree, "toy")


def change(config: TrainConfig, **sections: Any) -> TrainConfig:
    """The same run with other values in some sections."""
    tree = config.model_dump(mode="json")
    for name, values in sections.items():
        tree[name] = {**tree[name], **values} if isinstance(values, dict) else values
    return parse_config(tree, "toy")


def trained_on_from(config: TrainConfig, model: Path) -> TrainConfig:
    """The same run, started from a model folder: sizes and CLIP are the model's."""
    tree = config.model_dump(mode="json") | {"generator": {}, "discriminator": {}}
    tree["model"] |= {"start_from": str(model), "clip": ""}
    return parse_config(tree, "toy")


def batches(trainer: Trainer) -> Loader:
    """The batches of a run from its first."""
    return trainer.data.loader(trainer.state.step.sample_rng, 0)


def caption_vectors(trainer: Trainer, cached: bool = True) -> CaptionVectors:
    """The vectors of a run's captions."""
    return trainer.data.caption_vectors(trainer.state.networks, trainer.state.config, cached)


def _arguments(network: ConfigMixin) -> dict[str, Any]:
    return {key: value for key, value in network.config.items() if not key.startswith("_")}
