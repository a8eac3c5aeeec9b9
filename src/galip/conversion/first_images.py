"""The first images of a converted model, looked at for what wrong or damaged weights make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galip.torch_backend.loading import load_pipeline

PROMPTS = (
    "a red double decker bus on a city street",
    "a small bird on a branch",
    "a bowl of fruit on a wooden table",
    "snow on a mountain under a blue sky",
)

_BLANK = 0.01
"""Of [0, 1]: an image whose pixels spread less has nothing in it."""
_SATURATED = 0.95
"""Share of the values at the very end of the range."""
_EQUAL = 1 / 255

_CAUSES = (
    "likely causes: a file that does not belong to --clip, a ViT that was cast to half precision twice or by another "
    "rule, the wrong --preset, or weights of a training that had failed; docs/convert.md, Troubleshooting, tells them "
    "apart"
)


def generate_first(folder: Path) -> NDArray[np.float32]:
    """An image of each of `PROMPTS`, each from a seed of its own, in fp32 on the CPU: [4, S, S, 3] in [0, 1].

    Raises:
        GalipError: the model cannot be loaded.
    """
    pipe = load_pipeline(folder, "cpu", "float32")
    output: Any = pipe(list(PROMPTS), seed=list(range(len(PROMPTS))), output_type="np")
    images: NDArray[np.float32] = output.images
    return images


def faults(images: NDArray[np.float32]) -> str | None:
    """What is wrong with images of different prompts and seeds, with the likely causes; None: nothing that shows.

    Args:
        images: [B, S, S, C] in [0, 1], at least two.
    """
    if not np.isfinite(images).all():
        found = "hold numbers that are not finite"
    elif (images.std(axis=(1, 2, 3)) < _BLANK).all():
        found = f"are blank, of mean brightness {images.mean():.2f}"
    elif np.ptp(images, axis=0).max() <= _EQUAL:
        found = "are all equal, whatever the prompt and the seed"
    elif ((images <= 0) | (images >= 1)).mean() > _SATURATED:
        found = "are saturated: nearly all of their values are 0 or 1"
    else:
        return None
    return f"the images of {len(images)} prompts {found}; {_CAUSES}"
