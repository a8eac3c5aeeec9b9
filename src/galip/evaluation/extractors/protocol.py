"""What a feature network is to the evaluation: images in, vectors out. `registry.open_extractor` opens one by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from galip.errors import InputError
from galip.evaluation.weights import check_finite, digest_of

if TYPE_CHECKING:
    from typing_extensions import Self

Takes = Literal["uint8", "float"]


@runtime_checkable
class FeatureExtractor(Protocol):
    """What the rest of the evaluation asks of a feature network.

    Attributes:
        name: the name that it is opened by.
        weights: the file, folder or hub id that was loaded, as the user gave it.
        digest: 16 hex digits that name the weights' values; see `galip.evaluation.weights.digest_of`.
        dim: length of a feature vector.
        takes: what a protocol with this network generates: "uint8" images, or "float" ones that were never quantised.
    """

    name: str
    weights: str
    digest: str
    dim: int
    takes: Takes

    def to(self, device: torch.device | str) -> Self:
        """Move the network."""

    def __call__(self, images: Tensor) -> Tensor:
        """Feature vectors of images.

        Args:
            images: [B, 3, S, S], any square size, uint8; or, where `takes` is "float", floats in [0, 1] (clamped).

        Returns:
            [B, dim], fp32, without gradient, on the network's device. A row depends on its own image alone.

        Raises:
            InputError: `images` is something else.
        """


class FrozenExtractor(ABC):
    """What the extractors share: a frozen fp32 network, images that are checked, arithmetic in full fp32.

    Args:
        name: the name that it is opened by.
        weights: what was loaded, as the user gave it.
        network: the feature network with its weights loaded. It is frozen in place.
        dim: length of a feature vector.
        takes: see `FeatureExtractor`.

    Raises:
        GalipError: weights are not finite.
    """

    def __init__(self, name: str, weights: str, network: nn.Module, dim: int, takes: Takes = "uint8") -> None:
        check_finite(network, weights)
        self.name = name
        self.weights = weights
        self.dim = dim
        self.takes: Takes = takes
        self.network = network.float().eval().requires_grad_(False)
        self.digest = digest_of(self.network)
        self.device = torch.device("cpu")

    def to(self, device: torch.device | str) -> Self:
        """Move the network."""
        self.device = torch.device(device)
        self.network.to(self.device)
        return self

    def __call__(self, images: Tensor) -> Tensor:
        """Feature vectors [B, dim] of images [B, 3, S, S]; see `FeatureExtractor`."""
        self._check(images)
        with torch.no_grad(), full_precision(self.device.type):
            return self.features(images.to(self.device)).float()

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """Feature vectors [B, dim] of checked images on the network's device."""

    def _check(self, images: Tensor) -> None:
        if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3]:
            raise InputError(
                f"{self.name}: images have shape {tuple(images.shape)}; give square RGB images [B, 3, S, S]"
            )
        if images.dtype != torch.uint8 and not (self.takes == "float" and images.is_floating_point()):
            also = " or floats in [0, 1]" if self.takes == "float" else ""
            raise InputError(f"{self.name}: images are of type {images.dtype}; give uint8{also}")


def unit_range(images: Tensor) -> Tensor:
    """Images as fp32 in [0, 1]: uint8 divided by 255, floats clamped."""
    if images.dtype == torch.uint8:
        return images.float() / 255
    return images.float().clamp(0, 1)


@contextmanager
def full_precision(device_type: str) -> Iterator[None]:
    """No autocast, and fp32 that is fp32: left alone, torch convolves with 10-bit fractions (TF32) on many GPUs.

    The same features then come out of any hardware, but for the order of summation.
    """
    before = [(place, name, getattr(place, name)) for place, name, _ in _shortcuts()]
    try:
        for place, name, off in _shortcuts():
            setattr(place, name, off)
        with torch.autocast(device_type, enabled=False):
            yield
    finally:
        for place, name, value in before:
            setattr(place, name, value)


def _shortcuts() -> list[tuple[Any, str, Any]]:
    """Every switch by which torch computes fp32 with fewer bits: its place, its name, and what turns it off."""
    backends: Any = torch.backends
    if hasattr(backends, "fp32_precision"):  # since torch 2.9, where the older switches must not be mixed in
        places = (backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul, backends.mkldnn.conv)
        return [(place, "fp32_precision", "ieee") for place in places]
    return [(place, "allow_tf32", False) for place in (backends.cuda.matmul, backends.cudnn)]
