"""TextToImage: THE call, prompts and seeds to images, the same on every engine (paper, section 3.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from galip.errors import GalipError, InputError
from galip.generation import inputs
from galip.generation.backend import Backend, ModelSizes
from galip.generation.inputs import BATCH_SIZE, Batch, GenerationPlan, PromptVectors, Seeds
from galip.generation.output import Background, GALIPPipelineOutput, OutputType, check_background, on_background, to_pil
from galip.generation.resize import check_size, resize_output
from galip.utils.arrays import FloatArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from typing_extensions import Self

Progress = Callable[[str, int, int], None]
"""Told (stage, done, total); a total of 0 is unknown."""


class TextToImage:
    """Generates images of prompts, in one forward pass each.

    An image depends on the weights, its prompt and its seed alone: its noise comes from its own seed, so neither the
    batch nor the place there changes it (in fp32 by more than 1e-5 of the range).

    Args:
        backend: runs the networks.
    """

    output_types: ClassVar[tuple[OutputType, ...]] = ("pil", "np")

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    @property
    def backend(self) -> Backend:
        """What runs the networks; its attributes say what the model and the engine can do."""
        return self._backend

    @property
    def sizes(self) -> ModelSizes:
        """What the model takes and gives."""
        return self.backend.sizes

    def embed(self, prompt: str | Sequence[str]) -> FloatArray:
        """Sentence vectors of prompts, as numpy's on every engine.

        Args:
            prompt: one prompt or N of them. Each different one is cleaned and encoded once.

        Returns:
            float32 [N, cond_dim], not normalised.

        Raises:
            InputError: `prompt` is not a prompt or a list of prompts, one is empty, or the model has no text encoder.
        """
        prompts = inputs.clean_prompts(prompt)
        return PromptVectors(self._encode(), prompts)(range(len(prompts)))

    def encode_prompt(self, prompt: str | Sequence[str]) -> Any:
        """`embed`, in the kind of array that this pipeline's `prompt_embeds` is usually given as."""
        return self.embed(prompt)

    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        num_images_per_prompt: int = 1,
        seed: int | Sequence[int] | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        latents: NDArray[Any] | Tensor | None = None,
        prompt_embeds: NDArray[Any] | Tensor | None = None,
        truncation: float = 1.0,
        batch_size: int = BATCH_SIZE,
        output_type: OutputType = "pil",
        return_dict: bool = True,
        background: Background = "white",
        progress: Progress | None = None,
        height: int | None = None,
        width: int | None = None,
        **others: Any,
    ) -> GALIPPipelineOutput | tuple[Any, list[int] | None]:
        """Generate images.

        With P prompts there are N = P * num_images_per_prompt images, in the order of the prompts, all images of one
        prompt together.

        Args:
            prompt: a prompt or P prompts.
            num_images_per_prompt: how many different images of each prompt.
            seed: `s` means seeds s, s + 1, ... for the images of every prompt; a list is one seed for each of the N
                images. None: fresh random seeds, which the output tells.
            generator: torch's own random generator instead of seeds, one for all or one for each of the N images.
                Only `GALIPPipeline` takes it.
            latents: the noise z [N, z_dim] itself instead of seeds. Only `GALIPPipeline` takes torch's tensors.
            prompt_embeds: un-normalised sentence vectors instead of `prompt`, [P, cond_dim], or one for each stage of
                the generator, [P, num_stages, cond_dim]. Only `GALIPPipeline` takes torch's tensors.
            truncation: multiplies z. Below 1 images become more typical and less varied.
            batch_size: how many images are generated at once. It changes speed and memory, not images.
            output_type: "pil" for a list of PIL images, "np" for floats [N, H, W, 3] in [0, 1]; `GALIPPipeline` has
                "pt" too, floats [N, 3, H, W] on its device.
            return_dict: False returns the pair (images, seeds).
            background: what a model with an alpha channel lays its images on: "white", or "transparent" for RGBA.
            progress: told ("generate", images done, images in all) after each batch. None: a progress bar where the
                images do not fit into one batch and the pipeline has one.
            height, width: in pixels, for images that are resized (Lanczos; a shape that is not square is padded, as
                the service does it). None: the model's own.
            others: arguments of diffusers' other pipelines. They may be None; with a value each is refused in words.

        Returns:
            The images, and their seeds (None where the noise did not come from seeds).

        Raises:
            InputError: an argument is of the wrong kind or length; the message says what is expected.
            TypeError: there is no such argument.
            GalipError: the generator made numbers that are not finite.
        """
        inputs.check_others(others)
        size = check_size(height, width, self.sizes.image_size)
        plan, output_type = self._plan(
            prompt, num_images_per_prompt, seed, generator, latents, prompt_embeds, truncation, batch_size, output_type
        )
        check_background(background, self.sizes.image_channels)
        parts = []
        with self._progress(plan, progress) as report:
            for part in self._run(plan, output_type if size is None else "np", background):
                if size is not None:
                    part.images = self._as_asked(resize_output(part.images, size, output_type), output_type)
                parts.append(part)
                report(len(part.images))
        output = self._join(parts)
        return output if return_dict else output.to_tuple()

    def stream(
        self,
        prompt: str | Sequence[str] | None = None,
        num_images_per_prompt: int = 1,
        seed: int | Sequence[int] | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        latents: NDArray[Any] | Tensor | None = None,
        prompt_embeds: NDArray[Any] | Tensor | None = None,
        truncation: float = 1.0,
        batch_size: int = BATCH_SIZE,
        output_type: OutputType = "pil",
        background: Background = "white",
    ) -> Iterator[GALIPPipelineOutput]:
        """Generate images batch by batch, so that never more than one batch is in memory.

        Arguments are checked at once; prompts are encoded and images generated as the iteration goes on.

        Args, exceptions: as for a call.

        Returns:
            An iterator of outputs of up to `batch_size` images; one after the other they are what a call returns.
        """
        plan, output_type = self._plan(
            prompt, num_images_per_prompt, seed, generator, latents, prompt_embeds, truncation, batch_size, output_type
        )
        check_background(background, self.sizes.image_channels)
        return self._run(plan, output_type, background)

    def generate(
        self,
        z: ArrayLike,
        e: ArrayLike,
        truncation: float = 1.0,
        batch_size: int = BATCH_SIZE,
        output_type: OutputType = "pil",
    ) -> Any:
        """Generate the images of noise and sentence vectors.

        Args:
            z: noise [N, z_dim].
            e: sentence vectors [N, cond_dim], or one for each stage of the generator, [N, num_stages, cond_dim].
            truncation, batch_size, output_type: as for a call.

        Returns:
            The N images, as `output_type` says.

        Raises:
            InputError: z or e has a wrong shape or holds numbers that are not finite.
            GalipError: the generator made numbers that are not finite.
        """
        latents, embeds = np.asarray(z, np.float32), np.asarray(e, np.float32)
        parts = self.stream(
            latents=latents,
            prompt_embeds=embeds,
            truncation=truncation,
            batch_size=batch_size,
            output_type=output_type,
        )
        return self._join(list(parts)).images

    def generate_each(
        self,
        points: Iterable[tuple[FloatArray, FloatArray]],
        truncation: float = 1.0,
        batch_size: int = BATCH_SIZE,
        output_type: OutputType = "pil",
    ) -> Iterator[Any]:
        """`generate` for pairs of z [z_dim] and e that are made on the way: one batch at a time is in memory.

        Returns:
            An iterator over the images, one by one: PIL images or floats [S, S, 3].
        """
        count = inputs.positive_int("batch_size", batch_size)
        coming = iter(points)
        while batch := list(islice(coming, count)):
            z, e = np.stack([z for z, _ in batch]), np.stack([e for _, e in batch])
            yield from self.generate(z, e, truncation, count, output_type)

    # ---- what diffusers' users expect of a pipeline; GALIPPipeline has diffusers' own

    def to(self, device: Any = "cpu", *_: Any, **__: Any) -> Self:
        """Stay on the CPU, where this engine runs.

        Raises:
            InputError: another device, or a dtype, is asked for.
        """
        if str(device) != "cpu":
            raise InputError(
                f"{device}: the engine {self.backend.name} runs on the CPU and in the model's own types; "
                f'load the model for it: galip.load(..., engine="torch", device="cuda")'
            )
        return self

    def set_progress_bar_config(self, **_: Any) -> None:
        """Accepted and without effect: this engine shows no bar. A call's `progress` is told how far it is."""

    def enable_model_cpu_offload(self, *_: Any, **__: Any) -> None:
        """Accepted and without effect: this engine keeps nothing on a GPU."""

    enable_sequential_cpu_offload = enable_model_cpu_offload

    # ---- what a call is made of; GALIPPipeline adds torch's kinds of arrays

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
    ) -> tuple[GenerationPlan, OutputType]:
        """Check every argument and make of them what the batches are made from."""
        sizes = self.sizes
        per_prompt = inputs.positive_int("num_images_per_prompt", num_images_per_prompt)
        output_type = inputs.check_output_type(output_type, self.output_types)
        inputs.check_one_of_prompt_and_embeds(prompt, prompt_embeds)
        vectors: Callable[[list[int]], FloatArray]
        if prompt_embeds is None:
            prompts = inputs.clean_prompts(prompt)
            total, vectors = len(prompts) * per_prompt, PromptVectors(self._encode(), prompts)
        else:
            embeds = inputs.check_embeds(self._as_numpy(prompt_embeds), sizes.num_stages, sizes.cond_dim)
            total, vectors = len(embeds) * per_prompt, embeds.__getitem__
        inputs.check_one_source_of_noise(seed=seed, generator=generator, latents=latents)
        noise: FloatArray | Seeds
        if latents is not None:
            noise = inputs.check_latents(self._as_numpy(latents), total, sizes.z_dim)
        elif generator is not None:
            noise = self._noise_from(generator, total)
        else:
            noise = Seeds(seed, total, per_prompt)
        factor, at_once = inputs.truncation_factor(truncation), inputs.positive_int("batch_size", batch_size)
        return GenerationPlan(total, per_prompt, vectors, noise, sizes.z_dim, factor, at_once), output_type

    def _run(
        self, plan: GenerationPlan, output_type: OutputType, background: Background
    ) -> Iterator[GALIPPipelineOutput]:
        for batch in plan.batches():
            yield GALIPPipelineOutput(self._images(batch, output_type, background), batch.seeds)

    def _images(self, batch: Batch, output_type: OutputType, background: Background) -> Any:
        """The images of a batch as the caller asked for them."""
        images = self.backend.generate(batch.z, batch.e) * np.float32(0.5) + np.float32(0.5)
        self._check_finite(np.isfinite(images).all(axis=(1, 2, 3)), batch)
        images = on_background(np.clip(images, 0.0, 1.0), background)
        array = np.ascontiguousarray(images.transpose(0, 2, 3, 1))  # [B, C, H, W] -> [B, H, W, C]
        return to_pil(array) if output_type == "pil" else array

    def _check_finite(self, finite: NDArray[np.bool_], batch: Batch) -> None:
        if not finite.all():
            first = int(np.argmin(finite))
            name = inputs.image_name(batch.start + first, None if batch.seeds is None else batch.seeds[first])
            raise GalipError(f"{name} holds numbers that are not finite; {self.backend.not_finite_hint}")

    def _as_asked(self, images: Any, output_type: OutputType) -> Any:
        """Resized images in the kind of array that `output_type` names."""
        return images

    def _encode(self) -> Callable[[Sequence[str]], FloatArray]:
        if self.backend.text_encoder is None:
            raise InputError("this model has no text encoder: give prompt_embeds instead of prompt")
        return self.backend.encode

    def _as_numpy(self, value: Any) -> Any:
        """An array of the caller's in numpy, whose kind and shape are checked afterwards."""
        return value

    def _noise_from(self, generator: Any, total: int) -> FloatArray:
        """The noise [total, z_dim] that torch's random generators make."""
        raise InputError("generator is torch's, and this engine runs without torch: give seed or latents")

    @contextmanager
    def _progress(self, plan: GenerationPlan, progress: Progress | None) -> Iterator[Callable[[int], None]]:
        """What is told how many images each batch has brought."""
        done = 0

        def report(count: int) -> None:
            nonlocal done
            done += count
            if progress is not None:
                progress("generate", done, plan.total)

        yield report

    def _join(self, parts: list[GALIPPipelineOutput]) -> GALIPPipelineOutput:
        """One output of a call's batches."""
        if len(parts) == 1:
            return parts[0]
        seeds = None if parts[0].seeds is None else [seed for part in parts for seed in part.seeds or ()]
        if isinstance(parts[0].images, list):
            return GALIPPipelineOutput([image for part in parts for image in part.images], seeds)
        return GALIPPipelineOutput(np.concatenate([part.images for part in parts]), seeds)
