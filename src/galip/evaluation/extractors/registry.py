"""Feature networks by name.

Each has a file of its own beside this one. A further one is a class that extends `protocol.FrozenExtractor`, a function
that opens it, and a line in `OPENERS`.
"""

from __future__ import annotations

from collections.abc import Callable

from galip.errors import InputError
from galip.evaluation.extractors.protocol import FeatureExtractor


def _inception(weights: str | None) -> FeatureExtractor:
    from galip.evaluation.extractors.inception import InceptionExtractor

    return InceptionExtractor.open(weights)


def _inception_torchvision(weights: str | None) -> FeatureExtractor:
    from galip.evaluation.extractors.torchvision import TorchvisionInceptionExtractor

    return TorchvisionInceptionExtractor.open(weights)


def _clip(weights: str | None) -> FeatureExtractor:
    from galip.evaluation.extractors.clip import CLIPExtractor

    return CLIPExtractor.open(weights)


def _clip_released(weights: str | None) -> FeatureExtractor:
    from galip.evaluation.extractors.clip import CLIPExtractor

    return CLIPExtractor.open(weights, clip_input="released")


def _dinov2(weights: str | None) -> FeatureExtractor:
    from galip.evaluation.extractors.dinov2 import DINOv2Extractor

    return DINOv2Extractor.open(weights)


OPENERS: dict[str, Callable[[str | None], FeatureExtractor]] = {
    "inception": _inception,
    "inception-torchvision": _inception_torchvision,
    "clip": _clip,
    "clip-released": _clip_released,
    "dinov2": _dinov2,
}
"""How each extractor is opened, by its name. The functions import what they need only when they are called."""


def open_extractor(name: str, weights: str | None = None) -> FeatureExtractor:
    """Open a feature network by its name.

    Args:
        name: one of `OPENERS`, or "timm:" and the name of an image network of timm.
        weights: a file, folder or hub id; None: the usual weights, fetched where they are not on this machine yet.

    Raises:
        InputError: there is no extractor of that name, or `weights` names nothing.
        GalipError: weights or a needed library are missing or broken; the message says what to do.
    """
    if name not in OPENERS and not name.startswith("timm:"):
        raise InputError(
            f"extractor {name!r}: there is no such feature network, use one of {', '.join(OPENERS)}, timm:ARCHITECTURE"
        )
    if weights is not None and not weights.strip():
        raise InputError(f"extractor {name!r}: its weights are given as {weights!r}; name a file, a folder or a hub id")
    if name.startswith("timm:"):
        from galip.evaluation.extractors.timm import TimmExtractor

        return TimmExtractor.open(name.removeprefix("timm:"), weights)
    return OPENERS[name](weights)
