"""TorchBackend: a model's networks run by torch, eagerly or through another way to compute the generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import (
    CLIPTextModelWithProjection,
    CLIPVisionModelWithProjection,
    PreTrainedTokenizerBase,
    T5EncoderModel,
)

from galip.errors import InputError
from galip.generation.backend import ModelSizes
from galip.models.clip import FrozenCLIPVision
from galip.models.generator import MateGenerator
from galip.models.text import CLIPSentenceEncoder, SentenceEncoder, T5SentenceEncoder
from galip.utils.arrays import FloatArray

GeneratorCall = Callable[[MateGenerator, FrozenCLIPVision, Tensor, Tensor], Tensor]
"""Computes `generator(z, e, vision)` in a way of its own, without gradient: (generator, vision, z, e) -> images."""

_PRECISIONS = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16", torch.float64: "fp64"}


class TorchBackend:
    """Runs a model's networks with torch; see `galip.generation.backend.Backend`.

    Args:
        tokenizer: the text encoder's own tokenizer; None, with `text_encoder`, where the model reads no prompts.
        text_encoder: CLIP's text model with projection, or T5's encoder.
        vision_encoder: the frozen CLIP-ViT that the generator looks through.
        generator: Mate-G.
        text_scale: for T5, the constant that brings its vectors to the norm the generator was trained with.
        generator_call: computes the generator instead of torch's eager mode: the engine is then "compile".

    Attributes:
        vision: the CLIP-ViT with the input mapping that the generator was trained with.
        sentence_encoder: the text encoder with its tokenizer; None where the model reads no prompts.
        gradients: the networks as differentiable functions.

    Raises:
        InputError: parts do not fit each other.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase | None,
        text_encoder: CLIPTextModelWithProjection | T5EncoderModel | None,
        vision_encoder: CLIPVisionModelWithProjection,
        generator: MateGenerator,
        text_scale: float | None = None,
        generator_call: GeneratorCall | None = None,
    ) -> None:
        config = generator.config
        self.generator, self._call = generator, generator_call
        self.vision = FrozenCLIPVision(vision_encoder, clip_input=config.clip_input)
        if (self.vision.width, self.vision.grid) != (config.vision_width, config.grid):
            raise InputError(
                f"vision_encoder has width {self.vision.width} and a grid of {self.vision.grid}, but the generator was "
                f"built for width {config.vision_width} and grid {config.grid}: they belong to different models"
            )
        self.sentence_encoder: SentenceEncoder | None = None
        if tokenizer is not None and text_encoder is not None:
            self.sentence_encoder = _sentence_encoder(tokenizer, text_encoder, text_scale)
            if self.sentence_encoder.dim != generator.cond_dim:
                raise InputError(
                    f"text_encoder gives vectors of length {self.sentence_encoder.dim}, but the generator was built "
                    f"for {generator.cond_dim}: they belong to different models"
                )
        self.gradients = TorchGradients(generator, self.vision)

    @property
    def name(self) -> str:
        """The engine."""
        return "torch" if self._call is None else "compile"

    @property
    def device(self) -> str:
        """Where it computes."""
        return str(self.generator.device)

    @property
    def precision(self) -> str:
        """What the generator computes in."""
        return _PRECISIONS[self.generator.dtype]

    @property
    def sizes(self) -> ModelSizes:
        """What the model takes and gives."""
        g = self.generator
        return ModelSizes(g.z_dim, g.cond_dim, g.num_stages, g.image_size, g.config.get("image_channels", 3))

    @property
    def text_encoder(self) -> Literal["clip", "t5"] | None:
        """Which kind reads prompts."""
        if self.sentence_encoder is None:
            return None
        return "t5" if isinstance(self.sentence_encoder, T5SentenceEncoder) else "clip"

    @property
    def has_image_encoder(self) -> bool:
        """Always: the generator looks through it."""
        return True

    @property
    def not_finite_hint(self) -> str:
        """What to do about images that hold numbers that are not finite."""
        dtype = self.generator.dtype
        if dtype == torch.float32:
            return "the weights are broken: load an earlier checkpoint, or fetch the model again"
        return f"the weights are {dtype}, which may overflow: load the model with dtype=torch.float32"

    def encode(self, prompts: Sequence[str]) -> FloatArray:
        """Sentence vectors [N, cond_dim] of cleaned prompts, not normalised."""
        assert self.sentence_encoder is not None
        return _numpy(self.sentence_encoder.encode(list(prompts)))

    def generate(self, z: FloatArray, e: FloatArray) -> FloatArray:
        """Images [B, C, S, S] in about [-1, 1]."""
        return _numpy(self.generate_tensor(z, e))

    @torch.no_grad()
    def generate_tensor(self, z: FloatArray, e: FloatArray) -> Tensor:
        """`generate`, fp32, left on the device."""
        on_device = [torch.from_numpy(array).to(self.generator.device) for array in (z, e)]
        if self._call is None:
            return self.gradients.generate(*on_device)
        return self._call(self.generator, self.vision, *on_device).float()

    @torch.no_grad()
    def embed_images(self, images: FloatArray) -> FloatArray:
        """CLIP vectors [B, D] of images [B, 3, S, S] in [-1, 1], not normalised."""
        return _numpy(self.gradients.embed_images(torch.from_numpy(images)))


class TorchGradients:
    """A model's networks as differentiable functions; see `galip.generation.backend.Gradients`."""

    def __init__(self, generator: MateGenerator, vision: FrozenCLIPVision) -> None:
        self._generator, self._vision = generator, vision

    @property
    def device(self) -> torch.device:
        """Where tensors have to be."""
        device: torch.device = self._generator.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        dtype: torch.dtype = self._generator.dtype
        return dtype

    def generate(self, z: Tensor, e: Tensor) -> Tensor:
        """Images [B, C, S, S] in about [-1, 1], fp32, not clamped."""
        images: Tensor = self._generator(z, e, self._vision)
        return images.float()

    def embed_images(self, images: Tensor) -> Tensor:
        """CLIP vectors [B, D], not normalised, of images [B, 3, S, S] in [-1, 1]."""
        return self._vision.embed(images.to(self.device)).float()


def _sentence_encoder(tokenizer: Any, text_encoder: Any, text_scale: float | None) -> SentenceEncoder:
    """The sentence encoder that the class of `text_encoder` asks for."""
    try:
        network = getattr(text_encoder, "_orig_mod", text_encoder)  # beneath torch.compile
        if isinstance(network, T5EncoderModel):
            if text_scale is None:
                raise InputError("text_encoder is a T5: give text_scale, the constant it was trained with")
            return T5SentenceEncoder(tokenizer, text_encoder, text_scale)
        if isinstance(network, CLIPTextModelWithProjection):
            if text_scale is not None:
                raise InputError(f"text_scale is {text_scale}, but it is for a T5: CLIP's vectors are not scaled")
            return CLIPSentenceEncoder(tokenizer, text_encoder)
    except ValueError as error:
        raise InputError(str(error)) from error
    raise InputError(
        f"text_encoder is a {type(network).__name__}: CLIPTextModelWithProjection or T5EncoderModel is needed"
    )


def _numpy(tensor: Tensor) -> FloatArray:
    array: FloatArray = tensor.float().cpu().numpy()
    return array
