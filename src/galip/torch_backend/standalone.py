"""A pipeline for whoever has diffusers and not galip: the same images of the same prompts and seeds, and little else.

`galip.torch_backend.pipeline_file` writes this module and the networks that it uses into one file, `pipeline.py`, that
goes with a saved model; diffusers runs it where a user says `custom_pipeline="pipeline", trust_remote_code=True`. galip
never does.
"""

from __future__ import annotations

import html
import re
import secrets
import sys
import types
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput
from transformers import (
    CLIPTextModelWithProjection,
    CLIPVisionModelWithProjection,
    PreTrainedTokenizerBase,
    T5EncoderModel,
)

from galip.generation.noise import noise
from galip.models.clip import FrozenCLIPVision
from galip.models.generator import MateGenerator
from galip.models.text import CLIPSentenceEncoder, SentenceEncoder, T5SentenceEncoder


@dataclass
class ImagesAndSeeds(BaseOutput):
    """What a call returns.

    Attributes:
        images: PIL images, or floats [N, H, W, C] ("np") or [N, C, H, W] ("pt") in [0, 1].
        seeds: the seed of each image; None where the noise was given.
    """

    images: Any
    seeds: list[int] | None = None


class GALIPPipeline(DiffusionPipeline):
    """Generates images of prompts in one forward pass each; see the model's card.

    Args:
        tokenizer: the text encoder's own tokenizer.
        text_encoder: CLIP's text model with projection, or T5's encoder.
        vision_encoder: the frozen CLIP-ViT that the generator looks through.
        generator: Mate-G.
        text_scale: for T5, the factor of its vectors.
    """

    _optional_components = ["tokenizer", "text_encoder"]  # noqa: RUF012 (diffusers' own declaration)

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase | None,
        text_encoder: CLIPTextModelWithProjection | T5EncoderModel | None,
        vision_encoder: CLIPVisionModelWithProjection,
        generator: MateGenerator,
        text_scale: float | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(
            tokenizer=tokenizer, text_encoder=text_encoder, vision_encoder=vision_encoder, generator=generator
        )
        self.register_to_config(text_scale=text_scale)
        generator.fold()

    def encode_prompt(self, prompt: str | Sequence[str]) -> torch.Tensor:
        """Sentence vectors [N, cond_dim] of prompts, not normalised."""
        if self.text_encoder is None:
            raise ValueError("this model has no text encoder: give prompt_embeds instead of prompt")
        encoder: SentenceEncoder
        if self.config.text_scale is None:
            encoder = CLIPSentenceEncoder(self.tokenizer, self.text_encoder)
        else:
            encoder = T5SentenceEncoder(self.tokenizer, self.text_encoder, self.config.text_scale)
        return encoder.encode([_clean(text) for text in ([prompt] if isinstance(prompt, str) else prompt)])

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        num_images_per_prompt: int = 1,
        seed: int | Sequence[int] | None = None,
        latents: torch.Tensor | None = None,
        prompt_embeds: torch.Tensor | None = None,
        truncation: float = 1.0,
        batch_size: int = 16,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> Any:
        """Generate images.

        Args:
            prompt: a prompt or P prompts.
            num_images_per_prompt: how many different images of each.
            seed: `s` means seeds s, s + 1, ... for the images of every prompt; a list is one for each image.
            latents: the noise [N, z_dim] itself instead of seeds.
            prompt_embeds: sentence vectors [P, cond_dim], or one for each stage, instead of prompts.
            truncation: multiplies the noise; below 1 images become more typical and less varied.
            batch_size: how many images are generated at once.
            output_type: "pil", "np" or "pt".
            return_dict: False returns the pair (images, seeds).

        Returns:
            `ImagesAndSeeds`: the images of the prompts in their order, all of one prompt together.
        """
        if (prompt is None) == (prompt_embeds is None):
            raise ValueError("give either prompt or prompt_embeds")
        e = self.encode_prompt(prompt) if prompt_embeds is None else prompt_embeds  # type: ignore[arg-type]
        e = e.repeat_interleave(num_images_per_prompt, dim=0)
        seeds: list[int] | None = None
        if latents is None:
            first = secrets.randbelow(2**32) if seed is None else seed
            each = range(first, first + num_images_per_prompt) if isinstance(first, int) else first
            seeds = list(each) * (len(e) // num_images_per_prompt) if isinstance(first, int) else list(each)
            latents = torch.from_numpy(noise(seeds, self.generator.config.z_dim))
        if len(latents) != len(e):
            raise ValueError(f"there are {len(latents)} seeds or latents for {len(e)} images")
        vision = FrozenCLIPVision(self.vision_encoder, self.generator.config.clip_input)
        device, parts = self.generator.device, []
        for start in range(0, len(e), batch_size):
            rows = slice(start, start + batch_size)
            images = self.generator((latents[rows] * truncation).to(device), e[rows].to(device), vision).float()
            parts.append((images * 0.5 + 0.5).clamp(0.0, 1.0))
        output = ImagesAndSeeds(_as(torch.cat(parts), output_type), seeds)
        return output if return_dict else (output.images, output.seeds)


GALIPPipeline.__init__.__annotations__.clear()  # earlier releases of diffusers cannot read them where they are text


def _clean(text: str) -> str:
    """A prompt cleaned as CLIP's training captions were; broken encodings are repaired where ftfy is installed."""
    try:
        import ftfy
    except ImportError:
        pass
    else:
        text = ftfy.fix_text(text)
    text = re.sub(r"\s+", " ", html.unescape(html.unescape(text))).strip()
    if not text:
        raise ValueError("a prompt is empty")
    return text


def _as(images: torch.Tensor, output_type: str) -> Any:
    """Images [N, C, H, W] in [0, 1] as a call's `output_type` says."""
    from PIL import Image

    if output_type == "pt":
        return images
    array = images.permute(0, 2, 3, 1).cpu().numpy()
    if output_type == "np":
        return array
    if array.shape[-1] == 4:
        array = array[..., :3] * array[..., 3:] + 1 - array[..., 3:]  # what is transparent is laid on white
    return [Image.fromarray(pixels) for pixels in np.rint(array * 255).astype(np.uint8)]


def _stand_in() -> None:
    """Let diffusers find the generator's class where the model's index says it is, although galip is not installed."""
    try:
        import galip.models.generator  # noqa: F401
    except ImportError:
        for name in ("galip", "galip.models", "galip.models.generator"):
            sys.modules[name] = types.ModuleType(name)
        MateGenerator.__module__ = "galip.models.generator"  # where it is saved to, too
        home = sys.modules["galip.models.generator"]
        home.MateGenerator, home.ModelMixin = MateGenerator, ModelMixin  # type: ignore[attr-defined]


_stand_in()
