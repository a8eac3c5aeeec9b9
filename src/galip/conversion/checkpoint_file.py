"""The GALIP authors' `.pth` files, read without running code and written bit for bit.

A `.pth` holds `{"model": {"netG", "netD", "netC"}, "optimizers", "epoch", "scalers"}`, the last three optional; keys of
a network may all carry a `module.` prefix. netG also holds the frozen CLIP-ViT, by OpenAI's names. Here a checkpoint's
tensors are one flat dictionary, by names such as `netG.fc_code.weight`, without the prefix.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from galip.utils.atomic import atomic_file

NETWORKS = ("netG", "netD", "netC")
PREFIX = "module."
SOURCE = "https://github.com/tobran/GALIP"

_SHOWN = 5


class CheckpointError(ValueError):
    """A file is no whole checkpoint of the released layout, or a model cannot be written as one.

    Attributes:
        missing: keys that should be there.
        unknown: keys that mean nothing here.
        misshapen: keys whose tensors have another shape than they should have.
    """

    def __init__(
        self,
        message: str,
        missing: Iterable[str] = (),
        unknown: Iterable[str] = (),
        misshapen: Iterable[str] = (),
    ) -> None:
        super().__init__(message)
        self.missing = tuple(missing)
        self.unknown = tuple(unknown)
        self.misshapen = tuple(misshapen)


@dataclass
class ReleasedCheckpoint:
    """A `.pth` file's content.

    Attributes:
        tensors: every tensor of the three networks: `netG.fc_code.weight`, ...
        prefixes: what the keys of each network begin with in the file: "" or "module.".
        rest: everything beside `model`, carried along: `optimizers`, `epoch`, `scalers`.
        name: what error messages call it.
    """

    tensors: dict[str, Tensor]
    prefixes: dict[str, str] = field(default_factory=lambda: dict.fromkeys(NETWORKS, ""))
    rest: dict[str, Any] = field(default_factory=dict)
    name: str = "checkpoint"


def read_checkpoint(path: Path) -> ReleasedCheckpoint:
    """Read a `.pth` without running any code in it. Tensors stay on disk until they are used, where possible.

    Raises:
        CheckpointError: it is a directory, damaged, holds more than plain data, or is no GALIP checkpoint.
        OSError: it cannot be opened.
    """
    content = _load_plain_data(path)
    model = content.get("model") if isinstance(content, Mapping) else None
    if not isinstance(model, Mapping) or not all(isinstance(network, Mapping) for network in model.values()):
        found = f"an object with {some(map(str, content))}" if isinstance(content, Mapping) else type(content).__name__
        raise CheckpointError(
            f'{path}: this is no checkpoint of the GALIP authors: it has no "model" with {", ".join(NETWORKS)} '
            f"(found {found}); fetch the file that {SOURCE} links to"
        )
    tensors: dict[str, Tensor] = {}
    prefixes = dict.fromkeys(NETWORKS, "")
    strangers = []
    for network, weights in model.items():
        prefixes[network] = PREFIX if weights and all(str(key).startswith(PREFIX) for key in weights) else ""
        for key, value in weights.items():
            name = f"{network}.{str(key).removeprefix(prefixes[network])}"
            if isinstance(value, Tensor) and value.is_floating_point():
                tensors[name] = value.detach()
            else:
                strangers.append(name)
    if strangers:
        raise CheckpointError(
            f"{path}: {len(strangers)} unknown: {some(strangers)} (no floating-point tensors, hence no weights); "
            f"fetch the file that {SOURCE} links to",
            unknown=strangers,
        )
    rest = {key: value for key, value in content.items() if key != "model"}
    return ReleasedCheckpoint(tensors, prefixes, rest, str(path))


def write_checkpoint(checkpoint: ReleasedCheckpoint, path: Path) -> None:
    """Write a `.pth` as the authors' code reads it, under a temporary name first; an older file is replaced.

    Raises:
        OSError: it cannot be written.
    """
    model: dict[str, dict[str, Tensor]] = {network: {} for network in NETWORKS}
    for name, tensor in checkpoint.tensors.items():
        network, key = name.split(".", 1)
        model[network][checkpoint.prefixes[network] + key] = tensor
    with atomic_file(path) as unfinished, unfinished.open("wb") as file:
        torch.save({"model": model, **checkpoint.rest}, file)


def _load_plain_data(path: Path) -> Any:
    if path.is_dir():
        raise CheckpointError(f"{path}: this is a folder, not a .pth file")
    with path.open("rb") as file:
        is_archive = file.read(4) == b"PK\x03\x04"  # what torch writes since 1.6; older files cannot be mapped
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's advice on foreign kinds of files, which are refused below anyhow
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        if named:
            raise CheckpointError(
                f"{path}: this pickle holds more than weights: it asks for {named[1]}, which could run code, so it is "
                f"not loaded; fetch the authors' own file, which {SOURCE} links to"
            ) from error
        raise _damaged(path, error) from error
    except Exception as error:  # garbage makes the reader fail in many ways, an OSError of a seek among them
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{path}: this is no checkpoint, or not the whole of one: torch cannot read it ({type(error).__name__}); "
        f"its {path.stat().st_size:,} bytes may be a broken download, so fetch it again"
    )


def some(keys: Iterable[str]) -> str:
    """The first of some keys, and how many more there are."""
    names = list(keys)
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
