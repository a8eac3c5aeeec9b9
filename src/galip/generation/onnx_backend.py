"""EnginePipeline: an exported model behind the call of GALIPPipeline, without torch."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from galip.errors import GalipError, InputError
from galip.generation import inputs
from galip.generation.engines import Network, load_network
from galip.generation.inputs import BATCH_SIZE, Job, Sentences
from galip.generation.noise import noise
from galip.generation.output import GALIPPipelineOutput, to_pil
from galip.model_repo.export_folder import GENERATOR, SUFFIX, TEXT_ENCODER, TOKENIZER, Manifest, read_manifest

EngineOutputType = Literal["pil", "np"]
Array = NDArray[np.float32]

CHUNKS = (8, 1)
"""What OpenVINO cuts a batch of pictures into: larger ones gain nothing on a CPU, and each size costs memory."""

_SHOWN_CHARACTERS = 60


class EnginePipeline:
    """Draws pictures from captions with OpenVINO or ONNX Runtime.

    Call and pictures are those of `GALIPPipeline` (in fp32 to 1e-4 of the range), but for what only torch can give:
    `generator` and `output_type="pt"`. numpy, Pillow, tokenizers and the engine is all that it imports. It may be
    called from several threads; the engine then takes them in turn.

    Args:
        folder: an exported model.
        engine: "openvino" or "onnxruntime"; None: the one that the files were made for. OpenVINO reads both.
        threads: CPU threads of the engine; None: its own choice.

    Attributes:
        manifest: what the folder says about itself.
        engine: the engine that runs it.
        threads: as given.

    Raises:
        InputError: this engine cannot run these files.
        GalipError: the folder is not whole, or the engine is not installed.
    """

    def __init__(self, folder: Path, engine: str | None = None, threads: int | None = None) -> None:
        self.manifest: Manifest = read_manifest(folder)
        kind = self.manifest.kind
        fitting = ("openvino",) if kind == "openvino" else ("onnxruntime", "openvino")
        self.engine = engine or fitting[0]
        if self.engine not in fitting:
            raise InputError(f"{folder}: it is exported for {kind}; engine {engine!r} cannot run it, {fitting[0]} can")
        self.threads = None if threads is None else inputs.positive_int("threads", threads)
        self._generator = load_network(self.engine, folder / (GENERATOR + SUFFIX[kind]), self.threads, CHUNKS)
        self._text: _TextEncoder | None = None
        if self.manifest.text_encoder is not None:
            network = load_network(self.engine, folder / (TEXT_ENCODER + SUFFIX[kind]), self.threads)
            self._text = _TextEncoder(network, folder / TOKENIZER, self.manifest)

    def encode_prompt(self, prompt: str | Sequence[str]) -> Array:
        """Sentence vectors of captions, as `prompt_embeds` takes them; see `GALIPPipeline.encode_prompt`.

        Returns:
            float32 [N, cond_dim], not normalised.
        """
        captions = inputs.clean_prompts(prompt)
        sentences: Sentences[Array] = Sentences(self._encoder().encode, np.stack, captions)
        return sentences(list(range(len(captions))))

    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        num_images_per_prompt: int = 1,
        seed: int | Sequence[int] | None = None,
        generator: None = None,
        latents: Array | None = None,
        prompt_embeds: Array | None = None,
        truncation: float = 1.0,
        batch_size: int = BATCH_SIZE,
        output_type: EngineOutputType = "pil",
        return_dict: bool = True,
    ) -> GALIPPipelineOutput | tuple[Any, list[int] | None]:
        """Draw pictures; see `GALIPPipeline` for the arguments.

        Arrays are numpy's. No progress bar is shown.

        Args:
            generator: torch's alone; here it must be None.
            output_type: "pil" for a list of PIL images, "np" for floats [N, H, W, 3] in [0, 1].

        Raises:
            InputError: an argument is of the wrong kind or length; the message says what is expected.
            GalipError: the generator made numbers that are not finite.
        """
        job = self._plan(
            prompt, num_images_per_prompt, seed, generator, latents, prompt_embeds, truncation, batch_size, output_type
        )
        parts = list(self._run(job))
        images: Any = [part.images for part in parts]
        images = np.concatenate(images) if output_type == "np" else [image for part in images for image in part]
        seeds = None if parts[0].seeds is None else [seed for part in parts for seed in part.seeds or ()]
        output = GALIPPipelineOutput(images, seeds)
        return output if return_dict else output.to_tuple()

    def stream(
        self,
        prompt: str | Sequence[str] | None = None,
        num_images_per_prompt: int = 1,
        seed: int | Sequence[int] | None = None,
        generator: None = None,
        latents: Array | None = None,
        prompt_embeds: Array | None = None,
        truncation: float = 1.0,
        batch_size: int = BATCH_SIZE,
        output_type: EngineOutputType = "pil",
    ) -> Iterator[GALIPPipelineOutput]:
        """Draw pictures batch by batch, so that never more than one batch is in memory; see `GALIPPipeline.stream`."""
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
    ) -> Job[Array]:
        """Check every argument and make of them what the drawing loop needs."""
        per_prompt = inputs.positive_int("num_images_per_prompt", num_images_per_prompt)
        inputs.check_output_type(output_type, ("pil", "np"))
        inputs.check_one_of_prompt_and_embeds(prompt, prompt_embeds)
        if generator is not None:
            raise InputError("generator is torch's, and this engine runs without torch: give seed or latents")
        if prompt_embeds is None:
            captions = inputs.clean_prompts(prompt)
            total = len(captions) * per_prompt
            vectors: Any = Sentences(self._encoder().encode, np.stack, captions)
        else:
            embeds = self._check_embeds(prompt_embeds)
            total = len(embeds) * per_prompt
            vectors = embeds.__getitem__
        inputs.check_one_source_of_noise(seed=seed, latents=latents)
        return Job[Array](
            total=total,
            per_prompt=per_prompt,
            vectors=vectors,
            noise=inputs.seeds_of(seed, total, per_prompt) if latents is None else self._latents(latents, total),
            truncation=inputs.finite("truncation", truncation),
            batch_size=inputs.positive_int("batch_size", batch_size),
            output_type=output_type,
        )

    def _run(self, job: Job[Array]) -> Iterator[GALIPPipelineOutput]:
        for start, stop, e in job.batches():
            if isinstance(job.noise, np.ndarray):
                seeds, z = None, job.noise[start:stop]
            else:
                seeds = job.noise[start:stop]
                z = noise(seeds, self.manifest.z_dim)
            if e.ndim == 2:  # the graph takes a sentence vector for each stage
                e = np.broadcast_to(e[:, None], (len(e), self.manifest.num_stages, e.shape[1]))
            with np.errstate(over="ignore"):  # what is not finite is found in the picture
                z = z * np.float32(job.truncation)
            images = self._generator({"z": z, "e": e}) * np.float32(0.5) + np.float32(0.5)
            self._check_finite(images, seeds, start)
            images = np.clip(images, 0.0, 1.0).transpose(0, 2, 3, 1)  # [B, 3, H, W] -> [B, H, W, 3]
            array = np.ascontiguousarray(images)
            yield GALIPPipelineOutput(array if job.output_type == "np" else to_pil(array), seeds)

    def _encoder(self) -> _TextEncoder:
        if self._text is None:
            raise InputError("this model was exported without a text encoder: give prompt_embeds instead of prompt")
        return self._text

    def _check_embeds(self, embeds: Any) -> Array:
        if not isinstance(embeds, np.ndarray) or not np.issubdtype(embeds.dtype, np.floating):
            raise InputError(
                f"prompt_embeds is {inputs.kind(embeds)}: give a float array, for example encode_prompt(...)"
            )
        inputs.check_embeds_shape(embeds.shape, self.manifest.num_stages, self.manifest.cond_dim)
        if not np.isfinite(embeds).all():
            raise InputError("prompt_embeds holds numbers that are not finite")
        return embeds.astype(np.float32)

    def _latents(self, latents: Any, total: int) -> Array:
        if not isinstance(latents, np.ndarray):
            raise InputError(
                f"latents is {inputs.kind(latents)}: give the noise as an array [{total}, {self.manifest.z_dim}]"
            )
        inputs.check_latents_shape(latents.shape, total, self.manifest.z_dim)
        if not np.issubdtype(latents.dtype, np.floating) or not np.isfinite(latents).all():
            raise InputError("latents must be finite floating-point numbers, about normally distributed")
        return latents.astype(np.float32)

    def _check_finite(self, images: Array, seeds: list[int] | None, start: int) -> None:
        finite = np.isfinite(images).all(axis=(1, 2, 3))
        if finite.all():
            return
        first = int(np.argmin(finite))
        name = inputs.picture_name(start + first, None if seeds is None else seeds[first])
        raise GalipError(f"{name} holds numbers that are not finite; the weights are broken: export the model again")


class _TextEncoder:
    """Captions to sentence vectors: the tokenizer and the exported network.

    Args:
        network: the text encoder's graph.
        tokenizer: its `tokenizer.json`.
        manifest: of the exported model.

    Raises:
        GalipError: the tokenizer cannot be read.
    """

    def __init__(self, network: Network, tokenizer: Path, manifest: Manifest) -> None:
        from tokenizers import Tokenizer

        self._network = network
        self._limit = manifest.max_tokens
        self._first_end = manifest.text_encoder == "clip"
        try:
            self._tokenizer = Tokenizer.from_file(str(tokenizer))
        except Exception as error:  # the package raises Exception itself
            raise GalipError(f"{tokenizer}: it cannot be read ({error}); export the model again") from error
        # One token more than allowed tells a caption that is too long from one that just fits.
        self._tokenizer.enable_truncation(self._limit + 1)
        self._tokenizer.no_padding()

    def encode(self, captions: list[str]) -> Array:
        """Sentence vectors [N, cond_dim] of N captions. One that is too long is truncated with a warning."""
        rows = [encoding.ids for encoding in self._tokenizer.encode_batch(captions)]
        for i, (row, caption) in enumerate(zip(rows, captions, strict=True)):
            if len(row) > self._limit:
                shown = caption if len(caption) <= _SHOWN_CHARACTERS else caption[: _SHOWN_CHARACTERS - 3] + "..."
                warnings.warn(
                    f"caption has more than {self._limit} tokens and is truncated: {shown!r}", UserWarning, stacklevel=2
                )
                rows[i] = row[: self._limit - 1] + row[-1:]
        longest = max(map(len, rows))
        ids = np.array([row + row[-1:] * (longest - len(row)) for row in rows], dtype=np.int64)
        # CLIP reads its vector at the first end token, which a caption may spell out.
        last = [row.index(row[-1]) if self._first_end else len(row) - 1 for row in rows]
        return self._network({"input_ids": ids, "last": np.array(last, dtype=np.int64)})
