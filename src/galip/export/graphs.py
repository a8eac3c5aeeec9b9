"""The graphs of a model folder, written by torch: generator, sentence encoder, image encoder."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import CLIPTextModelWithProjection, CLIPVisionModelWithProjection, T5EncoderModel

import galip
from galip.errors import GalipError
from galip.export.tracing import OPSET, Axes, Dynamic, trace
from galip.export.weights import Origin, refer
from galip.model_repo.cache import cache_folder, make_room, touch
from galip.model_repo.export_folder import GENERATOR, IMAGE_ENCODER, TEXT_ENCODER, TOKENIZER, Manifest, write_manifest
from galip.model_repo.graphs import GRAPHS, structure
from galip.model_repo.index import check_model_folder, read_index
from galip.models.clip import FrozenCLIPVision
from galip.models.generator import MateGenerator, WholeGenerator
from galip.models.text import CLIPSentenceEncoder, SentenceEncoder, T5SentenceEncoder
from galip.torch_backend.encoders import load_network, load_tokenizer
from galip.utils.atomic import atomic_file, atomic_folder, write_text
from galip.utils.progress import Progress, no_progress

_BATCH = Dynamic("batch", 65536)


class TextNetwork(nn.Module):
    """A sentence encoder without its tokenizer."""

    def __init__(self, encoder: SentenceEncoder) -> None:
        super().__init__()
        self.model = encoder.model
        self._encoder = encoder

    def forward(self, input_ids: Tensor, last: Tensor) -> Tensor:
        """Sentence vectors [B, cond_dim] of token ids [B, N]; `last` [B] is the place of each row's last token."""
        return self._encoder.vectors(input_ids, last)


class ImageNetwork(nn.Module):
    """The image side of the model's own CLIP."""

    def __init__(self, vision: FrozenCLIPVision) -> None:
        super().__init__()
        self.vision = vision

    def forward(self, images: Tensor) -> Tensor:
        """Vectors [B, D], not normalised, of `images` [B, 3, S, S] in [-1, 1]."""
        return self.vision.embed(images)


@dataclass(frozen=True)
class Graph:
    """A graph to be written.

    Attributes:
        network: what it computes.
        inputs: examples of its inputs, by name.
        axes: which of their sizes are dynamic.
        output: the output's name.
    """

    network: nn.Module
    inputs: Mapping[str, Tensor]
    axes: Axes
    output: str

    def trace(self) -> ir.Model:
        """The graph, with its weights in memory."""
        return trace(self.network.eval(), self.inputs, self.axes, self.output)


@dataclass(frozen=True)
class Networks:
    """What a model's graphs are made from, fp32 on the CPU.

    Attributes:
        generator: Mate-G.
        vision: the CLIP-ViT that it looks through.
        text: the sentence encoder with its tokenizer; None where the model has none.
    """

    generator: MateGenerator
    vision: FrozenCLIPVision
    text: SentenceEncoder | None

    def graphs(self) -> dict[str, Graph]:
        """The graphs, by the names of their files."""
        g = self.generator
        z, e = torch.zeros(2, g.z_dim), torch.zeros(2, g.num_stages, g.cond_dim)
        network, axes = WholeGenerator(g.for_inference(), self.vision), {"z": {0: _BATCH}, "e": {0: _BATCH}}
        graphs = {GENERATOR: Graph(network, {"z": z, "e": e}, axes, "image")}
        if self.text is not None:
            ids, last = torch.zeros(2, 4, dtype=torch.int64), torch.full((2,), 3)
            axes = {"input_ids": {0: _BATCH, 1: Dynamic("tokens", self.text.max_tokens)}, "last": {0: _BATCH}}
            graphs[TEXT_ENCODER] = Graph(TextNetwork(self.text), {"input_ids": ids, "last": last}, axes, "vector")
        images = torch.zeros(2, 3, g.image_size, g.image_size)
        graphs[IMAGE_ENCODER] = Graph(ImageNetwork(self.vision), {"images": images}, {"images": {0: _BATCH}}, "vector")
        return graphs

    def origins(self) -> list[Origin]:
        """Which part of a model folder each network's weights are stored in."""
        parts = [Origin(self.generator, "generator"), Origin(self.vision.model, "vision_encoder")]
        return parts if self.text is None else [*parts, Origin(self.text.model, "text_encoder")]

    def manifest(self, tokenizer: str) -> Manifest:
        """What a manifest says of the graphs.

        Args:
            tokenizer: where tokenizer.json lies, from the manifest.
        """
        g, text = self.generator, self.text
        return Manifest(
            kind="onnx",
            precision="fp32",
            z_dim=g.z_dim,
            cond_dim=g.cond_dim,
            num_stages=g.num_stages,
            image_size=g.image_size,
            image_channels=g.config.get("image_channels", 3),
            text_encoder=None if text is None else "t5" if isinstance(text, T5SentenceEncoder) else "clip",
            max_tokens=0 if text is None else text.max_tokens,
            image_encoder=True,
            tokenizer=tokenizer,
            opset=OPSET,
            version=galip.__version__,
        )


