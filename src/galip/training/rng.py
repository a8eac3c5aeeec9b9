"""The random inputs of a step: noise, and what augmentation does to each sample.

Each number is a function of (run seed, sample number); `galip.data.rng` lists the streams. They cost the processor more
time than the network's launches once a GPU does the rest; so the loader's workers can make them ahead.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from galip.data.rng import Stream, sample_rng
from galip.training.augment import FEATURES, Augmentation, random_augmentations, random_backgrounds
from galip.training.config import TrainConfig
from galip.training.tensors import Bundle


@dataclass(frozen=True)
class RandomInputs(Bundle):
    """The random inputs of B samples.

    Attributes:
        z: noise, float32 [B, z_dim].
        other_z: independent noise, for a second image of each caption; None where the objective needs none.
        augment_real, augment_fake: the augmentation of the real and of the generated images.
        features_real, features_fake: the same of what feature networks see; None: the objective has none.
        background: what real and generated images with an alpha channel are laid on, [B, 3] in [-1, 1]; None: they
            have none.
    """

    z: Tensor
    other_z: Tensor | None
    augment_real: Augmentation
    augment_fake: Augmentation
    background: Tensor | None = None
    features_real: Augmentation | None = None
    features_fake: Augmentation | None = None


@dataclass(frozen=True)
class SampleRNG:
    """Sample numbers -> their random inputs; can be sent to another process.

    Attributes:
        config: the run.
        z_dim: length of the noise.
        size: side of the images in pixels.
        channels: 3, or 4 where they have an alpha channel.
    """

    config: TrainConfig
    z_dim: int
    size: int
    channels: int = 3

    def __call__(self, indices: list[int]) -> RandomInputs:
        """The random inputs of samples `indices`, on the CPU."""
        seed, config = self.config.seed, self.config
        other = sample_noise(seed, indices, self.z_dim, Stream.OTHER_NOISE) if config.loss.paired else None
        augmentations = random_augmentations(config.augmentation, self.size, seed, indices)
        background = random_backgrounds(seed, indices) if self.channels == 4 else None
        z = sample_noise(seed, indices, self.z_dim)
        features: tuple[Augmentation, ...] = ()
        if config.model.feature_networks and config.loss.objective == "adversarial":
            features = random_augmentations(config.augmentation.features, self.size, seed, indices, FEATURES)
        return RandomInputs(z, other, *augmentations, background, *features)


def sample_noise(run_seed: int, indices: list[int], z_dim: int, stream: Stream = Stream.NOISE) -> Tensor:
    """Noise z ~ N(0, I) of the samples with these numbers, float32 [B, z_dim]."""
    rows = [sample_rng(run_seed, index, stream).standard_normal(z_dim, dtype=np.float32) for index in indices]
    return torch.from_numpy(np.stack(rows))
