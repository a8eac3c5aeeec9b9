"""What a worker does: a model that takes image requests of any kind together and returns files."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from galip import __version__
from galip.errors import GalipError, InputError
from galip.generation.load import load
from galip.generation.noise import noise
from galip.generation.output import WITH_ALPHA
from galip.generation.pipeline import TextToImage
from galip.latent.interpolation import blend_noise, blend_sentences
from galip.model_repo.card import about
from galip.model_repo.format import CARD
from galip.model_repo.resolve import fetch, model_name, weights_of
from galip.serving.encoding import encode_image
from galip.serving.pool import EncodedImage, ImageRequest, ModelInfo, WeightedPrompt
from galip.utils.arrays import FloatArray

_MAX_CACHED_PROMPTS = 4096
"""Prompts whose sentence vectors are kept: a hand on a slider asks for the same two again and again."""

_WARM_UP = ("a red heart", "a blue car")


@dataclass(frozen=True)
class ModelSpec:
    """What to load.

    Attributes:
        model: a bundled model's name, a folder, or a hub id.
        name: what clients call it; None: its own name.
        engine, device, threads: as for `galip.load`.
        batch_size: images that are generated at once at the most.
        precision: as for `galip.load`.
    """

    model: str
    name: str | None = None
    engine: str | None = None
    device: str | None = None
    threads: int | None = None
    batch_size: int = 16
    precision: str | None = None


class ModelWorker:
    """Generates images as a service needs them.

    Args:
        spec: what to load.

    Attributes:
        info: what clients are told of the model.
        batch_size: as the spec has it.

    Raises:
        GalipError: it cannot be loaded, or it has no text encoder.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self._pipe: TextToImage = load(
            spec.model,
            engine=spec.engine,
            device=spec.device,
            precision=spec.precision,
            threads=spec.threads,
        )
        self.batch_size = spec.batch_size
        self._vectors: OrderedDict[str, FloatArray] = OrderedDict()
        self.info = ModelInfo(
            name=spec.name or model_name(spec.model),
            image_size=self._pipe.sizes.image_size,
            engine=self._pipe.backend.name,
            weights=weights_of(spec.model),
            has_alpha=self._pipe.sizes.image_channels == WITH_ALPHA,
            about=about(fetch(spec.model) / CARD),
        )
        self._tokenizer = _tokenizer_of(fetch(spec.model))
        self._texts = {"model": self.info.name, "weights": self.info.weights, "galip": __version__}
        if spec.precision not in (None, "fp32"):
            self._texts["precision"] = self._pipe.backend.precision
        self._warm_up(spec.batch_size)

    def generate(self, requests: Sequence[ImageRequest]) -> list[EncodedImage | GalipError]:
        """Generate images in one batch.

        Returns:
            For each request the file, or why there is none; one that fails does not hinder the others.
        """
        try:
            return list(self._generate(requests))
        except GalipError as error:
            if len(requests) == 1:
                return [error]
        # One of them is to blame. That is rare, so it may take its time to find it.
        return [result for request in requests for result in self.generate([request])]

    def _generate(self, requests: Sequence[ImageRequest]) -> list[EncodedImage]:
        vectors = self._encode_prompts({part.prompt for request in requests for part in request.prompts})
        z = np.stack([self._noise(request) for request in requests])
        e = np.stack(
            [
                blend_sentences(
                    [vectors[part.prompt] for part in request.prompts], [part.weight for part in request.prompts]
                )
                for request in requests
            ]
        )
        (batch,) = self._pipe.stream(
            latents=z,
            prompt_embeds=e,
            batch_size=len(requests),
            background="transparent" if self.info.has_alpha else "white",
        )
        return [
            encode_image(image, request, self._texts, self._count_tokens(request))
            for image, request in zip(batch.images, requests, strict=True)
        ]

    def _count_tokens(self, request: ImageRequest) -> int:
        """Tokens of a request's prompts, with those that begin and end each; 0 where the tokenizer is another kind."""
        if self._tokenizer is None:
            return 0
        return sum(len(self._tokenizer.encode(part.prompt).ids) for part in request.prompts)

    def _noise(self, request: ImageRequest) -> FloatArray:
        z = blend_noise(
            noise([part.seed for part in request.prompts], self._pipe.sizes.z_dim),
            [part.weight for part in request.prompts],
        )
        with np.errstate(over="ignore"):  # what is not finite is refused below
            scaled = z * np.float32(request.truncation)
        if not np.isfinite(scaled).all():
            raise InputError(f"truncation {request.truncation:g} makes noise that is not finite; give a smaller one")
        return scaled

    def _encode_prompts(self, prompts: set[str]) -> dict[str, FloatArray]:
        """Sentence vectors [cond_dim] of prompts, those from before not encoded again."""
        missing = sorted(prompts - self._vectors.keys())
        if missing:
            self._vectors.update(zip(missing, self._pipe.embed(missing), strict=True))
        for prompt in prompts:
            self._vectors.move_to_end(prompt)
        found = {prompt: self._vectors[prompt] for prompt in prompts}
        while len(self._vectors) > _MAX_CACHED_PROMPTS:
            self._vectors.popitem(last=False)
        return found

    def _warm_up(self, batch_size: int) -> None:
        """Generate once with every kind of batch, since engines prepare what they need when they meet it."""
        for size in {1, min(batch_size, 8), batch_size}:
            for result in self.generate([_warm_up_request(number) for number in range(size)]):
                if isinstance(result, GalipError):
                    raise result


def _tokenizer_of(folder: Path) -> Tokenizer | None:
    """The tokenizer of a model's folder, to count tokens with."""
    for path in (folder / "tokenizer.json", folder / "tokenizer" / "tokenizer.json"):
        if path.is_file():
            tokenizer = Tokenizer.from_file(str(path))
            tokenizer.no_padding()
            return tokenizer
    return None


def _warm_up_request(number: int) -> ImageRequest:
    return ImageRequest((WeightedPrompt(_WARM_UP[number % len(_WARM_UP)], number),), format="rgb")
