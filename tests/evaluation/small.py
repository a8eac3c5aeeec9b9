"""A small evaluation: images with captions, a tiny model, and a tiny CLIP that is not the model's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from galip.distributed import Distributed
from galip.evaluation.protocols import Protocol, get_protocol
from galip.evaluation.references import References
from galip.evaluation.result import Flag, Result

CAPTIONS = ("red heart", "sleepy cat", "the rain", "two birds", "a kitten", "cat in rain", "heart of rain", "red birds")
METRICS = ("fd_clip", "mmd_clip", "prdc_clip", "clip_score", "r_precision", "diversity", "clip_score_own")
COUNT = 70  # more than a block of 64, and more than twice the tiny CLIP's 24 features
SIDE = 32


def images(folder: Path, count: int = COUNT, seed: int = 0, captions: int = 2) -> Path:
    """Colourful images, none like another and none of them square, each with some captions."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        patches = random.integers(0, 256, (5, 5, 3), dtype=np.uint8)
        size = (SIDE + 4 + number % 7, SIDE + 12 - number % 5)
        name = f"{number:03d}.png"
        Image.fromarray(patches).resize(size, Image.Resampling.BICUBIC).save(folder / name)
        caption = CAPTIONS[number % len(CAPTIONS)]
        rows.append({"file_name": name, "captions": [caption, *(f"{caption} {n}" for n in range(1, captions))]})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def rules(*metrics: str, **changes: object) -> Protocol:
    """The protocol `custom` with these metrics."""
    return get_protocol("custom").changed(metrics=metrics or METRICS, **changes)


def references(data: Path | str, clip: Path | str, cache: Path, **more: object) -> References:
    """`References` with a CLIP that is not the usual one."""
    return References(data=str(data), weights={"clip": str(clip)}, cache=cache, **more)  # type: ignore[arg-type]


def alone() -> Distributed:
    """This process, on the CPU."""
    return Distributed("cpu")


def values(result: Result | None) -> dict[str, float]:
    """Every number of a result, real_baseline and categories too."""
    assert result is not None
    tables = {"": result.metrics, "floor ": result.real_baseline}
    tables |= {f"{group} ": numbers for group, numbers in result.groups.items()}
    return {kind + name: number.value for kind, numbers in tables.items() for name, number in numbers.items()}


def texts(flags: Sequence[Flag], level: str, about: str | None = None) -> str:
    """What the flags of one level say, a line each."""
    return "\n".join(flag.text for flag in flags if flag.level == level and about in (None, flag.about))
