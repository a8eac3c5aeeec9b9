"""Trains a CLIP of a preset's sizes on captioned images, as a job that precedes a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from galip.data.samples import Batch
from galip.models.clip import CLIP_MEAN, CLIP_STD
from galip.models.presets import Preset
from galip.training.augment import lay_on, random_augmentations, random_backgrounds
from galip.training.batches import caption_ids
from galip.training.clip_training.losses import PixelReader, ThumbnailReader, contrast, seed_patches
from galip.training.clip_training.tokenizer import train_tokenizer
from galip.training.config import AugmentationConfig
from galip.training.preparation_config import CLIPTrainingConfig

SENTENCE_NORM = 10.0
"""Mean norm of the un-normalised sentence vector, as released CLIP's has it."""

_SHIFT = AugmentationConfig(shift=0.06)  # type: ignore[call-arg]


class CLIPLearner:
    """A CLIP with what helps it to learn.

    Args:
        options: the run's `clip_training` section.
        preset: whose sizes it has.
        captions: all distinct captions of the data.
        examples: images of the data, uint8 [N, C, S, S], from which the patch embedding begins.
        seed: of the first weights and of all that is random.
        device: where it learns.
    """

    name = "clip"
    purpose = "a CLIP learns which caption belongs to which image"

    def __init__(
        self,
        options: CLIPTrainingConfig,
        preset: Preset,
        captions: Sequence[str],
        examples: Tensor,
        seed: int,
        device: torch.device,
    ) -> None:
        self.captions, self.seed, self.device = captions, seed, device
        self.tokenizer = train_tokenizer(captions, options.vocabulary, options.context)
        torch.manual_seed(seed)
        self.clip = _build(self.tokenizer, options, preset)
        vision, dim = self.clip.config.vision_config, self.clip.config.projection_dim
        blocks = preset.discriminator["tap_blocks"]
        self.thumbnails = ThumbnailReader(dim)
        self.pixels = PixelReader(vision.hidden_size, vision.patch_size, blocks)
        shown = lay_on(_unit(examples), None)
        patches = F.unfold(shown, vision.patch_size, stride=vision.patch_size).transpose(1, 2).flatten(0, 1)
        seed_patches(self.clip.vision_model.embeddings.patch_embedding.weight, patches)
        self.module: nn.Module = nn.ModuleList([self.clip, self.thumbnails, self.pixels]).to(device)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Contrast, and what must be readable; see `galip.training.clip_training.losses`."""
        size = batch.images.shape[-1]
        augment, _ = random_augmentations(_SHIFT, size, self.seed, batch.indices)
        images = _unit(batch.images).to(self.device)
        shown = augment.to(self.device)(lay_on(images, random_backgrounds(self.seed, batch.indices).to(self.device)))
        seen, states = self._see(shown)
        said = self._read(batch.captions)
        ids = caption_ids(batch.captions).to(self.device)
        scale = self.clip.logit_scale.clamp(max=math.log(100)).exp()
        return {
            "contrast": contrast(seen, said, scale, (ids[:, None] == ids[None]).float()),
            "thumbnails": self.thumbnails(said, lay_on(images, None)),
            "pixels": self.pixels(states, shown),
        }

    @torch.no_grad()
    def save(self, folder: Path) -> None:
        """Write the CLIP as transformers reads it, its sentence vectors scaled to `SENTENCE_NORM`."""
        clip = self.clip.eval()
        some = self.captions[:: -(-len(self.captions) // 2048)]
        parts = [self._read(some[start : start + 256]) for start in range(0, len(some), 256)]
        norm = torch.cat(parts).norm(dim=1).mean()
        clip.text_projection.weight.mul_(SENTENCE_NORM / norm)
        clip.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def _see(self, images: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        """Image vectors [B, D] of images [B, 3, S, S], and the hidden states after each block."""
        mean, std = (torch.tensor(values, device=self.device)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))
        pixels = ((images + 1) / 2 - mean) / std
        found: Any = self.clip.vision_model(pixel_values=pixels, output_hidden_states=True)
        return self.clip.visual_projection(found.pooler_output), found.hidden_states[1:]

    def _read(self, captions: Sequence[str]) -> Tensor:
        """Sentence vectors [B, D]."""
        length = self.tokenizer.model_max_length
        rows = self.tokenizer(list(captions), truncation=True, max_length=length, padding=True, return_tensors="pt")
        found: Any = self.clip.text_model(input_ids=rows["input_ids"].to(self.device))
        vectors: Tensor = self.clip.text_projection(found.pooler_output)
        return vectors


def _unit(images: Tensor) -> Tensor:
    """uint8 images as numbers in [-1, 1]."""
    return images.float() / 127.5 - 1


def _build(tokenizer: CLIPTokenizer, options: CLIPTrainingConfig, preset: Preset) -> CLIPModel:
    """An untrained CLIP: the preset's image tower, and a text tower of the same width."""
    vision = {"hidden_act": "gelu"} | preset.vision
    dim = vision["projection_dim"]
    text = {name: vision[name] for name in ("hidden_size", "intermediate_size", "num_attention_heads", "hidden_act")}
    text |= {"num_hidden_layers": options.text_layers, "projection_dim": dim}
    text |= {"vocab_size": len(tokenizer), "max_position_embeddings": options.context}
    text |= {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text |= {"pad_token_id": tokenizer.pad_token_id}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=dim))
