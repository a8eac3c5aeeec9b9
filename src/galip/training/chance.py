"""What chance decides about the samples of a step, beside their view: noise, and what augmentation does to them.

Each number is a function of (run seed, sample number), and costs the processor more time than the network's launches
once a GPU does the rest; so the loader's workers can make them ahead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from galip.data.samples import sample_noise
from galip.training.augment import Augmentation, augmentations
from galip.training.config import TrainConfig


@dataclass(frozen=True)
class Chance:
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

    def __getitem__(self, rows: slice) -> Chance:
        return self.each(lambda values: values[rows])

    def to(self, device: torch.device) -> Chance:
        """The same on a device."""
        return self.each(lambda values: values.to(device))

    def tensors(self) -> tuple[Tensor | None, ...]:
        """All of them, in a fixed order."""
        return self.z, self.again, *self.seen_real.tensors(), *self.seen_drawn.tensors()

    def each(self, change: Callable[[Tensor], Tensor]) -> Chance:
        """The same with every tensor changed."""
        again = None if self.again is None else change(self.again)
        return Chance(change(self.z), again, self.seen_real.each(change), self.seen_drawn.each(change))


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
