"""What a model folder says about itself, without loading its weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from galip.model_repo.card import licence_of, read_card, trained_on
from galip.model_repo.configs import image_size, read_config
from galip.model_repo.format import CARD, NETWORKS, TOKENIZER, TRAINABLE, TRAINING
from galip.model_repo.index import check_model_folder, read_index
from galip.model_repo.weights import read_tensors
from galip.utils.untrusted import read_json_object


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
        image_size: side of the images in pixels.
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


def describe(folder: Path) -> ModelFacts:
    """Collect what a model folder says about itself.

    Raises:
        GalipError: it does not hold a whole GALIP model.
    """
    check_model_folder(folder)
    index = read_index(folder)
    names = [name for name in (*NETWORKS, TOKENIZER) if index[name][1] is not None]
    parts = [_describe_part(folder / name, index[name][1]) for name in names]
    if (folder / "discriminator" / "config.json").is_file():
        config = read_config(folder, "discriminator")
        parts.insert(1, _describe_part(folder / "discriminator", str(config.get("_class_name", "MateDiscriminator"))))
    card = read_card(folder / CARD)
    file = folder / TRAINING
    training = read_json_object(file, "save or fetch the model again") if file.is_file() else {}
    return ModelFacts(
        folder=folder,
        parts=tuple(parts),
        image_size=image_size(folder),
        size=_size(folder),
        licence=licence_of(card),
        trained_on=trained_on(card, training),
        training=training,
    )


def _describe_part(folder: Path, kind: str) -> Part:
    weights = {} if folder.name == TOKENIZER else read_tensors(folder)
    floats = [tensor for tensor in weights.values() if tensor.is_float]
    return Part(
        name=folder.name,
        kind=kind,
        trainable=folder.name in TRAINABLE,
        parameters=sum(tensor.count for tensor in floats),
        dtypes=tuple(sorted({tensor.dtype for tensor in floats})),
        size=_size(folder),
    )


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
