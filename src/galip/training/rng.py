"""What chance decides about the samples of a step, beside their view: noise, and what augmentation does to them.

Each number is a function of (run seed, sample number), and costs the processor more time than the network's launches
once a GPU does the rest; so the loader's workers can make them ahead.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from galip.data.samples import sample_noise
from galip.training.augment import Augmentation, augmentations
from galip.training.config import TrainConfig
from galip.training.tensors import Bundle


@dataclass(frozen=True)
class Chance(Bundle):
    """What chance decided about B samples.

    Attributes:
        z: noise, float32 [B, z_dim].
        again: other noise, where the objective draws a second picture.
        seen_real, seen_drawn: what happens to the real and to the drawn pictures.
    """

    z: Tensor
    again: Tensor | None
    seen_real: Augmentation
    seen_drawn: Augmentation


@dataclass(frozen=True)
class Dice:
    """Sample numbers -> what chance decides about them; can be sent to another process.

    Attributes:
        config: the run.
        z_dim: length of the noise.
        size: side of the pictures in pixels.
    """

    config: TrainConfig
    z_dim: int
    size: int

    def __call__(self, indices: list[int]) -> Chance:
        """What chance decides about samples `indices`, on the CPU."""
        seed, loss = self.config.run.seed, self.config.loss
        again = sample_noise(seed, indices, self.z_dim, again=True) if loss.paired else None
        return Chance(sample_noise(seed, indices, self.z_dim), again, *augmentations(loss, self.size, seed, indices))
