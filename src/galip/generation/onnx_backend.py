"""ONNXBackend: a model's graphs run by ONNX Runtime or OpenVINO, without torch."""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from galip.errors import GalipError, InputError
from galip.generation import inputs
from galip.generation.backend import ModelSizes
from galip.generation.engines import Network, load_network
from galip.model_repo.export_folder import (
    GENERATOR,
    IMAGE_ENCODER,
    TEXT_ENCODER,
    Manifest,
    is_export,
    read_manifest,
)
from galip.model_repo.graphs import read_graphs
from galip.utils.arrays import FloatArray

CHUNKS = (8, 1)
"""What OpenVINO cuts a batch of images into: larger ones gain nothing on a CPU, and each size costs memory."""

_SHOWN_CHARACTERS = 60

_KEPT_VECTORS = 1024
"""Prompts whose sentence vectors are kept: with a small model encoding one again takes a tenth of its image's time."""


class ONNXBackend:
    """Runs the graphs of a folder; see `galip.generation.backend.Backend`.

    numpy, tokenizers and the engine is all that it imports.

    Args:
        folder: a model folder with graphs, or an exported model.
        engine: "openvino" or "onnxruntime"; None: an exported model's own, else ONNX Runtime. OpenVINO reads the graphs
            of both.
        threads: CPU threads of the engine; None: its own choice.
        precision: what the generator computes in, of what the engine has here (`galip.generation.precision.lacking`);
            None: int8 in a model exported for it, else fp32. Prompts and images are encoded in fp32.
        quantised: the generator's graph in int8, for a model folder, which has none of its own.

    Attributes:
        manifest: what the folder says about its graphs.
        name: the engine that runs it.
        threads: as given.
        precision: as given.

    Raises:
        InputError: this engine cannot run these files.
        GalipError: the folder is not whole or has no graphs, or the engine is not installed.
    """

    device = "cpu"
    gradients = None

    def __init__(
        self,
        folder: Path,
        engine: str | None = None,
        threads: int | None = None,
        precision: str | None = None,
        quantised: Path | None = None,
    ) -> None:
        self.manifest: Manifest = read_manifest(folder) if is_export(folder) else read_graphs(folder)
        kind = self.manifest.kind
        fitting = ("openvino",) if kind == "openvino" else ("onnxruntime", "openvino")
        self.name = engine or fitting[0]
        if self.name not in fitting:
            raise InputError(f"{folder}: it is exported for {kind}; engine {engine!r} cannot run it, {fitting[0]} can")
        self.threads = None if threads is None else inputs.check_threads(threads)
        self._files = {name: folder / file for name, file in self.manifest.graphs.items()}
        if quantised is not None:
            self._files[GENERATOR] = quantised
        self.precision = precision or ("int8" if self.manifest.precision == "int8" else "fp32")
        self._generator = self._load(GENERATOR, CHUNKS, self.precision)
        self._text: _TextEncoder | None = None
        if self.manifest.text_encoder is not None:
            self._text = _TextEncoder(self._load(TEXT_ENCODER), folder / self.manifest.tokenizer, self.manifest)
        self._image: Network | None = None
        self._lock = threading.Lock()

    @property
    def sizes(self) -> ModelSizes:
        """What the model takes and gives."""
        m = self.manifest
        return ModelSizes(m.z_dim, m.cond_dim, m.num_stages, m.image_size, m.image_channels)

    @property
    def text_encoder(self) -> Literal["clip", "t5"] | None:
        """Which kind reads prompts."""
        return self.manifest.text_encoder

    @property
    def has_image_encoder(self) -> bool:
        """Whether the image side of the model's own CLIP is there; an exported model keeps what generating needs."""
        return self.manifest.image_encoder

    @property
    def not_finite_hint(self) -> str:
        """What to do about images that hold numbers that are not finite."""
        return "the weights are broken: " + ("export" if self.manifest.source else "save or fetch") + " the model again"

    def encode(self, prompts: Sequence[str]) -> FloatArray:
        """Sentence vectors [N, cond_dim] of cleaned prompts, not normalised."""
        assert self._text is not None
        return self._text.encode(list(prompts))

    def generate(self, z: FloatArray, e: FloatArray) -> FloatArray:
        """Images [B, C, S, S] in about [-1, 1]."""
        if e.ndim == 2:  # the graph takes a sentence vector for each stage
            e = np.broadcast_to(e[:, None], (len(e), self.manifest.num_stages, e.shape[1]))
        return self._generator({"z": z, "e": e})

    def embed_images(self, images: FloatArray) -> FloatArray:
        """CLIP vectors [B, D] of images [B, 3, S, S] in [-1, 1], not normalised."""
        with self._lock:  # few who generate ask for it, so it is loaded when somebody does
            if self._image is None:
                self._image = self._load(IMAGE_ENCODER, CHUNKS)
        return self._image({"images": images})

    def _load(self, name: str, chunks: Sequence[int] = (), precision: str = "fp32") -> Network:
        return load_network(self.name, self._files[name], self.threads, chunks, precision)


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
        self._kept: OrderedDict[str, FloatArray] = OrderedDict()
        self._lock = threading.Lock()
        self._limit = manifest.max_tokens
        self._first_end = manifest.text_encoder == "clip"
        try:
            self._tokenizer = Tokenizer.from_file(str(tokenizer))
        except Exception as error:  # the package raises Exception itself
            raise GalipError(f"{tokenizer}: it cannot be read ({error}); export the model again") from error
        # One token more than allowed tells a caption that is too long from one that just fits.
        self._tokenizer.enable_truncation(self._limit + 1)
        self._tokenizer.no_padding()

    def encode(self, captions: list[str]) -> FloatArray:
        """Sentence vectors [N, cond_dim] of N captions. One that is too long is truncated with a warning."""
        with self._lock:
            found = {caption: self._kept[caption] for caption in captions if caption in self._kept}
            for caption in found:
                self._kept.move_to_end(caption)
        if missing := [caption for caption in dict.fromkeys(captions) if caption not in found]:
            vectors, fits = self._encode(missing)
            found |= {caption: vector.copy() for caption, vector in zip(missing, vectors, strict=True)}
            with self._lock:  # what was truncated is encoded anew, so that it is told again
                self._kept |= {caption: found[caption] for caption, whole in zip(missing, fits, strict=True) if whole}
                while len(self._kept) > _KEPT_VECTORS:
                    self._kept.popitem(last=False)
        return np.stack([found[caption] for caption in captions])

    def _encode(self, captions: list[str]) -> tuple[FloatArray, list[bool]]:
        """Vectors of captions that are not kept, and of each whether it is encoded whole."""
        rows = [encoding.ids for encoding in self._tokenizer.encode_batch(captions)]
        fits = [len(row) <= self._limit for row in rows]
        for i, (row, caption) in enumerate(zip(rows, captions, strict=True)):
            if len(row) > self._limit:
                shown = caption if len(caption) <= _SHOWN_CHARACTERS else caption[: _SHOWN_CHARACTERS - 3] + "..."
                warnings.warn(
                    f"caption has more than {self._limit} tokens and is truncated: {shown!r}", UserWarning, stacklevel=3
                )
                rows[i] = row[: self._limit - 1] + row[-1:]
        longest = max(map(len, rows))
        ids = np.array([row + row[-1:] * (longest - len(row)) for row in rows], dtype=np.int64)
        # CLIP reads its vector at the first end token, which a caption may spell out.
        last = [row.index(row[-1]) if self._first_end else len(row) - 1 for row in rows]
        return self._network({"input_ids": ids, "last": np.array(last, dtype=np.int64)}), fits
