"""Any image network of timm as an eye: pooled features for distances between sets, maps for what an image shows where.

Networks that were trained on photographs, by other people and for other ends, judge images that a CLIP helped to make
more soberly than a relative of that CLIP.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from galip.errors import GalipError, InputError
from galip.evaluation.extractors.protocol import FrozenExtractor, full_precision, unit_range
from galip.evaluation.weights import load_into, needed_package, read_weights

if TYPE_CHECKING:
    from typing_extensions import Self

PREFIX = "timm:"
"""What an extractor's name begins with; the architecture follows: `timm:tf_efficientnet_lite2`."""


class TimmExtractor(FrozenExtractor):
    """A network of timm. Images are resized to one side (antialiased bicubic) and normalised as its weights ask for.

    Args:
        architecture: timm's name.
        weights: what was loaded, as the user gave it.
        network: the network.
        side: pixels that images are resized to; 0: as they are.
    """

    def __init__(self, architecture: str, weights: str, network: nn.Module, side: int = 0) -> None:
        facts: Any = network
        network.to(memory_format=torch.channels_last)
        super().__init__(PREFIX + architecture, weights, network, int(facts.head_hidden_size))
        self.side = side
        self._mean, self._std = (torch.tensor(facts.pretrained_cfg[name])[:, None, None] for name in ("mean", "std"))
        self.strides: list[int] = [int(info["reduction"]) for info in facts.feature_info]

    @classmethod
    def open(cls, architecture: str, weights: str | None = None, side: int | None = None) -> Self:
        """Load one.

        Args:
            architecture: timm's name, such as "tf_efficientnet_lite2" or "resnet18".
            weights: a file (.safetensors, or a state dict of torch; of this network in timm's names, or in any names if
                the tensors stand in the network's order), or a hub id; None: timm's usual weights from the hub.
            side: pixels that images are resized to, 0 for none; None: what the weights were trained with.

        Raises:
            GalipError: timm is missing, it knows no such network, or the weights cannot be had or do not fit.
        """
        network: Any = open_timm(architecture, weights)
        if side is None:
            side = int(network.pretrained_cfg["input_size"][-1])
        return cls(architecture, weights or architecture, network, side)

    def to(self, device: torch.device | str) -> Self:
        """Move the network."""
        self._mean, self._std = self._mean.to(device), self._std.to(device)
        return super().to(device)

    def features(self, images: Tensor) -> Tensor:
        """Features before the classifier, pooled over the image: [B, dim]."""
        network: Any = self.network
        vectors: Tensor = network.forward_head(network.forward_features(self._input(images)), pre_logits=True)
        return vectors

    def maps(self, images: Tensor, strides: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
        """What `__call__` answers, and the network's last maps of these strides, each [B, C, S / stride, S / stride].

        Raises:
            InputError: the network has no map of a stride, or `images` is something else than images.
        """
        missing = [stride for stride in strides if stride not in self.strides]
        if missing:
            raise InputError(f"{self.name}: no maps of stride {missing[0]}; it has {self.strides}")
        self._check(images)
        places = [len(self.strides) - 1 - self.strides[::-1].index(stride) for stride in strides]
        network: Any = self.network
        with torch.no_grad(), full_precision(self.device.type):
            last, found = network.forward_intermediates(
                self._input(images.to(self.device)), indices=sorted(set(places))
            )
            pooled: Tensor = network.forward_head(last, pre_logits=True)
        by_place = dict(zip(sorted(set(places)), found, strict=True))
        return pooled.float(), [by_place[place] for place in places]

    def _input(self, images: Tensor) -> Tensor:
        x = unit_range(images)
        if self.side and x.shape[-1] != self.side:
            x = F.interpolate(x, (self.side, self.side), mode="bicubic", align_corners=False, antialias=True)
        return ((x.clamp(0, 1) - self._mean) / self._std).contiguous(memory_format=torch.channels_last)


def open_timm(architecture: str, weights: str | None = None) -> nn.Module:
    """A network of timm with its weights.

    Args:
        architecture, weights: see `TimmExtractor.open`.

    Raises:
        GalipError: timm is missing, it knows no such network, or the weights cannot be had or do not fit.
    """
    timm: Any = needed_package("timm")
    if architecture not in timm.list_models():
        near = ", ".join(timm.list_models(f"*{architecture.partition('_')[0]}*")[:5]) or "see timm.list_models()"
        raise InputError(f"{PREFIX}{architecture}: timm has no such network ({near})")
    file = Path(weights).expanduser() if weights else None
    local = file is not None and file.is_file()
    try:
        arguments = {"pretrained_cfg_overlay": {"hf_hub_id": weights}} if weights and not local else {}
        network = timm.create_model(architecture, pretrained=not local, **arguments)
    except Exception as error:  # whatever the hub's client raises
        raise GalipError(
            f"{PREFIX}{architecture}: its weights cannot be had ({str(error).splitlines()[0]}); give a file with "
            f"--weights {PREFIX}{architecture}=FILE"
        ) from error
    if local and file is not None:
        load_into(network, _in_timms_names(network, read_weights(file)), str(file))
    result: nn.Module = network
    return result


def _in_timms_names(network: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights under timm's names, where they have others but stand in the network's order with its shapes."""
    own = network.state_dict()
    if weights.keys() & own.keys() or len(weights) != len(own):
        return weights
    fits = all(one.shape == other.shape for one, other in zip(weights.values(), own.values(), strict=True))
    return dict(zip(own, weights.values(), strict=True)) if fits else weights
