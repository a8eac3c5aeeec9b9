"""The eye: a small convolutional network that tells the images of one domain apart."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EYE_SIZE = 64
_VECTOR, _SCALE = 192, 20.0


class EyeNet(nn.Module):
    """A small residual network on 64 px images: one direction for each class.

    Args:
        classes: how many.
        width: channels of the first stage, a multiple of 8; they grow to four times as many.
    """

    def __init__(self, classes: int, width: int = 32) -> None:
        super().__init__()
        self.config = {"classes": classes, "width": width}
        self.stem = nn.Sequential(nn.Conv2d(3, width, 4, stride=2, padding=1), nn.GroupNorm(8, width))  # 32 px
        self.stages = nn.ModuleList()
        before = width
        for number, channels in enumerate((width, 2 * width, 3 * width, 4 * width)):
            down = [nn.Conv2d(before, channels, 2, stride=2)] if number else []  # 16, 8, 4 px
            self.stages.append(nn.Sequential(*down, _Residual(channels), *([_Residual(channels)] if number else [])))
            before = channels
        self.classes = nn.Linear(before * 16, _VECTOR)
        self.directions = nn.Parameter(torch.randn(classes, _VECTOR) * 0.05)

    def maps(self, images: Tensor) -> list[Tensor]:
        """Maps [B, C, h, w] after each stage, of images [B, 3, 64, 64] in [-1, 1]."""
        hidden, found = self.stem(images.contiguous(memory_format=torch.channels_last)), []
        for stage in self.stages:
            hidden = stage(hidden)
            found.append(hidden)
        return found

    def features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors [B, 192] by which classes are told apart, and pooled features for distances between sets [B, D].

        Args:
            images: [B, 3, 64, 64] in [-1, 1].
        """
        *_, middle, last = self.maps(images)
        vectors: Tensor = self.classes(last.flatten(1))
        return vectors, torch.cat([vectors, middle.mean((2, 3))], dim=1)

    def logits(self, vectors: Tensor) -> Tensor:
        """Cosines of vectors [B, 192] with every class's direction, times 20: [B, classes]."""
        return _SCALE * F.normalize(vectors, dim=1) @ F.normalize(self.directions, dim=1).T

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, classes] of images [B, 3, 64, 64] in [-1, 1]."""
        return self.logits(self.features(images)[0])


class _Residual(nn.Module):
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
