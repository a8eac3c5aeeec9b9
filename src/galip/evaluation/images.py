"""The pictures that are compared: drawn ones, real ones, both of one size, and 8-bit unless the protocol forbids it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from galip.data.images import as_array, resize_and_crop
from galip.data.protocol import ImageSource
from galip.errors import GalipError
from galip.evaluation.extractors.registry import full_precision
from galip.evaluation.plan import Asked
from galip.evaluation.weights import digest_of
from galip.generation.onnx_backend import EnginePipeline
from galip.generation.output import to_uint8
from galip.torch_backend.pipeline import GALIPPipeline


class Drawn(Protocol):
    """What is evaluated: something that has a picture for each row of a plan.

    Attributes:
        name: as the user gave it.
        digest: of what decides over its pictures.
        images_seen: in training; None where that is unknown.
        engine: what draws; empty for pictures that are there already.
    """

    name: str
    digest: str
    images_seen: int | None
    engine: str

    @property
    def size(self) -> int:
        """Side of its pictures in pixels, before anything is resized; 0 where they are of several."""

    def draw(self, rows: Sequence[Asked]) -> Tensor:
        """The pictures [B, 3, S, S] of `rows`: uint8, or floats in [0, 1] that were clamped and not quantised.

        Raises:
            GalipError: a picture holds numbers that are not finite, or cannot be read.
        """


class DrawnByModel:
    """A pipeline's pictures, each from its caption and its seed alone.

    Args:
        pipe: the pipeline; None for an exported model, of which there is only `painter`.
        name: as the user gave it.
        images_seen: in training, if that is known.
        batch_size: pictures drawn at once; it changes speed and memory, not pictures.
        truncation: multiplies the noise.
        painter: an engine that draws instead of `pipe`. Its pictures are the same to 1e-4, so the digest is that of
            `pipe`; without `pipe` it is that of the exported files.
        engine: what runs `pipe`, "torch" or "compile"; a `painter` has its own.
    """

    def __init__(
        self,
        pipe: GALIPPipeline | None,
        name: str,
        images_seen: int | None = None,
        batch_size: int = 16,
        truncation: float = 1.0,
        painter: EnginePipeline | None = None,
        engine: str = "torch",
    ) -> None:
        self.pipe, self.painter, self.name, self.images_seen = pipe, painter, name, images_seen
        self.batch_size, self.truncation = batch_size, truncation
        self.engine = engine if painter is None else painter.engine
        if pipe is not None:
            self.digest, self._size = digest_of_model(pipe), int(pipe.generator.image_size)
        elif painter is not None:
            self.digest, self._size = digest_of_export(painter), painter.manifest.image_size
        else:
            raise ValueError("neither a pipeline nor an engine is given")

    @property
    def size(self) -> int:
        return self._size

    def draw(self, rows: Sequence[Asked]) -> Tensor:
        captions, seeds = [row.caption for row in rows], [row.seed for row in rows]
        how: dict[str, Any] = {"seed": seeds, "batch_size": self.batch_size, "truncation": self.truncation}
        if self.painter is not None:
            images = [part.images for part in self.painter.stream(captions, output_type="np", **how)]
            return torch.from_numpy(np.concatenate(images)).permute(0, 3, 1, 2)  # [B, H, W, 3] -> [B, 3, H, W]
        assert self.pipe is not None
        with full_precision(self.pipe.generator.device.type):  # the same pictures on any hardware
            return torch.cat([part.images for part in self.pipe.stream(captions, output_type="pt", **how)])


def digest_of_model(pipe: GALIPPipeline) -> str:
    """16 hexadecimal digits that name all that decides over a model's pictures: its networks' values and settings."""
    networks = (pipe.generator, pipe.vision_encoder, pipe.text_encoder)
    parts = ["" if network is None else digest_of(network) for network in networks]
    parts += [str(pipe.config.text_scale), pipe.generator.config.clip_input]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def digest_of_export(painter: EnginePipeline) -> str:
    """16 hexadecimal digits that name all that decides over an exported model's pictures: its files."""
    files = {name: facts["sha256"] for name, facts in painter.manifest.files.items()}
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:16]


class DrawnPictures:
    """Pictures that somebody drew earlier, with the captions that they were drawn for.

    Args:
        source: the captioned pictures; a row of a plan says which.
        name: as the user gave it.
        size: side in pixels to which they are brought.
    """

    images_seen: int | None = None
    engine = ""

    def __init__(self, source: ImageSource, name: str, size: int) -> None:
        self.source, self.name, self.digest, self._size = source, name, source.state[:16], size

    @property
    def size(self) -> int:
        return self._size

    def draw(self, rows: Sequence[Asked]) -> Tensor:
        return real_pictures(self.source, [row.earlier for row in rows], self._size)


def real_pictures(source: ImageSource, numbers: Sequence[int], resolution: int) -> Tensor:
    """Real pictures as every protocol sees them: shorter side to `resolution`, antialiased bicubic, centre crop.

    Args:
        source: the captioned pictures.
        numbers: of the records.
        resolution: side in pixels.

    Returns:
        uint8 [B, 3, resolution, resolution].

    Raises:
        BrokenRecordError: a picture cannot be read. None is passed over: N would not be N.
    """
    pictures = []
    for number in numbers:
        picture, _ = source.read(number)
        pictures.append(as_array(resize_and_crop(picture, resolution, resolution, (0.5, 0.5))))
    return torch.from_numpy(np.stack(pictures))


def at_resolution(pictures: Tensor, resolution: int, quantise: bool) -> Tensor:
    """Drawn pictures as a protocol compares them.

    Args:
        pictures: [B, 3, S, S], uint8 or floats in [0, 1].
        resolution: side in pixels; where it differs from S, antialiased bicubic before quantising.
        quantise: whether floats become 8-bit.

    Returns:
        uint8, or fp32 in [0, 1] without `quantise`.
    """
    if pictures.dtype == torch.uint8:
        if pictures.shape[-1] == resolution:
            return pictures if quantise else pictures.float() / 255
        pictures = pictures.float() / 255
    pictures = pictures.float()
    if not pictures.isfinite().all():
        raise GalipError("a drawn picture holds numbers that are not finite: the model's weights are broken")
    if pictures.shape[-1] != resolution:
        pictures = F.interpolate(pictures, (resolution, resolution), mode="bicubic", antialias=True).clamp(0, 1)
    if not quantise:
        return pictures
    as_bytes = to_uint8(pictures.permute(0, 2, 3, 1).cpu().numpy())  # [B, 3, H, W] -> [B, H, W, 3]
    return torch.from_numpy(as_bytes).permute(0, 3, 1, 2).contiguous()
