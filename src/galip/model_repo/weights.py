"""The weights of a model's parts: names, shapes and types, from the headers of the safetensors files alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from galip.errors import GalipError
from galip.model_repo.format import PICKLES, WEIGHTS, WEIGHTS_INDEX
from galip.utils.untrusted import read_json_object


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


def read_tensors(part: Path) -> dict[str, Tensor]:
    """Names, shapes and types of all weights of a part.

    Raises:
        GalipError: there are none, they are pickles, or a file is missing or damaged.
    """
    tensors: dict[str, Tensor] = {}
    for file in weight_files(part):
        try:
            with safe_open(file, framework="numpy") as opened:
                for name in opened.keys():  # noqa: SIM118 (not a dict)
                    piece = opened.get_slice(name)
                    tensors[name] = Tensor(tuple(piece.get_shape()), piece.get_dtype())
        except (SafetensorError, OSError) as error:
            raise GalipError(f"{file}: it is damaged or not whole ({error}); save or fetch it again") from error
    return tensors


def weight_files(part: Path) -> list[Path]:
    """The safetensors files of a part, in a fixed order.

    Raises:
        GalipError: there are none, or one that an index names is missing or is not a file of this folder.
    """
    for index in sorted(part.glob(WEIGHTS_INDEX)):
        shards = read_json_object(index, "save or fetch it again").get("weight_map")
        if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
            raise GalipError(f"{index}: weight_map does not map weights to files; save or fetch it again")
        names = sorted(set(shards.values()))
        for name in names:
            if Path(name).name != name or "\\" in name or "\0" in name or not name.endswith(".safetensors"):
                raise GalipError(f"{index}: it names {name[:60]!r}, which is not a safetensors file beside it")
            if not (part / name).is_file():
                raise GalipError(f"{part / name}: {index.name} names this file, but it is missing; fetch it again")
        return [part / name for name in names]
    files = sorted(part.glob(WEIGHTS))
    if files:
        return files
    pickles = sorted(file.name for file in part.iterdir() if file.suffix in PICKLES)
    if pickles:
        raise GalipError(
            f"{part / pickles[0]}: these weights are a pickle, which can run code, so they are not loaded; "
            "convert them to safetensors where you trust them: load them there and call save_pretrained()"
        )
    raise GalipError(f"{part}: there are no weights (*.safetensors); the model is not whole, save or fetch it again")


def stored_dtype(folder: Path) -> str:
    """The type of the generator's stored weights, as safetensors spells it; "F32" where they are of several."""
    dtypes = {tensor.dtype for tensor in read_tensors(folder / "generator").values() if tensor.is_float}
    return dtypes.pop() if len(dtypes) == 1 else "F32"