def write_graphs(folder: Path, progress: Progress = no_progress) -> Manifest:
    """Write the graphs of a model folder into it, over earlier ones.

    It takes about half a minute, and a moment where a model of the same structure has been exported before.

    Args:
        folder: a model folder.
        progress: told which graph is being written.

    Returns:
        What `graphs.json` says.

    Raises:
        GalipError: the model cannot be loaded or exported, or the folder cannot be written.
    """
    networks = load_networks(folder)
    graphs, made_for = networks.graphs(), structure(folder)
    known = cache_folder() / "graphs" / f"{made_for}-{galip.__version__}"
    files = [folder / f"{name}.onnx" for name in graphs]
    try:
        (folder / GRAPHS).unlink(missing_ok=True)  # it comes last: without it the graphs do not count
        if all((known / file.name).is_file() for file in files):
            touch(known)
            for file in files:
                shutil.copyfile(known / file.name, file)
        else:
            for done, (graph, file) in enumerate(zip(graphs.values(), files, strict=True)):
                progress(f"export {file.name}", done, len(graphs))
                model = graph.trace()
                refer(model, graph.network, networks.origins(), folder)
                with atomic_file(file) as unfinished:
                    ir.save(model, unfinished)
            progress("export", len(graphs), len(graphs))
            _remember(files, known)
        manifest = networks.manifest(_tokenizer_file(networks, folder))
        return write_manifest(folder / GRAPHS, replace(manifest, structure=made_for), files)
    except OSError as error:
        raise GalipError(f"{folder}: the graphs cannot be written ({error.strerror or error})") from error


def _remember(files: Sequence[Path], known: Path) -> None:
    """Keep graphs in the user's cache: the next model of this structure, such as a later checkpoint, has the same."""
    with suppress(OSError), atomic_folder(known) as unfinished:  # a cache that cannot be written saves no time
        for file in files:
            shutil.copyfile(file, unfinished / file.name)
        make_room(known)


def load_networks(folder: Path) -> Networks:
    """The networks of a model folder.

    Raises:
        GalipError: it is not whole, or cannot be loaded.
    """
    check_model_folder(folder)
    index = read_index(folder)
    try:
        generator = MateGenerator.from_pretrained(folder / "generator", use_safetensors=True).float()
        vision = load_network(CLIPVisionModelWithProjection, str(folder / "vision_encoder"))
        text: SentenceEncoder | None = None
        if index["text_encoder"][1] is not None:
            tokenizer, place = load_tokenizer(str(folder / "tokenizer")), str(folder / "text_encoder")
            if index["text_encoder"][1] == "T5EncoderModel":
                text = T5SentenceEncoder(tokenizer, load_network(T5EncoderModel, place), float(index["text_scale"]))
            else:
                text = CLIPSentenceEncoder(tokenizer, load_network(CLIPTextModelWithProjection, place))
    except Exception as error:  # the libraries raise anything at configurations and weights that do not fit
        raise GalipError(f"{folder}: the model cannot be loaded: {error}") from error
    return Networks(generator.eval(), FrozenCLIPVision(vision, clip_input=generator.config.clip_input), text)


def tokenizer_json(text: SentenceEncoder) -> str:
    """A sentence encoder's tokenizer, for the package tokenizers.

    Raises:
        GalipError: it has no fast form.
    """
    backend = getattr(text.tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise GalipError(
            f"the tokenizer is a {type(text.tokenizer).__name__} without a fast form (tokenizer.json), which is what "
            "engines use: save the model with the fast tokenizer of the same name"
        )
    return _plain(Tokenizer.from_str(backend.to_str()))


def _tokenizer_file(networks: Networks, folder: Path) -> str:
    """Where the tokenizer lies: the model's own file, or where that says something else, one beside the graphs."""
    if networks.text is None:
        return TOKENIZER
    own, used = f"tokenizer/{TOKENIZER}", tokenizer_json(networks.text)
    if (folder / own).is_file() and _plain(Tokenizer.from_file(str(folder / own))) == used:
        return own
    write_text(folder / TOKENIZER, used)
    return TOKENIZER


def _plain(tokenizer: Tokenizer) -> str:
    """A tokenizer as text, without the limits of its last call."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return str(tokenizer.to_str())
