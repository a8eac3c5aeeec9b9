"""What a model folder must hold, and what it says about itself, without loading its weights.

A model is a diffusers folder: `model_index.json` names the parts, each part has a folder of its own with its
configuration and its weights as safetensors. Only the headers of those are read here, and nothing of torch is imported.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError, safe_open

from galip.errors import GalipError

INDEX = "model_index.json"
PIPELINE_CLASS = "GALIPPipeline"
NETWORKS = ("generator", "vision_encoder", "text_encoder")
"""Parts with weights that drawing needs; `text_encoder` and `tokenizer` may be absent, as null in the index."""

TRAINABLE = ("generator", "discriminator")
_OPTIONAL = ("text_encoder", "tokenizer")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "spiece.model", "tokenizer.model", "vocab.txt")


@dataclass(frozen=True)
class Tensor:
    """One tensor as a safetensors header describes it: its shape and its type ("F32", "F16", "BF16", ...)."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def is_float(self) -> bool:
        """Whether it can be a weight; whole numbers are tables of positions and the like."""
        return "F" in self.dtype

    @property
    def count(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Part:
    """A part of a model as `galip info` shows it.

    Attributes:
        name: its folder: "generator", "text_encoder", ...
        kind: its class.
        trainable: False for the frozen CLIP parts.
        parameters: how many weights it has.
        dtypes: types that they are stored in.
        size: bytes on disk of everything in the folder.
    """

    name: str
    kind: str
    trainable: bool
    parameters: int
    dtypes: tuple[str, ...]
    size: int


@dataclass(frozen=True)
class ModelFacts:
    """What a model folder says about itself.

    Attributes:
        folder: where it lies.
        parts: its parts; the discriminator is among them if it lies beside the others.
        image_size: side of the pictures in pixels.
        size: bytes on disk in all.
        licence: from the model card, None where it says nothing.
        trained_on: data sets, from the model card, or else the run's own source.
        training: what `training.json` records: steps, images seen and the like.
    """

    folder: Path
    parts: tuple[Part, ...]
    image_size: int
    size: int
    licence: str | None = None
    trained_on: tuple[str, ...] = ()
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def trainable(self) -> int:
        """Parameters of the generator and, if it is there, the discriminator."""
        return sum(part.parameters for part in self.parts if part.trainable)

    @property
    def frozen(self) -> int:
        """Parameters of the parts that GALIP does not train."""
        return sum(part.parameters for part in self.parts if not part.trainable)


def check_model_folder(folder: Path) -> None:
    """Make sure that a folder holds a whole GALIP model, before anything of it is loaded.

    Raises:
        GalipError: it does not; the message names the file and says what to do.
    """
    index = read_index(folder)
    for name in (*NETWORKS, "tokenizer"):
        entry = index.get(name)
        absent = not isinstance(entry, list) or len(entry) != 2 or entry[1] is None
        if absent and name in _OPTIONAL and name in index:
            continue
        if absent:
            raise GalipError(f"{folder / INDEX}: it does not name the part {name}; save or fetch the model again")
        if not (folder / name).is_dir():
            raise GalipError(f"{folder}: the part {name}/ is missing; the model is not whole, save or fetch it again")
        if name == "tokenizer":
            if not any((folder / name / file).is_file() for file in _TOKENIZER_FILES):
                raise GalipError(f"{folder / name}: there is no vocabulary ({', '.join(_TOKENIZER_FILES)})")
        else:
            _read_json(folder / name / "config.json")
            read_tensors(folder / name)


def describe(folder: Path) -> ModelFacts:
    """Collect what a model folder says about itself.

    Raises:
        GalipError: it holds no whole GALIP model.
    """
    check_model_folder(folder)
    index = read_index(folder)
    names = [name for name in (*NETWORKS, "tokenizer") if index[name][1] is not None]
    parts = [_describe_part(folder / name, str(index[name][1])) for name in names]
    if (folder / "discriminator" / "config.json").is_file():
        config = _read_json(folder / "discriminator" / "config.json")
        parts.insert(1, _describe_part(folder / "discriminator", str(config.get("_class_name", "MateDiscriminator"))))
    generator = _read_json(folder / "generator" / "config.json")
    card = _read_card(folder / "README.md")
    training = _read_json(folder / "training.json") if (folder / "training.json").is_file() else {}
    return ModelFacts(
        folder=folder,
        parts=tuple(parts),
        image_size=_image_size(folder, generator),
        size=_size(folder),
        licence=_licence(card),
        trained_on=_trained_on(card, training),
        training=training,
    )


def stored_dtype(folder: Path) -> str:
    """The type of the generator's stored weights, as safetensors spells it; "F32" where they are of several."""
    dtypes = {tensor.dtype for tensor in read_tensors(folder / "generator").values() if tensor.is_float}
    return dtypes.pop() if len(dtypes) == 1 else "F32"


def fingerprint(folder: Path) -> str:
    """A short name for the generator's weights: the first 16 hexadecimal digits of their SHA-256."""
    digest = hashlib.sha256()
    for file in _weight_files(folder / "generator"):
        with file.open("rb") as opened:
            while block := opened.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:16]


