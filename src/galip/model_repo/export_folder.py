"""The folder of an exported model: what is in it, and how it is written and read.

    export.json                what the files are: format, engine, precision, sizes, the model that it was made from
    generator.xml, .bin        the generator with its transformer, for OpenVINO; generator.onnx for ONNX Runtime
    text_encoder.xml, .bin     the sentence encoder; absent, with the tokenizer, where a model has none
    tokenizer.json             the tokenizer, for the package tokenizers
    README.md                  the model card

Nothing of torch or of an engine is imported here.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from galip.errors import GalipError, InputError
from galip.model_repo.fingerprint import sha256

MANIFEST = "export.json"
FORMAT = 1
"""Raised when folders are written that earlier versions cannot read."""

Kind = Literal["onnx", "openvino"]
Precision = Literal["fp32", "fp16", "int8"]

SUFFIX: dict[Kind, str] = {"onnx": ".onnx", "openvino": ".xml"}
"""How the file of a graph ends that an engine is given."""

GENERATOR, TEXT_ENCODER, TOKENIZER = "generator", "text_encoder", "tokenizer.json"


@dataclass(frozen=True)
class Manifest:
    """What `export.json` says.

    Attributes:
        kind: the graphs' format.
        precision: how weights are stored; int8 computes in it too.
        z_dim: length of the noise.
        cond_dim: length of a sentence vector.
        num_stages: stages of the generator that take a sentence vector of their own.
        image_size: side of the pictures in pixels.
        text_encoder: "clip" or "t5"; None where only `prompt_embeds` are drawn.
        max_tokens: longest caption in tokens.
        opset: ONNX operator set that the graphs were written in.
        version: of galip.
        source: of the model that it was made from: `name`, `weights` (`fingerprint`) and `digest`, over all its files.
        quality: distance of its pictures from those in fp32, where that was measured.
        files: size and SHA-256 of every file with weights.
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
    source: dict[str, str]
    quality: dict[str, Any] | None = None
    files: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def weights(self) -> str:
        """A short name for what pictures depend on: in fp32 that of the original, whose pictures these are."""
        name = self.source["weights"]
        return name if self.precision == "fp32" else f"{name}-{self.precision}"


def is_export(folder: Path) -> bool:
    """Whether a folder is an exported model."""
    return (folder / MANIFEST).is_file()


def read_manifest(folder: Path) -> Manifest:
    """What an exported model says about itself, once every file that it names is there in its full size.

    Raises:
        GalipError: it is damaged, not whole, or of a later format.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("no JSON object")
        found = content.pop("format", None)
        if isinstance(found, int) and found > FORMAT:
            raise GalipError(f"{path}: it has format {found}, this version of galip reads {FORMAT}: update galip")
        manifest = Manifest(**content)
        if manifest.kind not in SUFFIX:
            raise ValueError(f"kind {manifest.kind!r}")
        sizes = {name: int(facts["bytes"]) for name, facts in manifest.files.items()}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise GalipError(f"{path}: it cannot be read ({error}); export the model again") from error
    needed = [GENERATOR + SUFFIX[manifest.kind]]
    needed += [TEXT_ENCODER + SUFFIX[manifest.kind], TOKENIZER] if manifest.text_encoder else []
    for name in (*needed, *sizes):
        file = folder / name
        if not file.is_file() or file.stat().st_size != sizes.get(name):
            raise GalipError(f"{file}: it is missing or not as large as {MANIFEST} says; export or fetch it again")
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Write `export.json` for the files that are in a folder.

    Returns:
        The manifest with `files` filled in.
    """
    names = sorted(path for path in folder.iterdir() if path.is_file() and path.name not in (MANIFEST, "README.md"))
    files = {path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in names}
    whole = Manifest(**(asdict(manifest) | {"files": files}))
    text = json.dumps({"format": FORMAT} | asdict(whole), indent=1, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
    return whole


@contextmanager
def written_whole(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its place when everything in it has been written.

    Raises:
        GalipError: it cannot be written.
    """
    unfinished = out.with_name(f".unfinished-{out.name}-{os.getpid()}")
    replaced = out.with_name(f".replaced-{out.name}-{os.getpid()}")
    try:
        unfinished.mkdir(parents=True)
        yield unfinished
        if out.exists():
            out.rename(replaced)
        unfinished.rename(out)
    except OSError as error:
        raise GalipError(f"{out}: it cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def check_out(out: Path, overwrite: bool) -> None:
    """Make sure that a model may be written to `out`, before it is made.

    Raises:
        InputError: there is a file, or a folder that is not empty and that nobody said to replace.
    """
    if out.is_file():
        raise InputError(f"{out}: this is a file; name the folder that the model shall go to")
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise InputError(f"{out}: the folder is not empty; name another one, or add --overwrite to replace it")
