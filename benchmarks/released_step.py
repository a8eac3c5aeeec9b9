"""A training step as the authors' published code takes it, on this project's networks: what our step is compared with.

What it does again and again, and ours does not:

* captions are encoded by CLIP at every step, each padded to the full context;
* pixels of the real pictures and sentence vectors require gradients, so that D's loss is differentiated through the
  CLIP-ViT back to them, and all blocks of the ViT run on the real pictures, also those after the last tap;
* G's loss is differentiated with respect to D's weights too; those gradients stay until D's next turn throws them away;
* up-blocks of G are computed as they are written, upsampling first, in torch's contiguous layout;
* D's dead weights are handed to the optimiser.

What it shares with ours: one run of the ViT on the drawn pictures serves D, the adversarial loss and the similarity;
D sees those features detached; the penalty is taken with respect to taps and sentence vector. Networks are ours, whose
fusion blocks work in place where the published ones make new tensors: that is in favour of this step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from galip.training.config import LossConfig, OptimizerConfig
from galip.training.networks import Networks


class ReleasedStep:
    """Steps both networks; the weights are those of the networks given, which it brings into the released state.

    Args:
        networks: generator, discriminator and CLIP; a T5 or a second CLIP is not used.
        loss: weights of the similarity and of the penalty, which has the released form.
        optimizer: rates and betas of the two Adams.
    """

    def __init__(self, networks: Networks, loss: LossConfig, optimizer: OptimizerConfig) -> None:
        self.networks, self.weights = networks, loss
        networks.generator.fold(False)
        for network in (networks.vision, networks.generator, networks.discriminator):
            network.to(memory_format=torch.contiguous_format)
        trained: dict[str, nn.Module] = {"generator": networks.generator, "discriminator": networks.discriminator}
        rates = {"generator": optimizer.lr_generator, "discriminator": optimizer.lr_discriminator}
        self.optimizers = {
            name: torch.optim.Adam(network.requires_grad_(True).parameters(), rates[name], optimizer.betas)
            for name, network in trained.items()
        }

    def __call__(self, images: Tensor, captions: Sequence[str], z: Tensor) -> dict[str, float]:
        """Take one step of D, then one of G.

        Args:
            images: uint8 [B, 3, S, S].
            captions: B captions.
            z: noise [B, z_dim].

        Returns:
            Every loss term and D's mean scores, by the names of `galip.training.step`.
        """
        self.optimizers["discriminator"].zero_grad()
        real = (images.float() / 127.5 - 1).requires_grad_()
        e = self.encode(captions).requires_grad_()
        real_taps, _ = self.look(real)
        fake = self.draw(z, e)
        fake_taps, fake_vectors = self.look(fake)
        terms = self.discriminator_terms(real_taps, fake_taps.detach(), e)
        self.backward(terms["loss_d"])
        self.optimizers["discriminator"].step()

        self.optimizers["generator"].zero_grad()
        terms |= self.generator_terms(fake_taps, fake_vectors, e)
        self.backward(terms["loss_g"])
        self.optimizers["generator"].step()
        return {name: term.item() for name, term in terms.items()}

    # ---- the parts of a step

    def encode(self, captions: Sequence[str]) -> Tensor:
        """Sentence vectors [B, cond_dim], every caption padded to CLIP's whole context."""
        text_encoder = self.networks.text_encoder
        context = text_encoder.config.max_position_embeddings
        tokens = self.networks.tokenizer(
            list(captions), padding="max_length", truncation=True, max_length=context, return_tensors="pt"
        )
        with torch.no_grad():
            vectors: Tensor = text_encoder(input_ids=tokens["input_ids"]).text_embeds
        return vectors

    def draw(self, z: Tensor, e: Tensor) -> Tensor:
        """Pictures [B, 3, S, S]."""
        pictures: Tensor = self.networks.generator(z, e, self.networks.vision)
        return pictures

    def look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Taps [B, number, C, g, g] and image vectors [B, embed_dim], by a run of the whole ViT."""
        taps, vectors = self.networks.vision.taps_and_embed(images, self.networks.discriminator.tap_blocks)
        return torch.stack(taps, dim=1), vectors

    def discriminator_terms(self, real_taps: Tensor, fake_taps: Tensor, e: Tensor) -> dict[str, Tensor]:
        """L_D and its parts."""
        discriminator = self.networks.discriminator
        features = discriminator.features(real_taps.unbind(1))
        real = discriminator.assess(features, e)
        mismatch = discriminator.assess(features, e.roll(-1, 0).detach())
        fake = discriminator(fake_taps.unbind(1), e)
        terms = {
            "d_real": F.relu(1 - real).mean(),
            "d_mismatch": F.relu(1 + mismatch).mean(),
            "d_fake": F.relu(1 + fake).mean(),
            "penalty": self._penalty(real, real_taps, e),
            "score_real": real.mean(),
            "score_mismatch": mismatch.mean(),
            "score_fake": fake.mean(),
        }
        return terms | {"loss_d": terms["d_real"] + (terms["d_fake"] + terms["d_mismatch"]) / 2 + terms["penalty"]}

    def generator_terms(self, fake_taps: Tensor, fake_vectors: Tensor, e: Tensor) -> dict[str, Tensor]:
        """L_G and its parts."""
        adversarial = -self.networks.discriminator(fake_taps.unbind(1), e).mean()
        similarity = F.cosine_similarity(fake_vectors, e).mean()
        loss = adversarial - self.weights.similarity * similarity
        return {"adversarial": adversarial, "similarity": similarity, "loss_g": loss}

    def backward(self, loss: Tensor) -> None:
        """Gradients of everything that `loss` depends on and that requires them."""
        loss.backward()

    def _penalty(self, logits: Tensor, taps: Tensor, e: Tensor) -> Tensor:
        gradients = torch.autograd.grad(
            logits, (taps, e), torch.ones_like(logits), retain_graph=True, create_graph=True
        )
        norms = torch.cat([gradient.flatten(1) for gradient in gradients], dim=1).square().sum(1).sqrt()
        return self.weights.penalty_k * (norms**self.weights.penalty_p).mean()
