"""One step of reconstruction: G alone learns to give each caption's image back, before anything adversarial begins."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from galip.distributed import Distributed
from galip.training import losses
from galip.training.augment import lay_on
from galip.training.config import TrainConfig
from galip.training.networks import Networks
from galip.training.step_base import MicroBatch, StepTensors, TrainingStep


class ReconstructionStep(TrainingStep):
    """The pyramid L1 to the caption's image; see `losses.reconstruction_loss`.

    Args:
        networks: on their device already, see `prepare_models`.
        config: the run.
        distributed: this process among the others.
    """

    def __init__(self, networks: Networks, config: TrainConfig, distributed: Distributed) -> None:
        super().__init__(networks, config, distributed, {"generator": [networks.generator]})

    def compute(self, micros: Sequence[MicroBatch]) -> StepTensors:
        """All the work of a step: weights and optimiser states change in place."""
        terms: list[dict[str, Tensor]] = []
        for number, micro in enumerate(micros):
            more_to_come = number + 1 < len(micros)
            with self.distributed.without_sync(self._generator, more_to_come):
                with self.precision.mixed():
                    images = self._generator(self.noise(micro, micro.random.z), micro.text.e, self.networks.vision)
                fake, real = lay_on(images.float(), micro.random.background), self.real_images(micro)
                found = losses.reconstruction_loss(fake, real)
                self.backward("generator", found.loss_g / len(micros))
            terms.append(found.detach().named())
        self.optimizer_step("generator")
        return self.collect(terms)
