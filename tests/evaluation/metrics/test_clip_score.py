"""CLIP score: cosines, and torchmetrics' number from them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torchmetrics.functional.multimodal import clip_score as torchmetrics_clip_score

from galip.errors import GalipError, InputError
from galip.evaluation.metrics.clip_score import clip_cosines, clip_score


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


class GivenVectors(torch.nn.Module):
    """To torchmetrics a CLIP, whose vectors are known beforehand."""

    config = SimpleNamespace()

    def __init__(self, images: np.ndarray, texts: np.ndarray) -> None:
        super().__init__()
        self.images, self.texts = torch.from_numpy(images), torch.from_numpy(texts)

    def get_image_features(self, numbers: torch.Tensor) -> torch.Tensor:
        return self.images

    def get_text_features(self, numbers: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.texts


def processor(**inputs: object) -> dict[str, torch.Tensor]:
    return {name: torch.zeros(1) for name in ("pixel_values", "input_ids", "attention_mask")}


def torchmetrics_score(images: np.ndarray, texts: np.ndarray) -> float:
    pixels = torch.zeros(len(images), 3, 2, 2)
    model = GivenVectors(images, texts)
    return float(torchmetrics_clip_score(pixels, ["a"] * len(images), lambda: (model, processor)))


def test_torchmetrics_gets_the_same() -> None:
    images, texts = noise(40, 16) + 0.3, noise(40, 16, seed=1) + 0.3
    estimate = clip_score(images, texts)
    assert 100 * estimate.value == pytest.approx(torchmetrics_score(images, texts), rel=1e-5)
    assert estimate.low < estimate.value < estimate.high
    # Below 0 it prints 0, and we what it is.
    assert clip_score(images, -texts).value == pytest.approx(-estimate.value)
    assert torchmetrics_score(images, -texts) == 0


def test_cosines() -> None:
    images, texts = noise(2500, 4), noise(2500, 4, seed=1)  # more than a tile
    expected = torch.nn.functional.cosine_similarity(torch.from_numpy(images), torch.from_numpy(texts))
    assert clip_cosines(7 * images, texts) == pytest.approx(expected.numpy(), abs=1e-6)


def test_what_is_refused() -> None:
    with pytest.raises(InputError, match="3 images and 2 captions"):
        clip_score(noise(3, 4), noise(2, 4))
    with pytest.raises(InputError, match="captions: vectors of 5 numbers, where the others have 4"):
        clip_score(noise(3, 4), noise(3, 5))
    with pytest.raises(GalipError, match="captions: a vector of length 0"):
        clip_score(noise(3, 4), np.zeros((3, 4)))
