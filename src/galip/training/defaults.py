"""The settings of a run whose data is all that its user names: chosen by what the data and the machine are."""

from __future__ import annotations

import re
import statistics
from pathlib import Path
from typing import Any

from galip.data.open import open_source
from galip.data.protocol import BrokenRecordError, ImageSource, spread
from galip.data.streaming import StreamedShards
from galip.errors import InputError
from galip.model_repo.resolve import DEFAULT_MODEL
from galip.training.config import TrainConfig
from galip.training.config_file import overridden

_LOOKED_AT = 64
_SMALL_SIDE = 160
"""Images below it are learnt at 64 px, others at 224 px."""

_FEW = 10_000
"""Below so many images D sees augmented ones, or it would know them by heart."""


def default_config(
    source: str,
    start_from: str = "",
    overrides: tuple[str, ...] | list[str] = (),
    opened: ImageSource | StreamedShards | None = None,
) -> TrainConfig:
    """The configuration of a run on some captioned images.

    Size and CLIP follow the images' shorter sides: 64 px through the bundled model's CLIP, or 224 px through CLIP
    ViT-B/32, which is downloaded. Length, averaging, checkpoints and augmentation follow their number; batch, precision
    and loader processes follow the machine.

    Args:
        source: as `data.source`; also what the run is named after.
        start_from: the model that is trained on, at half the rates and a fifth of the length; its sizes and CLIP then
            count.
        overrides: each "section.field=value", over all that.
        opened: the captioned images, where they are open already.

    Raises:
        InputError: the data is streamed, so that nothing can be counted.
        GalipError: the data cannot be read, or an override is wrong.
    """
    images = opened or open_source(source)
    if isinstance(images, StreamedShards):
        raise InputError(f"{source}: streamed data cannot be looked at beforehand; give a configuration with --config")
    tree: dict[str, Any] = {"name": _name(source, start_from), "data": {"source": source}}
    if start_from:
        tree["model"] = {"start_from": start_from}
        tree["optimizer"] = {"lr_generator": 0.5e-4, "lr_discriminator": 2e-4}
    elif (side := _shorter_side(images)) < _SMALL_SIDE:
        tree["model"] = {"preset": "mini-64", "clip": DEFAULT_MODEL}
    else:
        tree["model"] = {"preset": "b32-224"}
        tree["data"]["shorter_side"] = 256 if side >= 256 else None
    gpu = _has_gpu()
    count = len(images)
    batch = min(64 if gpu else 16, max(2, count // 2 * 2))
    seen = min(max(100 * count, 50_000), 2_000_000) // (5 if start_from else 1)
    tree["schedule"] = {"images": seen, "batch": batch}
    tree["ema"] = {"half_life": min(max(seen // 100, 500), 20_000)}
    tree["checkpoints"] = {"every": max(seen // 40, batch)}
    tree["logging"] = {"every": max(seen // 1000, batch), "grid_every": max(seen // 40, batch)}
    if count < _FEW:
        tree["augmentation"] = {"shift": 0.1, "colour": 0.5}
    if gpu:
        tree["performance"] = {"precision": "bf16"}
        tree["data"]["workers"] = 2
    return overridden(tree, overrides, source)


def _name(source: str, start_from: str) -> str:
    """A run's name, of the last part of where its data lies."""
    name = re.sub(r"[^\w.-]+", "-", Path(source).resolve().name).strip("-.") or "model"
    start = re.sub(r"[^\w.-]+", "-", Path(start_from).name).strip("-.")
    return f"{start}-{name}" if start_from else name


def _shorter_side(images: ImageSource) -> float:
    """Median shorter side in pixels of a few images, evenly spread."""
    sides = []
    for number in spread(_LOOKED_AT, len(images)):
        try:
            sides.append(min(images.read(number)[0].size))
        except BrokenRecordError:
            continue  # counted by the run
    return statistics.median(sides) if sides else 0


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
