"""GALIPPipeline: captions and seeds to pictures (paper, section 3.3, as a user meets it)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.utils.torch_utils import randn_tensor
from numpy.typing import NDArray
from torch import Tensor
from transformers import (
    CLIPTextModelWithProjection,
    CLIPVisionModelWithProjection,
    PreTrainedTokenizerBase,
    T5EncoderModel,
)

from galip.errors import GalipError, InputError
from galip.generation import inputs
from galip.generation.inputs import BATCH_SIZE, Job, OutputType, Sentences
from galip.generation.noise import noise
from galip.generation.output import GALIPPipelineOutput, to_pil
from galip.models.clip import FrozenCLIPVision
from galip.models.generator import MateGenerator
from galip.models.text import CLIPSentenceEncoder, SentenceEncoder, T5SentenceEncoder

Drawer = Callable[[MateGenerator, FrozenCLIPVision, Tensor, Tensor], Tensor]
"""Computes `generator(z, e, vision)` in a way of its own: (generator, vision, z, e) -> pictures."""

# diffusers renamed the argument, and each side of the change warns about the other's name.
_DTYPE_ARGUMENT = "dtype" if tuple(map(int, diffusers.__version__.split(".")[:2])) >= (0, 40) else "torch_dtype"


class GALIPPipeline(DiffusionPipeline):
    """Draws pictures from captions, in one forward pass each.

    A picture depends on the weights, its prompt and its seed alone: its noise comes from its own seed,
    so neither the batch nor the place there changes it (in fp32 by more than 1e-5 of the range; a GPU
    keeps that only with `torch.backends.cudnn.allow_tf32 = False`).

    It saves, loads, moves and is pushed to the hub like every diffusers pipeline. Because its class and its generator's
    live outside diffusers, load a saved folder with `GALIPPipeline.from_pretrained` or `galip.load`.

    Args:
        tokenizer: the text encoder's own tokenizer. None, with `text_encoder`, where only `prompt_embeds` are drawn.
        text_encoder: CLIP's text model with projection, or T5's encoder.
        vision_encoder: the frozen CLIP-ViT that the generator looks through.
        generator: Mate-G.
        text_scale: for T5, the constant that brings its vectors to the norm the generator was trained with (see
            `galip.models.text.measure_scale`); None for CLIP. It is saved with the pipeline.

    Raises:
        InputError: parts do not fit each other.
    """

    _optional_components = ["tokenizer", "text_encoder"]  # noqa: RUF012 (diffusers' own declaration)

    tokenizer: PreTrainedTokenizerBase | None
    text_encoder: CLIPTextModelWithProjection | T5EncoderModel | None
    vision_encoder: CLIPVisionModelWithProjection
    generator: MateGenerator

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
        self.drawer: Drawer | None = None
        self._vision: FrozenCLIPVision | None = None
        self._sentence_encoder: SentenceEncoder | None = None
        self._encoder_parts: tuple[Any, ...] = ()
        # Parts that do not fit are found here rather than at the first picture.
        _ = self.vision
        if text_encoder is not None:
            _ = self.sentence_encoder

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> GALIPPipeline:
        """Load a saved pipeline; see `DiffusionPipeline.from_pretrained` for the arguments.

        Unlike there, all parts come in one dtype, fp32 unless `dtype` says otherwise, and weights are read from
        safetensors files only: a pickle can run code.
        """
        dtype = kwargs.pop("dtype", None) or kwargs.pop("torch_dtype", None) or torch.float32
        kwargs.setdefault("use_safetensors", True)
        pipeline: GALIPPipeline = super().from_pretrained(
            pretrained_model_name_or_path, **{_DTYPE_ARGUMENT: dtype}, **kwargs
        )
        return pipeline

    # ---- the parts as GALIP uses them

    @property
    def vision(self) -> FrozenCLIPVision:
        """The frozen CLIP-ViT with the input mapping that the generator was trained with.

        Raises:
            InputError: `vision_encoder` is not of the size that `generator` was built for.
        """
        clip_input = self.generator.config.clip_input
        vision = self._vision
        if vision is None or vision.model is not self.vision_encoder or vision.clip_input != clip_input:
            vision = FrozenCLIPVision(self.vision_encoder, clip_input=clip_input)
            expected = self.generator.config
            if (vision.width, vision.grid) != (expected.vision_width, expected.grid):
                raise InputError(
                    f"vision_encoder has width {vision.width} and a grid of {vision.grid}, but the generator was built "
                    f"for width {expected.vision_width} and grid {expected.grid}: they belong to different models"
                )
            self._vision = vision
        return vision

    @property
    def sentence_encoder(self) -> SentenceEncoder:
        """The sentence encoder that the class of `text_encoder` asks for: CLIP's or T5's.

        Raises:
            InputError: there is none, it is of another class, `text_scale` is missing, or sizes do not fit.
        """
        parts = (self.tokenizer, self.text_encoder, self.config.text_scale, self.generator)
        cached = self._sentence_encoder
        if cached is None or any(a is not b for a, b in zip(parts, self._encoder_parts, strict=True)):
            cached = _build_sentence_encoder(self.tokenizer, self.text_encoder, self.config.text_scale)
            if cached.dim != self.generator.cond_dim:
                raise InputError(
                    f"text_encoder gives vectors of length {cached.dim}, but the generator was built for "
                    f"{self.generator.cond_dim}: they belong to different models"
                )
            self._sentence_encoder, self._encoder_parts = cached, parts
        return cached

    def encode_prompt(self, prompt: str | Sequence[str]) -> Tensor:
        """Sentence vectors of captions, as `prompt_embeds` takes them.

        Args:
            prompt: one caption or N of them. Each different one is cleaned and encoded once.

        Returns:
            [N, cond_dim] in fp32, not normalised, on the text encoder's device.

        Raises:
            InputError: `prompt` is no caption or list of captions, or a caption is empty.
        """
        return self.sentence_encoder.encode(inputs.clean_prompts(prompt))

    # ---- drawing

    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        num_images_per_prompt: int = 1,
        seed: int | Sequence[int] | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        latents: Tensor | NDArray[Any] | None = None,
        prompt_embeds: Tensor | None = None,
        truncation: float = 1.0,
        batch_size: int = BATCH_SIZE,
        output_type: OutputType = "pil",
        return_dict: bool = True,
    ) -> GALIPPipelineOutput | tuple[Any, list[int] | None]:
        """Draw pictures.

        With P prompts there are N = P * num_images_per_prompt pictures, in the order of the prompts, all pictures of
        one prompt together. A progress bar is shown where they do not fit into one batch.

        Args:
            prompt: a caption or P captions.
            num_images_per_prompt: how many different pictures of each prompt.
            seed: `s` means seeds s, s + 1, ... for the pictures of every prompt; a list is one seed for each of the N
                pictures. None: fresh random seeds, which the output tells.
            generator: torch's own random generator instead of seeds, one for all or one for each of the N pictures.
            latents: the noise z [N, z_dim] itself instead of seeds.
            prompt_embeds: un-normalised sentence vectors instead of `prompt`, [P, cond_dim], or one for each stage of
                the generator, [P, num_stages, cond_dim].
            truncation: multiplies z. Below 1 pictures become more typical and less varied.
            batch_size: how many pictures are drawn at once. It changes speed and memory, not pictures.
            output_type: "pil" for a list of PIL images, "np" for floats [N, H, W, 3], "pt" for floats [N, 3, H, W] on
                the pipeline's device, both in [0, 1].
            return_dict: False returns the pair (images, seeds).

        Returns:
            The pictures, and their seeds (None where the noise did not come from seeds).

        Raises:
            InputError: an argument is of the wrong kind or length; the message says what is expected.
            GalipError: the generator made numbers that are not finite.
        """
        job = self._plan(
            prompt, num_images_per_prompt, seed, generator, latents, prompt_embeds, truncation, batch_size, output_type
        )
        if job.total > job.batch_size:
            parts = []
            with self.progress_bar(total=job.total) as bar:
                for part in self._run(job):
                    parts.append(part)
                    bar.update(len(part.images))
        else:
            parts = list(self._run(job))
        output = _join(parts)
        return output if return_dict else output.to_tuple()

    def stream(
        self,
        prompt: str | Sequence[str] | None = None,
        num_images_per_prompt: int = 1,
        seed: int | Sequence[int] | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        latents: Tensor | NDArray[Any] | None = None,
        prompt_embeds: Tensor | None = None,
        truncation: float = 1.0,
        batch_size: int = BATCH_SIZE,
        output_type: OutputType = "pil",
    ) -> Iterator[GALIPPipelineOutput]:
        """Draw pictures batch by batch, so that never more than one batch is in memory.

        Arguments are checked at once; captions are encoded and pictures drawn as the iteration goes on.

        Args, exceptions: as for a call.

        Returns:
            An iterator of outputs of up to `batch_size` pictures; one after the other they are what a call returns.
        """
        job = self._plan(
            prompt, num_images_per_prompt, seed, generator, latents, prompt_embeds, truncation, batch_size, output_type
        )
        return self._run(job)

    def _plan(
        self,
        prompt: Any,
        num_images_per_prompt: Any,
        seed: Any,
        generator: Any,
        latents: Any,
        prompt_embeds: Any,
        truncation: Any,
        batch_size: Any,
        output_type: Any,
    ) -> Job[Tensor]:
        """Check every argument and make of them what the drawing loop needs."""
        per_prompt = inputs.positive_int("num_images_per_prompt", num_images_per_prompt)
        inputs.check_output_type(output_type)
        inputs.check_one_of_prompt_and_embeds(prompt, prompt_embeds)
        vectors: Callable[[list[int]], Tensor]
        if prompt_embeds is None:
            captions = inputs.clean_prompts(prompt)
            total = len(captions) * per_prompt
            vectors = Sentences(self.sentence_encoder.encode, torch.stack, captions)
        else:
            embeds = self._check_embeds(prompt_embeds)
            total = len(embeds) * per_prompt
            vectors = embeds.__getitem__
        return Job[Tensor](
            total=total,
            per_prompt=per_prompt,
            vectors=vectors,
            noise=self._noise(total, per_prompt, seed, generator, latents),
            truncation=inputs.finite("truncation", truncation),
            batch_size=inputs.positive_int("batch_size", batch_size),
            output_type=output_type,
        )

    def _run(self, job: Job[Tensor]) -> Iterator[GALIPPipelineOutput]:
        z_dim = self.generator.z_dim
        for start, stop, e in job.batches():
            if isinstance(job.noise, Tensor):
                seeds, z = None, job.noise[start:stop]
            else:
                seeds = job.noise[start:stop]
                z = torch.from_numpy(noise(seeds, z_dim))
            images = self._draw(z, e, job.truncation)
            self._check_finite(images, seeds, start)
            yield GALIPPipelineOutput(_convert(images, job.output_type), seeds)

    @torch.no_grad()
    def _draw(self, z: Tensor, e: Tensor, truncation: float) -> Tensor:
        """Noise [B, z_dim] and sentence vectors -> fp32 pictures [B, 3, S, S], not clamped, in about [0, 1]."""
        device = self.generator.device
        z, e = (z * truncation).to(device), e.to(device)
        if self.drawer is None:
            images = self.generator(z, e, self.vision)
        else:
            images = self.drawer(self.generator, self.vision, z, e)
        return images.float() * 0.5 + 0.5

    def _noise(self, total: int, per_prompt: int, seed: Any, generator: Any, latents: Any) -> Tensor | list[int]:
        """The noise [total, z_dim] of all pictures, or the seeds it is made from batch by batch."""
        inputs.check_one_source_of_noise(seed=seed, generator=generator, latents=latents)
        if latents is not None:
            return _check_latents(latents, total, self.generator.z_dim)
        if generator is not None:
            return self._torch_noise(generator, total)
        return inputs.seeds_of(seed, total, per_prompt)

    def _torch_noise(self, generator: Any, total: int) -> Tensor:
        generators = [generator] if isinstance(generator, torch.Generator) else generator
        if not isinstance(generators, Sequence) or not all(isinstance(g, torch.Generator) for g in generators):
            raise InputError(f"generator {generator!r}: give a torch.Generator or a list of them; a number is a `seed`")
        if generators is generator and len(generators) != total:
            raise InputError(f"generator is a list of {len(generators)}: give one for each of the {total} pictures")
        shape = (total, self.generator.z_dim)
        out: Tensor = randn_tensor(
            shape,
            generator=generator if isinstance(generator, torch.Generator) else list(generators),
            device=self.generator.device,
            dtype=torch.float32,
        )
        return out

    def _check_embeds(self, embeds: Any) -> Tensor:
        cond_dim, stages = self.generator.cond_dim, self.generator.num_stages
        if not isinstance(embeds, Tensor) or not embeds.is_floating_point():
            raise InputError(
                f"prompt_embeds is {inputs.kind(embeds)}: give a float tensor, for example encode_prompt(...)"
            )
        inputs.check_embeds_shape(embeds.shape, stages, cond_dim)
        if not embeds.isfinite().all():
            raise InputError("prompt_embeds holds numbers that are not finite")
        return embeds.detach()

    def _check_finite(self, images: Tensor, seeds: list[int] | None, start: int) -> None:
        finite = images.isfinite().flatten(1).all(dim=1)
        if finite.all():
            return
        first = int((~finite).nonzero()[0])
        name = inputs.picture_name(start + first, None if seeds is None else seeds[first])
        dtype = self.generator.dtype
        remedy = (
            "the weights are broken: load an earlier checkpoint, or fetch the model again"
            if dtype == torch.float32
            else f"the weights are {dtype}, which may overflow: load the model with dtype=torch.float32"
        )
        raise GalipError(f"{name} holds numbers that are not finite; {remedy}")


def _build_sentence_encoder(tokenizer: Any, text_encoder: Any, text_scale: float | None) -> SentenceEncoder:
    if tokenizer is None or text_encoder is None:
        raise InputError("this pipeline has no text encoder or no tokenizer: give prompt_embeds instead of prompt")
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


def _check_latents(latents: Any, total: int, z_dim: int) -> Tensor:
    if not isinstance(latents, Tensor | np.ndarray):
        raise InputError(f"latents is {inputs.kind(latents)}: give the noise as a tensor or array [{total}, {z_dim}]")
    z = torch.as_tensor(latents).detach()
    inputs.check_latents_shape(z.shape, total, z_dim)
    if not z.is_floating_point() or not z.isfinite().all():
        raise InputError("latents must be finite floating-point numbers, about normally distributed")
    return z.float()


def _convert(images: Tensor, output_type: OutputType) -> Any:
    """fp32 [B, 3, H, W] in about [0, 1] -> what the caller asked for."""
    images = images.clamp(0.0, 1.0)
    if output_type == "pt":
        return images
    array = np.ascontiguousarray(images.permute(0, 2, 3, 1).cpu().numpy())  # [B, 3, H, W] -> [B, H, W, 3]
    return array if output_type == "np" else to_pil(array)


def _join(parts: list[GALIPPipelineOutput]) -> GALIPPipelineOutput:
    if len(parts) == 1:
        return parts[0]
    seeds = None if parts[0].seeds is None else [seed for part in parts for seed in part.seeds or ()]
    first = parts[0].images
    if isinstance(first, list):
        return GALIPPipelineOutput([image for part in parts for image in part.images], seeds)
    join = torch.cat if isinstance(first, Tensor) else np.concatenate
    return GALIPPipelineOutput(join([part.images for part in parts]), seeds)
