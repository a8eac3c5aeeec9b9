"""What is evaluated: a model, or images that were generated earlier."""

from __future__ import annotations

import copy
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from galip.evaluation.extractors.clip import CLIPExtractor
from galip.evaluation.extractors.inception import SIDE
from galip.evaluation.extractors.protocol import full_precision
from galip.evaluation.image_sets import ImageSet
from galip.evaluation.images import native_images, real_images
from galip.evaluation.metrics.settings import InceptionResize
from galip.evaluation.plan import PlannedSample
from galip.evaluation.weights import digest_of, same_network
from galip.generation.backend import compares_prompts
from galip.generation.pipeline import TextToImage
from galip.model_repo.export_folder import read_manifest
from galip.models.clip import ClipInput
from galip.torch_backend.pipeline import GALIPPipeline


class Evaluated(ABC):
    """Something that has an image for each sample of a plan.

    Attributes:
        name: as the user gave it.
        digest: of what decides over its images.
        size: side of its images in pixels, before anything is resized.
        images_seen: in training; None where that is unknown.
        engine: what generates; empty for images that are there already.
        given: the images, where they are there already; their plan is made for them.
        truncation: what multiplies the noise; None where there is none.
        tells_its_clip: False where it looks through a CLIP that it does not tell.
    """

    name: str
    digest: str
    size: int
    images_seen: int | None = None
    engine: str = ""
    given: ImageSet | None = None
    truncation: float | None = None
    tells_its_clip: bool = True

    @abstractmethod
    def images(self, samples: Sequence[PlannedSample]) -> Tensor:
        """The images [B, 3, S, S] of `samples`: uint8, or floats in [0, 1] that were clamped and not quantised.

        Raises:
            GalipError: an image holds numbers that are not finite, or cannot be read.
        """

    def own_clip(self, released: bool) -> CLIPExtractor | None:
        """The CLIP that a model looks through: what it sees of a score flatters the model.

        Args:
            released: images enter as in the release; False: as the model was trained with them.

        Returns:
            None where there is none that reads captions.
        """
        return None

    def looks_through(self, clip: CLIPExtractor) -> bool:
        """Whether a CLIP is the one that the model looks through."""
        return False


class EvaluatedModel(Evaluated):
    """A pipeline of any engine, whose images depend on their captions and seeds alone.

    Args:
        pipe: generates.
        name: as the user gave it.
        networks: the model's networks in torch, of which `pipe` may be another form: its images are then the same to
            1e-4. None for an exported model, which has none.
        digest: of what decides over the images; None: that of `networks`.
        images_seen: in training, if that is known.
        batch_size: images generated at once; it changes speed and memory, not images.
        truncation: multiplies the noise.
    """

    def __init__(
        self,
        pipe: TextToImage,
        name: str,
        networks: GALIPPipeline | None,
        *,
        digest: str | None = None,
        images_seen: int | None = None,
        batch_size: int = 16,
        truncation: float = 1.0,
    ) -> None:
        if digest is None:
            if networks is None:
                raise ValueError("neither networks nor a digest is given")
            digest = digest_of_model(networks)
        self.pipe, self.name, self.networks, self.digest = pipe, name, networks, digest
        self.images_seen, self.batch_size = images_seen, batch_size
        self.truncation: float = truncation
        self.engine, self.size = pipe.backend.name, pipe.sizes.image_size
        self.tells_its_clip = networks is not None

    def images(self, samples: Sequence[PlannedSample]) -> Tensor:
        parts = self.pipe.stream(
            [sample.caption for sample in samples],
            seed=[sample.seed for sample in samples],
            batch_size=self.batch_size,
            truncation=self.truncation,
            output_type="np",
        )
        with full_precision(torch.device(self.pipe.backend.device).type):  # the same images on any hardware
            images = np.concatenate([part.images for part in parts])
        return torch.from_numpy(images).permute(0, 3, 1, 2)  # [B, H, W, 3] -> [B, 3, H, W]

    def own_clip(self, released: bool) -> CLIPExtractor | None:
        pipe = self.networks
        if pipe is None or not compares_prompts(pipe.backend):
            return None
        text, vision = pipe.text_encoder, pipe.vision_encoder
        assert text is not None
        if text.dtype != torch.float32 or vision.dtype != torch.float32:
            text, vision = copy.deepcopy(text), copy.deepcopy(vision)  # an extractor makes them fp32 in place
        clip_input: ClipInput = "released" if released else pipe.generator.config.clip_input
        return CLIPExtractor(self.name, pipe.tokenizer, text, vision, clip_input)

    def looks_through(self, clip: CLIPExtractor) -> bool:
        return self.networks is not None and same_network(clip.network.model, self.networks.vision_encoder)


class EvaluatedImages(Evaluated):
    """Images that were generated earlier, with the captions that they were generated from.

    Args:
        source: the captioned images; a sample of a plan says which.
        name: as the user gave it.
        size: side in pixels to which they are brought.
        native: instead, how each is brought to Inception's size from its own.
    """

    def __init__(self, source: ImageSet, name: str, size: int, native: InceptionResize | None = None) -> None:
        self.given, self.name, self.digest = source, name, source.state[:16]
        self.size = size if native is None else SIDE
        self._source, self._native = source, native

    def images(self, samples: Sequence[PlannedSample]) -> Tensor:
        numbers = [sample.earlier for sample in samples]
        if self._native is not None:
            return native_images(self._source, numbers, self._native)
        return real_images(self._source, numbers, self.size)


def digest_of_model(pipe: GALIPPipeline) -> str:
    """16 hexadecimal digits that name all that decides over a model's images: its networks' values and settings."""
    networks = (pipe.generator, pipe.vision_encoder, pipe.text_encoder)
    parts = ["" if network is None else digest_of(network) for network in networks]
    parts += [str(pipe.config.text_scale), pipe.generator.config.clip_input]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def digest_of_export(folder: Path) -> str:
    """16 hexadecimal digits that name all that decides over an exported model's images: its files."""
    files = {name: facts["sha256"] for name, facts in read_manifest(folder).files.items()}
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:16]
