"""Manifests: what the graphs of a folder are, and what an exported model's folder holds.

The graphs of a model folder (`galip.model_repo.graphs`) have the same manifest under another name. An exported model is
a folder of its own:

    export.json                what the files are: format, engine, precision, sizes, the model that it was made from
    generator.xml, .bin        the generator with its transformer, for OpenVINO; generator.onnx for ONNX Runtime
    text_encoder.xml, .bin     the sentence encoder; absent, with the tokenizer, where a model has none
    tokenizer.json             the tokenizer, for the package tokenizers
    README.md                  the model card

Nothing of torch or of an engine is imported here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

from galip.errors import GalipError, InputError
from galip.model_repo.fingerprint import sha256
from galip.utils.atomic import atomic_folder, write_json
from galip.utils.untrusted import read_json_object

MANIFEST = "export.json"
FORMAT = 2
"""Raised when manifests are written that earlier versions cannot read. Format 1 had no image encoder."""

Kind = Literal["onnx", "openvino"]
Precision = Literal["fp32", "fp16", "int8"]

SUFFIX: dict[Kind, str] = {"onnx": ".onnx", "openvino": ".xml"}
"""How the file of a graph ends that an engine is given."""

GENERATOR, TEXT_ENCODER, IMAGE_ENCODER = "generator", "text_encoder", "image_encoder"
TOKENIZER = "tokenizer.json"

_AGAIN = "export or fetch it again"


@dataclass(frozen=True)
class Manifest:
    """What `export.json`, or a model folder's `graphs.json`, says.

    Attributes:
        kind: the graphs' format.
        precision: how an exported model's weights are stored; int8 computes in it too. In a model folder "fp32", in
            which engines compute.
        z_dim: length of the noise.
        cond_dim: length of a sentence vector.
        num_stages: stages of the generator that take a sentence vector of their own.
        image_size: side of the images in pixels.
        image_channels: of the images.
        text_encoder: "clip" or "t5"; None where only `prompt_embeds` can be given.
        max_tokens: longest prompt in tokens.
        image_encoder: whether the image side of the model's own CLIP is there.
        tokenizer: the tokenizer's file, from the folder.
        opset: ONNX operator set that the graphs were written in.
        version: of galip.
        source: of an exported model, the one that it was made from: `name`, `weights` (`fingerprint`) and `digest`,
            over all its files.
        structure: of a model folder, what its graphs were made for (`galip.model_repo.graphs.structure`).
        quality: distance of an exported model's images from those in fp32, where that was measured.
        files: size and SHA-256 of every file of the graphs.
    """

    kind: Kind
    precision: Precision
    z_dim: int
    cond_dim: int
    num_stages: int
    image_size: int
    text_encoder: Literal["clip", "t5"] | None
    max_tokens: int
    opset: int
    version: str
    image_channels: int = 3
    image_encoder: bool = False
    tokenizer: str = TOKENIZER
    source: dict[str, str] = field(default_factory=dict)
    structure: str | None = None
    quality: dict[str, Any] | None = None
    files: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def weights(self) -> str:
        """Of an exported model, a short name for what images depend on: in fp32 that of the original's weights."""
        name = self.source["weights"]
        return name if self.precision == "fp32" else f"{name}-{self.precision}"

    @property
    def graphs(self) -> dict[str, str]:
        """The files of the graphs that are there, by `GENERATOR`, `TEXT_ENCODER` and `IMAGE_ENCODER`."""
        there = {GENERATOR: True, TEXT_ENCODER: self.text_encoder is not None, IMAGE_ENCODER: self.image_encoder}
        return {name: name + SUFFIX[self.kind] for name, is_there in there.items() if is_there}


def is_export(folder: Path) -> bool:
    """Whether a folder is an exported model."""
    return (folder / MANIFEST).is_file()


def read_manifest(folder: Path, name: str = MANIFEST) -> Manifest:
    """What a folder's graphs are, once every file that the manifest names is there in its full size.

    Args:
        folder: an exported model, or a model folder with graphs.
        name: the manifest's.

    Raises:
        GalipError: it is damaged, not whole, or of a later format.
    """
    path = folder / name
    content = read_json_object(path, _AGAIN)
    found = content.pop("format", None)
    if isinstance(found, int) and found > FORMAT:
        raise GalipError(f"{path}: it has format {found}, this version of galip reads {FORMAT}: update galip")
    try:
        manifest = Manifest(**content)
        _check_types(manifest)
        sizes = {file: int(facts["bytes"]) for file, facts in manifest.files.items()}
    except (ValueError, TypeError, KeyError) as error:
        raise GalipError(f"{path}: it cannot be read ({error}); {_AGAIN}") from error
    needed = [*manifest.graphs.values(), *([manifest.tokenizer] if manifest.text_encoder else [])]
    for file in (*needed, *sizes):
        at = folder / file
        if not at.is_file() or (file in sizes and at.stat().st_size != sizes[file]):
            raise GalipError(f"{at}: it is missing or not as large as {name} says; {_AGAIN}")
    return manifest


def write_manifest(path: Path, manifest: Manifest, files: Iterable[Path]) -> Manifest:
    """Write a manifest.

    Args:
        path: `export.json` or `graphs.json` of a folder.
        manifest: all of it but `files`.
        files: the graphs' files, in the same folder.

    Returns:
        The manifest with `files` filled in.
    """
    facts = {file.name: {"bytes": file.stat().st_size, "sha256": sha256(file)} for file in sorted(files)}
    whole = replace(manifest, files=facts)
    said = {key: value for key, value in asdict(whole).items() if value not in (None, {}) or key == "text_encoder"}
    write_json(path, {"format": FORMAT} | said)
    return whole


def _check_types(manifest: Manifest) -> None:
    """Make sure of the types that programs rely on.

    Raises:
        ValueError: one is another.
    """
    for name in ("z_dim", "cond_dim", "num_stages", "image_size", "image_channels"):
        value = getattr(manifest, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} is {value!r}")
    if not isinstance(manifest.max_tokens, int) or (manifest.text_encoder is not None and manifest.max_tokens < 1):
        raise ValueError(f"max_tokens is {manifest.max_tokens!r}")
    choices = {"kind": tuple(SUFFIX), "precision": get_args(Precision), "text_encoder": ("clip", "t5", None)}
    for name, allowed in choices.items():
        if getattr(manifest, name) not in allowed:
            raise ValueError(f"{name} is {getattr(manifest, name)!r}")
    if not isinstance(manifest.source, dict) or not isinstance(manifest.files, dict):
        raise ValueError("source or files is not an object")
    for name in (manifest.tokenizer, *manifest.files):
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
            raise ValueError(f"{name!r} is not a file of this folder")


@contextmanager
def written_whole(out: Path) -> Iterator[Path]:
    """A folder that takes the place of `out` when everything in it has been written; see `atomic_folder`.

    Raises:
        GalipError: it cannot be written.
    """
    try:
        with atomic_folder(out) as unfinished:
            yield unfinished
    except OSError as error:
        raise GalipError(f"{out}: it cannot be written ({error.strerror or error})") from error


def check_out(out: Path, overwrite: bool) -> None:
    """Make sure that a model may be written to `out`, before it is made.

    Raises:
        InputError: there is a file, or a folder that is not empty and that nobody said to replace.
    """
    if out.is_file():
        raise InputError(f"{out}: this is a file; name the folder that the model shall go to")
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise InputError(f"{out}: the folder is not empty; name another one, or add --overwrite to replace it")
