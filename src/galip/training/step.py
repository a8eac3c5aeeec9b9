"""One training step: D learns from real, drawn and mismatched pairs, then G from the same drawn pictures.

The batch of a step is spread over processes (rank r holds samples r, r + W, ...) and over micro-batches. Which captions
are mismatched, and with that every loss term, depends on the batch alone, not on how it is spread.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from galip.data.samples import Batch
from galip.distributed import Distributed
from galip.models.discriminator import MateDiscriminator
from galip.training import losses
from galip.training.config import LossConfig, TrainConfig
from galip.training.cuda_graph import Recording
from galip.training.networks import Networks
from galip.training.parallel import caption_numbers
from galip.training.rng import RandomInputs, SampleRNG
from galip.training.tensors import Bundle

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Sentences(Bundle):
    """Vectors of B captions, fp32.

    Attributes:
        e: [B, cond_dim], what conditions G and D.
        similar: [B, embed_dim], CLIP's vectors, towards which the similarity loss pulls; `e` itself without a T5.
        second: the same in the second CLIP, where there is one.
    """

    e: Tensor
    similar: Tensor
    second: Tensor | None = None


@dataclass(frozen=True)
class _Micro(Bundle):
    """What one process holds at once: b pictures, all on the device."""

    images: Tensor  # uint8 [b, 3, S, S]
    sentences: Sentences
    mismatched: Tensor | None  # [b, cond_dim]
    random: RandomInputs


class DiscriminatorLoss(nn.Module):
    """L_D of a micro-batch as one module with one backward pass, which is what gradient averaging needs.

    Args:
        discriminator: Mate-D with its assessor.
        weights: the run's `loss` section.
        device: type of the device, for autocast.
        dtype: of the part that may be computed in less than fp32.
    """

    def __init__(self, discriminator: MateDiscriminator, weights: LossConfig, device: str, dtype: torch.dtype) -> None:
        super().__init__()
        self.discriminator = discriminator
        self.weights = weights
        self._device, self._dtype = device, dtype

    def forward(
        self, real_taps: list[Tensor], fake_taps: list[Tensor], e: Tensor, mismatched: Tensor | None
    ) -> dict[str, Tensor]:
        """Every term (scalars) of L_D, the mean scores, and `loss_d`.

        Args:
            real_taps, fake_taps: tapped features, each [b, C, g, g], without gradients.
            e: sentence vectors [b, cond_dim].
            mismatched: those that the real pictures are mismatched with; None where the batch has one caption only.
        """
        discriminator, weights = self.discriminator, self.weights
        # Only the taps and e are differentiated, in fp32: the ViT before them is not part of the penalty.
        penalised = weights.penalty_k > 0 or weights.r1 > 0
        real_taps = [tap.detach().float().requires_grad_(penalised) for tap in real_taps]
        e_real = e.detach().clone().requires_grad_(penalised)
        zero = torch.zeros((), device=e.device)
        with torch.autocast(self._device, enabled=False):
            features = discriminator.features(real_taps)
            real = discriminator.assess(features, e_real)
            mismatch = None if mismatched is None else discriminator.assess(features, mismatched)
            penalty = r1 = zero
            if penalised:
                squared_c, squared_e = losses.squared_gradients(real, real_taps, e_real)
                if weights.penalty_k:
                    penalty = losses.penalty_of(
                        squared_c, squared_e, weights.penalty_k, weights.penalty_p, weights.penalty_form
                    )
                if weights.r1:
                    r1 = losses.r1(squared_c, weights.r1)
        with torch.autocast(self._device, dtype=self._dtype, enabled=self._dtype != torch.float32):
            fake = discriminator(fake_taps, e).float()
        terms = {
            "d_real": losses.hinge_real(real),
            "d_fake": losses.hinge_fake(fake),
            "d_mismatch": zero if mismatch is None else losses.hinge_fake(mismatch),
            "penalty": penalty,
        }
        loss = terms["d_real"] + (terms["d_fake"] + terms["d_mismatch"]) / 2 + penalty + r1
        terms |= {"score_real": real.mean(), "score_fake": fake.mean()}
        terms["score_mismatch"] = zero if mismatch is None else mismatch.mean()
        if weights.r1:
            terms["r1"] = r1
        return {"loss_d": loss} | {name: term.detach() for name, term in terms.items()}


def lay_out(networks: Networks, device: torch.device, channels_last: bool | None = None) -> None:
    """Move what a step differentiates to the device, in the layout and the form of the generator that are fast there.

    Args:
        networks: the run's networks, changed in place.
        device: where the run computes.
        channels_last: see `RunConfig.channels_last`.
    """
    wanted = device.type == "cuda" if channels_last is None else channels_last
    layout = torch.channels_last if wanted else torch.contiguous_format
    for network in (networks.vision, networks.generator, networks.discriminator):
        network.to(device).to(memory_format=layout)
    networks.generator.fold()


class GANStep:
    """The optimisers and loss scalers of a run, and what they do with a batch.

    Args:
        networks: on their device already.
        config: the run.
        processes: this process among the others.

    Attributes:
        optimizers, scalers: by network, "generator" and "discriminator".
        sample_rng: the random inputs of samples, for batches that do not bring them along.
    """

    def __init__(self, networks: Networks, config: TrainConfig, processes: Distributed) -> None:
        self.networks, self.config, self.processes = networks, config, processes
        self.device = processes.device
        self._dtype = DTYPES[config.run.precision]
        self.sample_rng = SampleRNG(config, networks.generator.z_dim, networks.generator.image_size)
        if config.run.compile:
            networks.generator.compile()
        vision = networks.vision
        # Mate-D stays as it is: its gradient penalty is differentiated twice, which compiled graphs cannot do.
        self._look: Any = torch.compile(vision.taps_and_embed) if config.run.compile else vision.taps_and_embed
        self._look_at_real: Any = torch.compile(vision.taps) if config.run.compile else vision.taps
        self._draw = processes.wrap(networks.generator)
        self._judge = processes.wrap(
            DiscriminatorLoss(networks.discriminator, config.loss, self.device.type, self._dtype)
        )
        self._trained = {
            name: [p for p in getattr(networks, name).parameters() if p.requires_grad]
            for name in ("generator", "discriminator")
        }
        options = config.optimizer
        self.rates = {"generator": options.lr_generator, "discriminator": options.lr_discriminator}
        self.optimizers = {
            name: torch.optim.Adam(
                parameters, self.rates[name], options.betas, fused=True, capturable=config.run.cuda_graph
            )
            for name, parameters in self._trained.items()
        }
        self._record()
        scaled = config.run.precision == "fp16"
        self.scalers = {name: torch.amp.GradScaler(self.device.type, enabled=scaled) for name in self.optimizers}

    def __call__(self, batch: Batch, sentences: Sentences, factor: float = 1.0) -> dict[str, float]:
        """Take one step of both networks.

        Args:
            batch: this process's samples of the step.
            sentences: vectors of their captions, on the device.
            factor: what both learning rates are multiplied with.

        Returns:
            Every loss term, D's mean scores, similarity, and `diversity`: the mean pairwise cosine distance of the
            drawn pictures in CLIP space. Means over the whole batch, equal on every process.
        """
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                rate = self.rates[name] * factor
                if isinstance(group["lr"], Tensor):  # where a recording reads it
                    group["lr"].fill_(rate)
                else:
                    group["lr"] = rate
        micros = list(self._split(batch, sentences))
        if self._recorded is None:
            return self._row(self._take(micros))
        return self._row(self._recorded(micros[0]))

    def _record(self) -> None:
        """Begin to record anew, if the run asks for it: a recording changes the optimiser states that it has met."""
        self._recorded: Recording[_Micro] | None = None
        if not self.config.run.cuda_graph:
            return
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["capturable"] = True
                group["lr"] = torch.tensor(float(group["lr"]), device=self.device)
        self._recorded = Recording(lambda micro: self._take([micro]))

    # ---- the parts of a step

    def _take(self, micros: list[_Micro]) -> Tensor:
        """All the work of a step; answers what `_row` reads."""
        rows: list[dict[str, Tensor]] = []
        drawn: _Drawn | None = None
        for number, micro in enumerate(micros):
            if len(micros) == 1:  # G learns from the very pictures that D saw
                drawn = self._draw_and_look(micro)
                fake_taps = [tap.detach() for tap in drawn.taps]
            else:
                with torch.no_grad():
                    fake_taps = self._draw_and_look(micro).taps
            rows.append(self._discriminator(micro, fake_taps, len(micros), number + 1 < len(micros)))
        self._step("discriminator")
        for number, micro in enumerate(micros):
            again = self._draw_and_look(micro, number + 1 < len(micros)) if drawn is None else drawn
            rows[number] |= self._generator(micro, again, len(micros), number + 1 < len(micros))
        self._step("generator")
        self._names = [name for name in rows[0] if name != _MEAN_VECTOR]
        table = torch.stack([torch.stack([row[name].float() for name in self._names]) for row in rows]).mean(0)
        centre = torch.stack([row[_MEAN_VECTOR] for row in rows]).mean(0)
        return torch.cat([table, centre.float()])

    def _row(self, numbers: Tensor) -> dict[str, float]:
        # One message between processes, one wait for the device.
        values = self.processes.mean(numbers).tolist()
        means = dict(zip(self._names, values, strict=False))
        count = self.config.run.batch
        means["diversity"] = (1 - sum(value**2 for value in values[len(self._names) :])) * count / (count - 1)
        return means

    def _split(self, batch: Batch, sentences: Sentences) -> Iterator[_Micro]:
        size = len(batch.captions)
        others = self._mismatched(batch.captions, sentences.e)
        random = self.sample_rng(batch.indices) if batch.extra is None else batch.extra
        at_once = self.config.run.micro_batch or size
        for start in range(0, size, at_once):
            part = slice(start, start + at_once)
            images = batch.images[part].to(self.device)
            mismatched = None if others is None else others[part]
            yield _Micro(images, sentences[part], mismatched, random[part].to(self.device))

    def _mismatched(self, captions: list[str], e: Tensor) -> Tensor | None:
        """The sentence vectors that this process's pictures are mismatched with, chosen in the whole batch."""
        numbers = self.processes.gather_rows(caption_numbers(captions).to(self.device)).tolist()
        if len(set(numbers)) == 1:
            return None
        vectors = self.processes.gather_rows(e)
        rows = losses.mismatched(numbers)[self.processes.rank :: self.processes.world]
        return vectors[rows]

    def _draw_and_look(self, micro: _Micro, more_to_come: bool = False) -> _Drawn:
        with self.processes.without_sync(self._draw, more_to_come), self._autocast():
            fake = self._draw(micro.random.z, micro.sentences.e, self.networks.vision)
            seen = micro.random.augment_fake(fake)
            taps, vectors = self._look(seen, self.networks.discriminator.tap_blocks)
        return _Drawn(fake, seen, taps, vectors)

    def _discriminator(
        self, micro: _Micro, fake_taps: list[Tensor], parts: int, more_to_come: bool
    ) -> dict[str, Tensor]:
        with torch.no_grad(), self._autocast():
            real_taps = self._look_at_real(
                micro.random.augment_real(self._real(micro)), self.networks.discriminator.tap_blocks
            )
        with self.processes.without_sync(self._judge, more_to_come):
            row: dict[str, Tensor] = self._judge(real_taps, fake_taps, micro.sentences.e, micro.mismatched)
            self._backward("discriminator", row["loss_d"] / parts)
        return row | {"loss_d": row["loss_d"].detach()}

    @torch.no_grad()
    def _draw_again(self, micro: _Micro) -> Tensor:
        """The pictures that other noise gives, [b, 3, S, S]."""
        with self._autocast():
            pictures: Tensor = self.networks.generator(micro.random.other_z, micro.sentences.e, self.networks.vision)
        return pictures

    def _real(self, micro: _Micro) -> Tensor:
        """The real pictures, [b, 3, S, S] in [-1, 1]."""
        return micro.images.to(torch.float32).div_(127.5).sub_(1)

    def _generator(self, micro: _Micro, drawn: _Drawn, parts: int, more_to_come: bool) -> dict[str, Tensor]:
        networks, weights = self.networks, self.config.loss
        with _frozen(self._trained["discriminator"]):  # the gradients of D's weights would be thrown away
            with self._autocast():
                adversarial = losses.adversarial(networks.discriminator(drawn.taps, micro.sentences.e).float())
            similarity = losses.similarity(drawn.vectors, micro.sentences.similar)
            loss = adversarial - weights.similarity * similarity
            row = {"adversarial": adversarial.detach(), "similarity": similarity.detach()}
            if networks.second is not None and weights.similarity_second:
                assert micro.sentences.second is not None
                with self._autocast():
                    vectors = networks.second.vision.embed(drawn.seen)
                second = losses.similarity(vectors, micro.sentences.second)
                loss = loss - weights.similarity_second * second
                row["similarity_second"] = second.detach()
            if weights.paired:
                paired, spread = losses.paired(drawn.pictures, self._real(micro), self._draw_again(micro))
                loss = loss + weights.paired * (paired - spread)
                row |= {"paired": paired.detach(), "spread": spread.detach()}
            with self.processes.without_sync(self._draw, more_to_come):
                self._backward("generator", loss / parts)
        unit = F.normalize(drawn.vectors.detach().float(), dim=1)
        return row | {"loss_g": loss.detach(), _MEAN_VECTOR: unit.mean(0)}

    def _backward(self, name: str, loss: Tensor) -> None:
        torch.autograd.backward(self.scalers[name].scale(loss), inputs=self._trained[name])

    def _step(self, name: str) -> None:
        optimizer, scaler = self.optimizers[name], self.scalers[name]
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(self.device.type, dtype=self._dtype, enabled=self._dtype != torch.float32)

    def weights_are_finite(self) -> bool:
        """Whether every weight of G and D is: a loss shows a broken weight only in the next step."""
        norms = torch._foreach_norm([p.detach() for parameters in self._trained.values() for p in parameters])
        return bool(torch.stack(norms).isfinite().all())

    # ---- what a checkpoint keeps

    def state(self) -> dict[str, Any]:
        """Optimisers and loss scalers, for `load_state`."""
        return {
            "optimizers": {name: _plain_rates(optimizer.state_dict()) for name, optimizer in self.optimizers.items()},
            "scalers": {name: scaler.state_dict() for name, scaler in self.scalers.items()},
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned. Learning rates and betas remain the configuration's."""
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
            for group in optimizer.param_groups:
                group["betas"] = self.config.optimizer.betas
            self.scalers[name].load_state_dict(state["scalers"][name])
        self._record()


@dataclass(frozen=True)
class _Drawn:
    """Drawn pictures, and as CLIP sees them: augmented pictures, tapped features, image vectors."""

    pictures: Tensor
    seen: Tensor
    taps: list[Tensor]
    vectors: Tensor


_MEAN_VECTOR = "mean vector"


def _plain_rates(state: dict[str, Any]) -> dict[str, Any]:
    """An optimiser's state that one which is not recorded can load as well."""
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
