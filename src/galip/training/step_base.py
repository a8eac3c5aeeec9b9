"""What every training step has: optimisers and loss scalers, a batch in parts, numbers of the whole batch.

The batch of a step is spread over processes (rank r holds samples r, r + W, ...) and over micro-batches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from galip.data.samples import Batch
from galip.distributed import Distributed
from galip.training.augment import lay_on
from galip.training.config import TrainConfig
from galip.training.muon import Muon
from galip.training.networks import Networks
from galip.training.precision import DTYPES, Precision, keep_scale_up
from galip.training.ramps import Ramps, ramps_at
from galip.training.rng import RandomInputs, SampleRNG
from galip.training.tensors import Bundle
from galip.training.text_vectors import TextVectors


@dataclass(frozen=True)
class MicroBatch(Bundle):
    """What one process holds at once: b samples, all on the device.

    Attributes:
        images: real images, uint8 [b, C, S, S], RGB or RGBA as the generator's.
        text: vectors of their captions.
        e_mis: sentence vectors of other captions [b, cond_dim]; None where the whole batch has one caption.
        random: noise, augmentation, background.
        ramps: what grows or fades over the stage; None: nothing does.
    """

    images: Tensor
    text: TextVectors
    e_mis: Tensor | None
    random: RandomInputs
    ramps: Ramps | None = None


@dataclass(frozen=True)
class StepTensors(Bundle):
    """The numbers of a step while they are on the device.

    Attributes:
        names: of the terms.
        terms: [len(names)], means over this process's samples.
        mean_vector: mean of the generated images' normalised CLIP vectors, [embed_dim].
    """

    names: tuple[str, ...]
    terms: Tensor
    mean_vector: Tensor


@dataclass(frozen=True)
class StepStats:
    """The numbers of a step: means over the whole batch, equal on every process.

    Attributes:
        loss_d, d_real, d_fake, d_mismatch, penalty, r1, d_heads: L_D and its parts.
        loss_g, adversarial, similarity, similarity_second, paired, spread, heads: L_G and its parts.
        score_real, score_fake, score_mismatch: D's mean logits.
        diversity: mean pairwise cosine distance of the generated images in CLIP space.

    What the run's objective does not have is None.
    """

    diversity: float | None = None
    loss_d: float | None = None
    d_real: float | None = None
    d_fake: float | None = None
    d_mismatch: float | None = None
    penalty: float | None = None
    r1: float | None = None
    d_heads: float | None = None
    score_real: float | None = None
    score_fake: float | None = None
    score_mismatch: float | None = None
    loss_g: float | None = None
    adversarial: float | None = None
    similarity: float | None = None
    similarity_second: float | None = None
    paired: float | None = None
    spread: float | None = None
    heads: float | None = None

    def numbers(self) -> dict[str, float]:
        """Those that the objective has, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


class TakesSteps(Protocol):
    """A step, or what it is wrapped in."""

    def __call__(
        self, batch: Batch, text: TextVectors, lr_multiplier: float = 1.0, seen: int | None = None
    ) -> StepStats:
        """Take one step; see `TrainingStep.__call__`."""


