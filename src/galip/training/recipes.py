"""Recipes: a whole training from a folder of captioned images, `galip train DIR --recipe small`.

A recipe is a configuration that is worked out from the data, what it prepares (`galip.training.preparation`), the run
itself, and what is made of its best checkpoint.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from galip.data.open import open_source
from galip.data.protocol import BrokenRecordError, ImageSource, spread
from galip.data.streaming import StreamedShards
from galip.errors import InputError
from galip.training.checkpoint import list_checkpoints
from galip.training.config import TrainConfig
from galip.training.config_file import overridden
from galip.training.finishing import finish
from galip.training.preparation import is_prepared, prepare
from galip.training.run import open_run
from galip.training.run_folder import RunFolder
from galip.utils.progress import Progress, no_progress

logger = logging.getLogger(__name__)

_CLIP_VISITS, _EYE_VISITS, _RECONSTRUCT_VISITS, _SHARPEN_VISITS = 60, 40, 60, 25
"""How often each image is seen in each stage; a reconstruction needs about 60."""

_MIN_IMAGES = 12_800
_TRIED = 32


def recipe_config(recipe: str, data: str, out: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """The configuration that a recipe makes of a folder of captioned images.

    Args:
        recipe: its name, a key of `RECIPES`.
        data: folder, shard folder or pattern of local shards.
        out: the run folder, where CLIP and eye go, too.
        overrides: "section.field=value", which win.

    Raises:
        InputError: there is no such recipe, or the data is streamed.
        GalipError: the data cannot be read, or an override is wrong.
    """
    if recipe not in RECIPES:
        raise InputError(f"--recipe {recipe}: there is no such recipe; known: {', '.join(RECIPES)}")
    source = open_source(data)
    if isinstance(source, StreamedShards):
        raise InputError(f"--recipe {recipe} visits each image many times, and {data} is streamed; fetch it first")
    return overridden(RECIPES[recipe](data, source, out), overrides, f"the recipe {recipe}")


def fit_recipe(
    config: TrainConfig, out: Path, resume: str | None = None, progress: Progress = no_progress
) -> Path | None:
    """Train by a recipe: what must be prepared, the run, and its best checkpoint as a model folder.

    Args:
        config: as `recipe_config` makes it.
        out: the run folder.
        resume: go on where it was stopped, in whatever stage; "latest", or a checkpoint of the run.
        progress: told how many images have been seen in each stage.

    Returns:
        The model folder; None where it was stopped on the way.

    Raises:
        InputError: something of a run is in `out` already, and `resume` is None.
        GalipError: as `galip.training.run.open_run`.
    """
    begun = bool(list_checkpoints(out / "checkpoints"))
    if resume is None and (begun or (out.is_dir() and any(out.iterdir()))):
        raise InputError(f"{out}: a run is there already; add --resume latest, or another --out")
    names = [*([] if is_prepared(config) else ["clip", "eye"]), *(stage.name for stage in config.stages)]
    logger.info("stages: %s; each says how long it will take once it has begun", ", ".join(names))
    if not is_prepared(config):
        with RunFolder(out).owned():
            if not prepare(config, progress):
                return None
    trainer = open_run(config, out, resume if begun else None, progress)
    for line in trainer.differences:
        logger.warning("differs from the checkpoint's configuration: %s", line)
    model = trainer.fit()
    if trainer.state.seen < config.schedule.images:
        return None
    return finish(trainer, model)


# ---- the recipes


def _small(data: str, source: ImageSource, out: Path) -> dict[str, Any]:
    """A few thousand images of one kind, such as icons, sprites, flags, stamps, at 64 px, without a GPU."""
    count = len(source)

    def images(visits: int, batch: int) -> int:
        return -(-max(visits * count, _MIN_IMAGES) // batch) * batch

    stages = [
        {
            "name": "reconstruct",
            "loss": {"objective": "reconstruct", "noise": "open"},
            "optimizer": {"generator": "muon", "lr_generator": 1e-3, "betas": [0.9, 0.99]},
            "schedule": {"images": images(_RECONSTRUCT_VISITS, 64), "batch": 64, "warmup": 6400, "decay": "cosine"},
            "data": {"canonical": 0.6},
        },
        {
            "name": "sharpen",
            "schedule": {"images": images(_SHARPEN_VISITS, 32), "batch": 32},
        },
    ]
    total = sum(stage["schedule"]["images"] for stage in stages)  # type: ignore[index]
    return {
        "name": re.sub(r"[^\w.-]+", "-", out.name).strip("-.") or "small",
        "model": {"preset": "mini-64", "clip": str(out / "clip")},
        "clip_training": {"images": images(_CLIP_VISITS, 128)},
        "eye": {"images": images(_EYE_VISITS, 128)},
        # Shape has to come through the bridge and the prompts, so both are wider here than the preset's, and the
        # bridge hears the caption.
        "generator": {
            "bridge_input": "condition",
            "bridge_channels": 96,
            "bridge_hidden": 64,
            "bridge_blocks": 4,
            "prompt_blocks": [0, 1, 2, 3],
            "stem_channels": 160,
            "block_channels": [128, 64, 24],
            "image_channels": 4 if _has_alpha(source) else 3,
        },
        "data": {"source": data},
        "augmentation": {"shift": 0.06},
        # Strong enough that what has been reconstructed is not forgotten.
        "loss": {"paired": 200, "similarity_ramp": images(_SHARPEN_VISITS, 32) // 4},
        "optimizer": {"lr_generator": 1e-4, "lr_discriminator": 2e-4},
        "schedule": {"batch": 32},
        "ema": {"half_life": 5000},
        "stages": stages,
        "checkpoints": {"every": max(1000, total // 40)},
        "logging": {"every": max(500, total // 200), "grid_every": max(1000, total // 40)},
        "evaluation": {
            "every": max(1000, total // 20),
            "captions": 500,
            "eye": str(out / "eye"),
            "keep_best": "eye_score",
        },
    }


RECIPES: dict[str, Callable[[str, ImageSource, Path], dict[str, Any]]] = {"small": _small}
"""What each makes of (data.source, the data, the run folder): a configuration as plain values."""


def _has_alpha(source: ImageSource) -> bool:
    """Whether some of a few images have a transparent pixel."""
    for number in spread(_TRIED, len(source)):
        try:
            image, _ = source.read(number, 0, 4)
        except BrokenRecordError:
            continue
        if int(np.asarray(image)[..., 3].min()) < 255:
            return True
    return False
