"""One adversarial step: D learns from real, generated and mismatched pairs, then G from the same generated images.

Which captions are mismatched, and with that every loss term, depends on the batch alone, not on how it is spread over
processes and micro-batches.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from galip.distributed import Distributed
from galip.models.discriminator import Assessed
from galip.models.feature_heads import FeatureHeads
from galip.training import losses
from galip.training.augment import Augmentation, lay_on
from galip.training.batches import caption_ids
from galip.training.config import LossConfig, TrainConfig
from galip.training.losses import DiscriminatorTerms, FakeImages, GeneratorTerms, Views
from galip.training.networks import Networks
from galip.training.precision import Precision
from galip.training.ramps import Ramps, blurred
from galip.training.step_base import MicroBatch, StepTensors, TrainingStep


class DiscriminatorLoss(nn.Module):
    """L_D as one module with one backward pass, which is what gradient averaging needs."""

    def __init__(
        self,
        discriminator: Assessed,
        options: LossConfig,
        precision: Precision,
        heads: FeatureHeads | None = None,
    ) -> None:
        super().__init__()
        self.discriminator, self.heads = discriminator, heads
        self.options, self.precision = options, precision

    def forward(self, real: Views, fake: Views, e: Tensor, e_mis: Tensor | None) -> DiscriminatorTerms:
        """See `losses.discriminator_loss` and `losses.with_heads`."""
        D, options, precision = self.discriminator, self.options, self.precision
        terms = losses.discriminator_loss(D, real.taps, fake.taps, e, e_mis, options, precision, real.pixels)
        if self.heads is None:
            return terms
        return losses.with_heads(terms, self.heads, real.maps, fake.maps, e, e_mis, precision)


class GANStep(TrainingStep):
    """The paper's objective: a step of D, then one of G.

    Args:
        networks: on their device already, see `prepare_models`.
        config: the run.
        distributed: this process among the others.
    """

    def __init__(self, networks: Networks, config: TrainConfig, distributed: Distributed) -> None:
        trained: dict[str, list[nn.Module]] = {"generator": [networks.generator]}
        trained["discriminator"] = [networks.discriminator, *([] if networks.heads is None else [networks.heads])]
        super().__init__(networks, config, distributed, trained)
        # A discriminator without taps is one without CLIP.
        self._looks_at_pixels = not networks.discriminator.tap_blocks
        penalised = config.loss.penalty_k > 0 or config.loss.r1 > 0
        self._penalises_pixels = penalised and config.loss.penalty_on == "pixels"
        vision = networks.vision
        self._taps_and_embed: Any = vision.taps_and_embed
        self._taps: Any = vision.taps
        if config.performance.compile:
            # Mate-D stays as it is: its gradient penalty is differentiated twice, which compiled graphs cannot do.
            self._taps_and_embed, self._taps = torch.compile(vision.taps_and_embed), torch.compile(vision.taps)
        self._discriminator_loss = distributed.wrap(
            DiscriminatorLoss(networks.discriminator, config.loss, self.precision, networks.heads)
        )

    def compute(self, micros: Sequence[MicroBatch]) -> StepTensors:
        """All the work of a step: weights and optimiser states change in place."""
        parts, only = len(micros), micros[0] if len(micros) == 1 else None
        fake = None if only is None else self.g_forward(only)  # G learns from the very images that D saw
        terms: list[dict[str, Tensor]] = []
        vectors = []
        if self.networks.heads is not None:
            self.networks.heads.update_norms()
        for number, micro in enumerate(micros):
            if fake is not None:
                seen = fake.views().detach()
            else:
                with torch.no_grad():
                    seen = self.g_forward(micro).views()
            more = number + 1 < parts
            terms.append(self.d_backward(micro, seen, parts, more).named())
        self.optimizer_step("discriminator")
        for number, micro in enumerate(micros):
            more = number + 1 < parts
            shown = self.g_forward(micro, more) if fake is None else fake
            terms[number] |= self.g_backward(micro, shown, parts, more).named()
            vectors.append(F.normalize(shown.vectors.detach().float(), dim=1).mean(0))
        self.optimizer_step("generator")
        return self.collect(terms, vectors)

    def g_forward(self, micro: MicroBatch, more_to_come: bool = False) -> FakeImages:
        """Generate the images of a micro-batch, and look at them through CLIP and the feature networks.

        Args:
            micro: the samples.
            more_to_come: another micro-batch of the step follows, with which gradients are averaged.
        """
        with self.distributed.without_sync(self._generator, more_to_come), self.precision.mixed():
            images = self._generator(self.noise(micro, micro.random.z), micro.text.e, self.networks.vision)
            images = lay_on(images, micro.random.background)
            augmented = micro.random.augment_fake(images)
            taps, vectors = self.clip_features(augmented)
            maps = self.feature_maps(images, micro.random.features_fake, micro.ramps)
        return FakeImages(images, augmented, taps, vectors, maps)

    def clip_features(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Taps, each [b, width, g, g], and CLIP's image vectors [b, embed_dim] of generated images."""
        if self._looks_at_pixels:
            return [images], self.networks.vision.embed(images)
        taps, vectors = self._taps_and_embed(images, self.networks.discriminator.tap_blocks)
        return taps, vectors

    def feature_maps(self, images: Tensor, augment: Augmentation | None, ramps: Ramps | None) -> list[Tensor]:
        """Maps of all feature networks, each [b, C, h, w], of images that are blurred and augmented before."""
        if augment is None:
            return []
        shown = augment(blurred(images, ramps))
        return [maps for network in self.networks.feature_networks for maps in network(shown)]

    def real_views(self, micro: MicroBatch) -> Views:
        """What the discriminators see of a micro-batch's real images; the images where D looks at pixels."""
        images, random = self.real_images(micro), micro.random
        shown, blocks = random.augment_real(images), self.networks.discriminator.tap_blocks
        with torch.no_grad(), self.precision.mixed():
            maps = self.feature_maps(images, random.features_real, micro.ramps)
            if self._looks_at_pixels:
                return Views([shown], maps)
            if not self._penalises_pixels:
                return Views(self._taps(shown, blocks), maps)
        shown = shown.detach().requires_grad_()
        # Of torch's kinds of attention only this one is differentiated twice.
        with self.precision.full(), sdpa_kernel(SDPBackend.MATH):
            return Views(self.networks.vision.taps(shown, blocks), maps, shown)

    @torch.no_grad()
    def other_images(self, micro: MicroBatch) -> Tensor:
        """The images that other noise gives, [b, 3, S, S]."""
        assert micro.random.other_z is not None
        z = self.noise(micro, micro.random.other_z)
        with self.precision.mixed():
            images: Tensor = self.networks.generator(z, micro.text.e, self.networks.vision)
        return lay_on(images, micro.random.background)

    def d_loss(self, micro: MicroBatch, real: Views, fake: Views) -> DiscriminatorTerms:
        """L_D of a micro-batch."""
        terms: DiscriminatorTerms = self._discriminator_loss(real, fake, micro.text.e, micro.e_mis)
        return terms

    def d_backward(
        self, micro: MicroBatch, fake: Views, parts: int = 1, more_to_come: bool = False
    ) -> DiscriminatorTerms:
        """Add the gradients of L_D to D's; the terms come back detached."""
        real = self.real_views(micro)
        with self.distributed.without_sync(self._discriminator_loss, more_to_come):
            terms = self.d_loss(micro, real, fake)
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
            self.networks.discriminator,
            fake,
            text.e,
            text.clip,
            options,
            self.precision,
            second_pair,
            paired_with,
            self.networks.heads,
            micro.ramps,
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

    def mismatched(self, captions: list[str], e: Tensor) -> Tensor | None:
        """The sentence vectors that this process's images are mismatched with, chosen in the whole batch."""
        if not self.config.loss.mismatch:
            return None
        ids = self.distributed.gather_rows(caption_ids(captions).to(self.device)).tolist()
        if len(set(ids)) == 1:
            return None
        vectors = self.distributed.gather_rows(e)
        rows = losses.mismatched(ids)[self.distributed.rank :: self.distributed.world]
        return vectors[rows]


@contextlib.contextmanager
def _frozen(parameters: list[nn.Parameter]) -> Iterator[None]:
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