class TrainingStep:
    """The optimisers and loss scalers of a run, and what they do with a batch; `compute` is the objective's.

    Args:
        networks: on their device already, see `prepare_models`.
        config: the run.
        distributed: this process among the others.
        trained: the networks that learn, by name: those whose parameters each optimiser has.

    Attributes:
        optimizers, scalers: by name, "generator" and, where it learns, "discriminator".
        sample_rng: the random inputs of samples, for batches that do not bring them along.
    """

    def __init__(
        self,
        networks: Networks,
        config: TrainConfig,
        distributed: Distributed,
        trained: Mapping[str, Sequence[nn.Module]],
    ) -> None:
        self.networks, self.config, self.distributed = networks, config, distributed
        self.device = distributed.device
        self.precision = Precision(self.device.type, DTYPES[config.performance.precision])
        g = networks.generator
        self.sample_rng = SampleRNG(config, g.z_dim, g.image_size, g.image_channels)
        if config.performance.compile:
            networks.generator.compile()
        self._generator = distributed.wrap(networks.generator)
        self._parameters = {
            name: [p for module in modules for p in module.parameters() if p.requires_grad]
            for name, modules in trained.items()
        }
        self.optimizers = {name: self._optimizer(name) for name in self._parameters}
        self._rates = {
            name: [float(group["lr"]) for group in optimizer.param_groups]
            for name, optimizer in self.optimizers.items()
        }
        scaled = config.performance.precision == "fp16"
        self.scalers = {name: torch.amp.GradScaler(self.device.type, enabled=scaled) for name in self.optimizers}

    def _optimizer(self, name: str) -> torch.optim.Optimizer:
        options, parameters = self.config.optimizer, self._parameters[name]
        rate = options.lr_generator if name == "generator" else options.lr_discriminator
        if name == "generator" and options.generator == "muon":
            return Muon(parameters, options.lr_muon, options.muon_momentum, rate, options.betas)
        return torch.optim.Adam(parameters, rate, options.betas, fused=True)

    def __call__(
        self, batch: Batch, text: TextVectors, lr_multiplier: float = 1.0, seen: int | None = None
    ) -> StepStats:
        """Take one step.

        Args:
            batch: this process's samples of the step.
            text: vectors of their captions, on the device.
            lr_multiplier: what the learning rates are multiplied with.
            seen: images of the stage before this step, for what grows or fades over it; None: it has done so.
        """
        self.set_rates(lr_multiplier)
        return self.stats(self.compute(self.micro_batches(batch, text, seen)))

    def compute(self, micros: Sequence[MicroBatch]) -> StepTensors:
        """All the work of a step: weights and optimiser states change in place."""
        raise NotImplementedError

    def set_rates(self, multiplier: float) -> None:
        """Set the learning rates to the configuration's times `multiplier`."""
        for name, optimizer in self.optimizers.items():
            for group, rate in zip(optimizer.param_groups, self._rates[name], strict=True):
                if isinstance(group["lr"], Tensor):  # read by work that was enqueued before
                    group["lr"].fill_(rate * multiplier)
                else:
                    group["lr"] = rate * multiplier

    def micro_batches(self, batch: Batch, text: TextVectors, seen: int | None = None) -> list[MicroBatch]:
        """What this process takes one after the other; `seen`: see `__call__`."""
        size = len(batch.captions)
        e_mis = self.mismatched(batch.captions, text.e)
        random = self.sample_rng(batch.indices) if batch.extra is None else batch.extra
        at_once = self.config.performance.micro_batch or size
        parts = [slice(start, start + at_once) for start in range(0, size, at_once)]
        after = self.config.schedule.images if seen is None else seen
        ramps = ramps_at(self.config, after, self.networks.generator.image_size, self.device)
        return [
            MicroBatch(
                batch.images[part].to(self.device),
                text[part],
                None if e_mis is None else e_mis[part],
                random[part].to(self.device),
                ramps,
            )
            for part in parts
        ]

    def mismatched(self, captions: list[str], e: Tensor) -> Tensor | None:
        """Sentence vectors of other captions of the whole batch, for this process's samples; None: none are needed."""
        return None

    def stats(self, found: StepTensors) -> StepStats:
        """The numbers of the whole batch: one message between processes, one wait for the device."""
        values = self.distributed.mean(torch.cat([found.terms, found.mean_vector])).tolist()
        terms = dict(zip(found.names, values, strict=False))
        count, center = self.config.schedule.batch, values[len(found.names) :]
        diversity = (1 - sum(value**2 for value in center)) * count / (count - 1) if center else None
        return StepStats(diversity=diversity, **terms)

    def collect(self, terms: Sequence[Mapping[str, Tensor]], vectors: Sequence[Tensor] = ()) -> StepTensors:
        """The numbers of a step from those of its micro-batches.

        Args:
            terms: scalars by name.
            vectors: mean image vectors [embed_dim], where the objective has them.
        """
        names = tuple(terms[0])
        table = torch.stack([torch.stack([row[name].float() for name in names]) for row in terms]).mean(0)
        mean = torch.stack(list(vectors)).mean(0).float() if vectors else table.new_empty(0)
        return StepTensors(names, table, mean)

    # ---- parts that every objective has

    def noise(self, micro: MicroBatch, z: Tensor) -> Tensor:
        """`z` [b, z_dim]; 0 where the caption leaves nothing open, if the run asks for that (`loss.noise`)."""
        return z if micro.text.open is None else z * micro.text.open

    def real_images(self, micro: MicroBatch) -> Tensor:
        """The real images, [b, 3, S, S] in [-1, 1], on the same background as the generated ones."""
        return lay_on(micro.images.to(torch.float32).div_(127.5).sub_(1), micro.random.background)

    def backward(self, name: str, loss: Tensor) -> None:
        """Add the gradients of `loss` to those of one optimiser's networks."""
        torch.autograd.backward(self.scalers[name].scale(loss), inputs=self._parameters[name])

    def optimizer_step(self, name: str) -> None:
        """Let an optimiser use its gradients, and forget them."""
        optimizer, scaler = self.optimizers[name], self.scalers[name]
        scaler.step(optimizer)
        scaler.update()
        if self.config.performance.loss_scale == "released":
            keep_scale_up(scaler)
        optimizer.zero_grad(set_to_none=True)

    # ---- what a checkpoint keeps

    def weights_are_finite(self) -> bool:
        """Whether every weight that learns is: a loss shows a broken weight only in the next step."""
        norms = torch._foreach_norm([p.detach() for parameters in self._parameters.values() for p in parameters])
        return bool(torch.stack(norms).isfinite().all())

    def state_dict(self) -> dict[str, Any]:
        """Optimisers and loss scalers, for `load_state_dict`."""
        return {
            "optimizers": {name: _plain_rates(optimizer.state_dict()) for name, optimizer in self.optimizers.items()},
            "scalers": {name: scaler.state_dict() for name, scaler in self.scalers.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned. Learning rates and betas remain the configuration's."""
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
            for group in optimizer.param_groups:
                if "betas" in group:
                    group["betas"] = self.config.optimizer.betas
            self.scalers[name].load_state_dict(state["scalers"][name])


def prepare_models(networks: Networks, device: torch.device, channels_last: bool | None = None) -> None:
    """Move what a step differentiates to the device, in the layout and the form of the generator that are fast there.

    Args:
        networks: the run's networks, changed in place.
        device: where the run computes.
        channels_last: see `PerformanceConfig.channels_last`.
    """
    wanted = device.type == "cuda" if channels_last is None else channels_last
    layout = torch.channels_last if wanted else torch.contiguous_format
    moved: list[nn.Module] = [networks.vision, networks.generator, networks.discriminator, *networks.feature_networks]
    for network in (*moved, *([] if networks.heads is None else [networks.heads])):
        network.to(device).to(memory_format=layout)
    networks.generator.fold()


def _plain_rates(state: dict[str, Any]) -> dict[str, Any]:
    """An optimiser's state that one which is not captured in a CUDA graph can load as well."""
    groups = [
        group | {"lr": float(group["lr"])} | ({"capturable": False} if "capturable" in group else {})
        for group in state["param_groups"]
    ]
    return state | {"param_groups": groups}
