"""The judge: a small convolutional network that looks at 64 px images, and took part in no training of a generator.

`recipes/emoji/train_judge.py` trains it together with a text side as a CLIP of its own. The package holds the image
side, and the vectors of the captions that its protocol generates.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from galip.errors import GalipError, InputError
from galip.evaluation.extractors.protocol import FrozenExtractor
from galip.evaluation.weights import load_into, read_weights

SIDE = 64
_STAGES = 4
_GROUPS = 8


class JudgeNetwork(nn.Module):
    """Images [B, 3, 64, 64] in [-1, 1] to vectors: four stages, each a convolution that halves the side and another.

    Args:
        width: channels after the first stage; they double at each of the next three.
        dim: length of the vectors.
        dropout: share of the features that are left out in training.
    """

    def __init__(self, width: int = 32, dim: int = 192, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        stages: list[nn.Module] = []
        channels = 3
        for stage in range(_STAGES):  # 64 -> 32 -> 16 -> 8 -> 4
            out = width * 2**stage
            stages += [nn.Conv2d(channels, out, 4, stride=2, padding=1), nn.GroupNorm(_GROUPS, out), nn.GELU()]
            stages += [nn.Conv2d(out, out, 3, padding=1, groups=out // 8), nn.GroupNorm(_GROUPS, out), nn.GELU()]
            channels = out
        side = SIDE >> _STAGES
        self.layers = nn.Sequential(*stages)
        self.head = nn.Linear(channels * side * side, dim)

    def activations(self, images: Tensor) -> list[Tensor]:
        """Maps [B, C, S, S] after each of the eight convolutions, 32 to 4 pixels wide."""
        maps, hidden = [], images.contiguous(memory_format=torch.channels_last)
        for layer in self.layers:
            hidden = layer(hidden)
            if isinstance(layer, nn.GELU):
                maps.append(hidden)
        return maps

    def vectors(self, last: Tensor) -> Tensor:
        """Vectors [B, dim], not normalised, from the last of the maps."""
        out: Tensor = self.head(F.dropout(last.flatten(1), self.dropout, self.training))
        return out

    def forward(self, images: Tensor) -> Tensor:
        """Vectors [B, dim], not normalised."""
        return self.vectors(self.activations(images)[-1])


class JudgeExtractor(FrozenExtractor):
    """A trained judge as a feature extractor. Images of another side are brought to 64 px, antialiased bicubic.

    Args:
        folder: `config.json` (the arguments of `JudgeNetwork`) and `model.safetensors`.
        texts: vectors [dim] of the captions that it can be asked about.

    Raises:
        GalipError: the folder holds no judge.
    """

    def __init__(self, folder: Path, texts: Mapping[str, NDArray[np.float32]]) -> None:
        try:
            network = JudgeNetwork(**json.loads((folder / "config.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise GalipError(f"{folder}: no judge can be loaded from it ({error}); install galip again") from error
        load_into(network, read_weights(folder / "model.safetensors"), str(folder))
        network.to(memory_format=torch.channels_last)
        super().__init__("judge", folder.parent.name, network, network.head.out_features)
        self._texts = texts

    def features(self, images: Tensor) -> Tensor:
        """Vectors [B, dim], not normalised."""
        x = images.float()
        if x.shape[-1] != SIDE:
            x = F.interpolate(x, (SIDE, SIDE), mode="bicubic", antialias=True).clamp(0, 255)
        out: Tensor = self.network(x / 127.5 - 1)
        return out

    def encode_text(self, captions: Sequence[str]) -> Tensor:
        """Vectors [N, dim] of captions of its protocol.

        Raises:
            InputError: a caption is not among them.
        """
        unknown = next((caption for caption in captions if caption not in self._texts), None)
        if unknown is not None:
            raise InputError(
                f"the judge cannot read {unknown!r}: it knows the captions of its protocol only; score other prompts "
                "by a CLIP, with --metrics clip_score,r_precision"
            )
        return torch.from_numpy(np.stack([self._texts[caption] for caption in captions]))
