"""One training step: D learns from real, generated and mismatched pairs, then G from the same generated images.

The batch of a step is spread over processes (rank r holds samples r, r + W, ...) and over micro-batches. Which captions
are mismatched, and with that every loss term, depends on the batch alone, not on how it is spread.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from galip.data.samples import Batch
from galip.distributed import Distributed
from galip.models.discriminator import MateDiscriminator
from galip.training import losses
from galip.training.augment import lay_on
from galip.training.batches import caption_ids
from galip.training.config import LossConfig, TrainConfig
from galip.training.losses import DiscriminatorTerms, FakeImages, GeneratorTerms
from galip.training.networks import Networks
from galip.training.precision import DTYPES, Precision
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
    """

    images: Tensor
    text: TextVectors
    e_mis: Tensor | None
    random: RandomInputs


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
        loss_d, d_real, d_fake, d_mismatch, penalty, r1: L_D and its parts.
        loss_g, adversarial, similarity, similarity_second, paired, spread: L_G and its parts.
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
    score_real: float | None = None
    score_fake: float | None = None
    score_mismatch: float | None = None
    loss_g: float | None = None
    adversarial: float | None = None
    similarity: float | None = None
    similarity_second: float | None = None
    paired: float | None = None
    spread: float | None = None

    def numbers(self) -> dict[str, float]:
        """Those that the objective has, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


class TakesSteps(Protocol):
    """A step, or what it is wrapped in."""

    def __call__(self, batch: Batch, text: TextVectors, lr_multiplier: float = 1.0) -> StepStats:
        """Take one step; see `GANStep.__call__`."""


class DiscriminatorLoss(nn.Module):
    """`losses.discriminator_loss` as one module with one backward pass, which is what gradient averaging needs."""

    def __init__(self, discriminator: MateDiscriminator, options: LossConfig, precision: Precision) -> None:
        super().__init__()
        self.discriminator = discriminator
        self.options, self.precision = options, precision

    def forward(self, real: list[Tensor], fake: list[Tensor], e: Tensor, e_mis: Tensor | None) -> DiscriminatorTerms:
        """See `losses.discriminator_loss`."""
        return losses.discriminator_loss(self.discriminator, real, fake, e, e_mis, self.options, self.precision)


def prepare_models(networks: Networks, device: torch.device, channels_last: bool | None = None) -> None:
    """Move what a step differentiates to the device, in the layout and the form of the generator that are fast there.

    Args:
        networks: the run's networks, changed in place.
        device: where the run computes.
        channels_last: see `PerformanceConfig.channels_last`.
    """
    wanted = device.type == "cuda" if channels_last is None else channels_last
    layout = torch.channels_last if wanted else torch.contiguous_format
    for network in (networks.vision, networks.generator, networks.discriminator):
        network.to(device).to(memory_format=layout)
    networks.generator.fold()


class GANStep:
    """The optimisers and loss scalers of a run, and what they do with a batch.

    Args:
        networks: on their device already, see `prepare_models`.
        config: the run.
        distributed: this process among the others.

    Attributes:
        optimizers, scalers: by network, "generator" and "discriminator".
        sample_rng: the random inputs of samples, for batches that do not bring them along.
    """

    def __init__(self, networks: Networks, config: TrainConfig, distributed: Distributed) -> None:
        self.networks, self.config, self.distributed = networks, config, distributed
        self.device = distributed.device
        self.precision = Precision(self.device.type, DTYPES[config.performance.precision])
        g = networks.generator
        self.sample_rng = SampleRNG(config, g.z_dim, g.image_size, g.image_channels)
        vision = networks.vision
        self._taps_and_embed: Any = vision.taps_and_embed
        self._taps: Any = vision.taps
        if config.performance.compile:
            # Mate-D stays as it is: its gradient penalty is differentiated twice, which compiled graphs cannot do.
            networks.generator.compile()
            self._taps_and_embed, self._taps = torch.compile(vision.taps_and_embed), torch.compile(vision.taps)
        self._generator = distributed.wrap(networks.generator)
        self._discriminator_loss = distributed.wrap(
            DiscriminatorLoss(networks.discriminator, config.loss, self.precision)
        )
        self._parameters = {
            name: [p for p in getattr(networks, name).parameters() if p.requires_grad]
            for name in ("generator", "discriminator")
        }
        options = config.optimizer
        self._rates = {"generator": options.lr_generator, "discriminator": options.lr_discriminator}
        self.optimizers = {
            name: torch.optim.Adam(parameters, self._rates[name], options.betas, fused=True)
            for name, parameters in self._parameters.items()
        }
        scaled = config.performance.precision == "fp16"
        self.scalers = {name: torch.amp.GradScaler(self.device.type, enabled=scaled) for name in self.optimizers}

    def __call__(self, batch: Batch, text: TextVectors, lr_multiplier: float = 1.0) -> StepStats:
        """Take one step of both networks.

        Args:
            batch: this process's samples of the step.
            text: vectors of their captions, on the device.
            lr_multiplier: what both learning rates are multiplied with.
        """
        self.set_rates(lr_multiplier)
        return self.stats(self.compute(self.micro_batches(batch, text)))

    def set_rates(self, multiplier: float) -> None:
        """Set both learning rates to the configuration's times `multiplier`."""
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                if isinstance(group["lr"], Tensor):  # read by work that was enqueued before
                    group["lr"].fill_(self._rates[name] * multiplier)
                else:
                    group["lr"] = self._rates[name] * multiplier

    def micro_batches(self, batch: Batch, text: TextVectors) -> list[MicroBatch]:
        """What this process takes one after the other."""
        size = len(batch.captions)
        e_mis = self._mismatched(batch.captions, text.e)
        random = self.sample_rng(batch.indices) if batch.extra is None else batch.extra
        at_once = self.config.performance.micro_batch or size
        parts = [slice(start, start + at_once) for start in range(0, size, at_once)]
        return [
            MicroBatch(
                batch.images[part].to(self.device),
                text[part],
                None if e_mis is None else e_mis[part],
                random[part].to(self.device),
            )
            for part in parts
        ]

    def stats(self, found: StepTensors) -> StepStats:
        """The numbers of the whole batch: one message between processes, one wait for the device."""
        values = self.distributed.mean(torch.cat([found.terms, found.mean_vector])).tolist()
        terms = dict(zip(found.names, values, strict=False))
        count, center = self.config.schedule.batch, values[len(found.names) :]
        return StepStats(diversity=(1 - sum(value**2 for value in center)) * count / (count - 1), **terms)

    # ---- the work of a step, all of it on the device

    def compute(self, micros: Sequence[MicroBatch]) -> StepTensors:
        """All the work of a step: weights and optimiser states change in place."""
        parts, only = len(micros), micros[0] if len(micros) == 1 else None
        fake = None if only is None else self.g_forward(only)  # G learns from the very images that D saw
        terms: list[dict[str, Tensor]] = []
        vectors = []
        for number, micro in enumerate(micros):
            if fake is not None:
                fake_taps = [tap.detach() for tap in fake.taps]
            else:
                with torch.no_grad():
                    fake_taps = self.g_forward(micro).taps
            more = number + 1 < parts
            terms.append(self.d_backward(micro, fake_taps, parts, more).named())
        self.optimizer_step("discriminator")
        for number, micro in enumerate(micros):
            more = number + 1 < parts
            shown = self.g_forward(micro, more) if fake is None else fake
            terms[number] |= self.g_backward(micro, shown, parts, more).named()
            vectors.append(F.normalize(shown.vectors.detach().float(), dim=1).mean(0))
        self.optimizer_step("generator")
        names = tuple(terms[0])
        table = torch.stack([torch.stack([row[name].float() for name in names]) for row in terms]).mean(0)
        return StepTensors(names, table, torch.stack(vectors).mean(0).float())

    def g_forward(self, micro: MicroBatch, more_to_come: bool = False) -> FakeImages:
        """Generate the images of a micro-batch, and look at them through CLIP.

        Args:
            micro: the samples.
            more_to_come: another micro-batch of the step follows, with which gradients are averaged.
        """
        with self.distributed.without_sync(self._generator, more_to_come), self.precision.mixed():
            images = self._generator(micro.random.z, micro.text.e, self.networks.vision)
            images = lay_on(images, micro.random.background)
            augmented = micro.random.augment_fake(images)
            taps, vectors = self.clip_features(augmented)
        return FakeImages(images, augmented, taps, vectors)

    def clip_features(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Taps, each [b, width, g, g], and CLIP's image vectors [b, embed_dim] of generated images."""
        taps, vectors = self._taps_and_embed(images, self.networks.discriminator.tap_blocks)
        return taps, vectors

    @torch.no_grad()
    def real_taps(self, micro: MicroBatch) -> list[Tensor]:
        """Taps of a micro-batch's real images, each [b, width, g, g]."""
        with self.precision.mixed():
            taps: list[Tensor] = self._taps(
                micro.random.augment_real(self.real_images(micro)), self.networks.discriminator.tap_blocks
            )
        return taps

    def real_images(self, micro: MicroBatch) -> Tensor:
        """The real images, [b, 3, S, S] in [-1, 1], on the same background as the generated ones."""
        return lay_on(micro.images.to(torch.float32).div_(127.5).sub_(1), micro.random.background)

    @torch.no_grad()
    def other_images(self, micro: MicroBatch) -> Tensor:
        """The images that other noise gives, [b, 3, S, S]."""
        with self.precision.mixed():
            images: Tensor = self.networks.generator(micro.random.other_z, micro.text.e, self.networks.vision)
        return lay_on(images, micro.random.background)

    def d_loss(self, micro: MicroBatch, real_taps: list[Tensor], fake_taps: list[Tensor]) -> DiscriminatorTerms:
        """L_D of a micro-batch."""
        terms: DiscriminatorTerms = self._discriminator_loss(real_taps, fake_taps, micro.text.e, micro.e_mis)
        return terms

    def d_backward(
        self, micro: MicroBatch, fake_taps: list[Tensor], parts: int = 1, more_to_come: bool = False
    ) -> DiscriminatorTerms:
        """Add the gradients of L_D to D's; the terms come back detached."""
        real_taps = self.real_taps(micro)
        with self.distributed.without_sync(self._discriminator_loss, more_to_come):
            terms = self.d_loss(micro, real_taps, fake_taps)
            self.backward("discriminator", terms.loss_d / parts)
        return terms.detach()

    def g_loss(self, micro: MicroBatch, fake: FakeImages) -> GeneratorTerms:
        """L_G of a micro-batch."""
        text, options, second = micro.text, self.config.loss, self.networks.second
        second_pair = paired_with = None
        if options.similarity_second and second is not None and text.second_clip is not None:
            with self.precision.mixed():
                second_pair = second.vision.embed(fake.augmented), text.second_clip
        if options.paired:
            paired_with = self.real_images(micro), self.other_images(micro)
        return losses.generator_loss(
            self.networks.discriminator, fake, text.e, text.clip, options, self.precision, second_pair, paired_with
        )

    def g_backward(
        self, micro: MicroBatch, fake: FakeImages, parts: int = 1, more_to_come: bool = False
    ) -> GeneratorTerms:
        """Add the gradients of L_G to G's; the terms come back detached."""
        with _frozen(self._parameters["discriminator"]):  # the gradients of D's weights would be thrown away
            terms = self.g_loss(micro, fake)
            with self.distributed.without_sync(self._generator, more_to_come):
                self.backward("generator", terms.loss_g / parts)
        return terms.detach()

    def backward(self, name: str, loss: Tensor) -> None:
        """Add the gradients of `loss` to those of one network."""
        torch.autograd.backward(self.scalers[name].scale(loss), inputs=self._parameters[name])

    def optimizer_step(self, name: str) -> None:
        """Let the optimiser use the gradients of one network, and forget them."""
        optimizer, scaler = self.optimizers[name], self.scalers[name]
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)

    def _mismatched(self, captions: list[str], e: Tensor) -> Tensor | None:
        """The sentence vectors that this process's images are mismatched with, chosen in the whole batch."""
        ids = self.distributed.gather_rows(caption_ids(captions).to(self.device)).tolist()
        if len(set(ids)) == 1:
            return None
        vectors = self.distributed.gather_rows(e)
        rows = losses.mismatched(ids)[self.distributed.rank :: self.distributed.world]
        return vectors[rows]

    # ---- what a checkpoint keeps

    def weights_are_finite(self) -> bool:
        """Whether every weight of G and D is: a loss shows a broken weight only in the next step."""
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
                group["betas"] = self.config.optimizer.betas
            self.scalers[name].load_state_dict(state["scalers"][name])


def _plain_rates(state: dict[str, Any]) -> dict[str, Any]:
    """An optimiser's state that one which is not captured in a CUDA graph can load as well."""
    groups = [group | {"lr": float(group["lr"]), "capturable": False} for group in state["param_groups"]]
    return state | {"param_groups": groups}


@contextlib.contextmanager
def _frozen(parameters: list[nn.Parameter]) -> Iterator[None]:
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