def read_index(folder: Path) -> dict[str, Any]:
    """`model_index.json` of a GALIP model.

    Raises:
        GalipError: there is none, it cannot be read, or it belongs to another kind of model.
    """
    if not (folder / INDEX).is_file():
        raise GalipError(f"{folder}: {_why_no_index(folder)}")
    index = _read_json(folder / INDEX)
    if index.get("_class_name") != PIPELINE_CLASS:
        raise GalipError(f"{folder}: it holds a {index.get('_class_name')}, not a {PIPELINE_CLASS}")
    return index


def read_tensors(part: Path) -> dict[str, Tensor]:
    """Names, shapes and types of all weights of a part, from the headers of its safetensors files.

    Raises:
        GalipError: there are none, they are pickles, or a file is missing or damaged.
    """
    tensors: dict[str, Tensor] = {}
    for file in _weight_files(part):
        try:
            with safe_open(file, framework="numpy") as opened:
                for name in opened.keys():  # noqa: SIM118 (no dict)
                    piece = opened.get_slice(name)
                    tensors[name] = Tensor(tuple(piece.get_shape()), piece.get_dtype())
        except (SafetensorError, OSError) as error:
            raise GalipError(f"{file}: it is damaged or not whole ({error}); save or fetch it again") from error
    return tensors


def _weight_files(part: Path) -> list[Path]:
    for index in sorted(part.glob("*.safetensors.index.json")):
        names = sorted(set(_read_json(index).get("weight_map", {}).values()))
        for name in names:
            if not (part / name).is_file():
                raise GalipError(f"{part / name}: {index.name} names this file, but it is missing; fetch it again")
        return [part / name for name in names]
    files = sorted(part.glob("*.safetensors"))
    if files:
        return files
    pickles = sorted(file.name for file in part.iterdir() if file.suffix in _PICKLES)
    if pickles:
        raise GalipError(
            f"{part / pickles[0]}: these weights are a pickle, which can run code, so they are not loaded; "
            "convert them to safetensors where you trust them: load them there and call save_pretrained()"
        )
    raise GalipError(f"{part}: there are no weights (*.safetensors); the model is not whole, save or fetch it again")


def _why_no_index(folder: Path) -> str:
    """What the folder may be instead of a model."""
    holds = {path.name for path in folder.iterdir()}
    inside = [path.parent.name for path in sorted(folder.glob(f"*/{INDEX}"))]
    if inside:
        return f"there is no {INDEX}, but there are models inside: did you mean {folder / inside[0]}?"
    if (folder.parent / INDEX).is_file():
        return f"this is a part of a model; give the folder above, {folder.parent}"
    if any("optim" in name for name in holds):
        model = folder.resolve().parent.parent / "model"
        finished = f"the model of its run is {model}" if (model / INDEX).is_file() else "its run has no model yet"
        return (
            f"this is a training checkpoint, from which training goes on, and no model; {finished}: a run writes one "
            "when it ends, and galip.training.export.export_checkpoint makes one of any checkpoint"
        )
    if "checkpoints" in holds:
        return f"there is no {INDEX}; if this is a training run, it writes its model when it ends"
    if any(Path(name).suffix in _PICKLES for name in holds):
        return f"there is no {INDEX}; the GALIP authors' .pth files become a model with `galip convert`"
    return f"there is no {INDEX}, so this is no model folder"


def _describe_part(folder: Path, kind: str) -> Part:
    name = folder.name
    weights = {} if name == "tokenizer" else read_tensors(folder)
    floats = [tensor for tensor in weights.values() if tensor.is_float]
    return Part(
        name=name,
        kind=kind,
        trainable=name in TRAINABLE,
        parameters=sum(tensor.count for tensor in floats),
        dtypes=tuple(sorted({tensor.dtype for tensor in floats})),
        size=_size(folder),
    )


def _image_size(folder: Path, generator: dict[str, Any]) -> int:
    try:
        return int(generator["block_sizes"][-1])
    except (KeyError, IndexError, TypeError, ValueError):
        raise GalipError(f"{folder / 'generator/config.json'}: block_sizes does not say the picture's size") from None


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in _files(folder))


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise GalipError(f"{file}: it is missing; the model is not whole, save or fetch it again") from None
    except (OSError, ValueError) as error:
        raise GalipError(f"{file}: it cannot be read ({error}); save or fetch it again") from error
    if not isinstance(content, dict):
        raise GalipError(f"{file}: it holds no JSON object; save or fetch it again")
    return content


def _read_card(file: Path) -> dict[str, Any]:
    """The front matter of a model card; empty where there is none or it is no YAML."""
    if not file.is_file():
        return {}
    text = file.read_text(encoding="utf-8", errors="replace")
    if not text.startswith("---\n") or "\n---" not in text[4:]:
        return {}
    try:
        card = yaml.safe_load(text[4:].split("\n---", 1)[0])
    except yaml.YAMLError:
        return {}
    return card if isinstance(card, dict) else {}


def _trained_on(card: dict[str, Any], training: dict[str, Any]) -> tuple[str, ...]:
    named = card.get("datasets")
    if not named:
        config = training.get("config")
        data = config.get("data") if isinstance(config, dict) else None
        named = data.get("source") if isinstance(data, dict) else None
    return tuple(map(str, named if isinstance(named, list) else [named] if named else []))


def _licence(card: dict[str, Any]) -> str | None:
    # The hub wants `license: other` with the true name beside it for anything that it does not know.
    named = card.get("license_name") if card.get("license") == "other" else None
    licence = named or card.get("license")
    if isinstance(licence, list):
        return ", ".join(map(str, licence))
    return None if licence is None else str(licence)
