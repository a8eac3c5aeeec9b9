"""The weights of feature networks: found or fetched, read without running code, checked, and named by a digest."""

from __future__ import annotations

import hashlib
import importlib
import pickle
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from galip.errors import GalipError, InputError
from galip.model_repo.fingerprint import sha256
from galip.utils.extras import remedy

_DIGITS = 16
_COUNTERS = ".num_batches_tracked"
"""BatchNorm counts its training steps under this name; older files lack it, and nothing in eval mode reads it."""

_ROUNDING = 2.0**-8
"""Twice what rounding to bfloat16 changes at most, as a share of the value."""

_SMALLEST = 1e-7
"""Above what rounding to half precision changes in numbers that are too small for its full precision."""


@dataclass(frozen=True)
class PublishedFile:
    """A file of weights that its publishers name after the beginning of its sha256: `NAME-6726825d.pth`.

    Attributes:
        url: where it is fetched from.
        aliases: other names under which the very same file is published.
        origin: where a person finds it, in words.
    """

    url: str
    aliases: tuple[str, ...]
    origin: str

    @property
    def name(self) -> str:
        """The file's name."""
        return self.url.rsplit("/", 1)[-1]

    @property
    def sha256(self) -> str:
        """The beginning of the file's sha256."""
        return Path(self.name).stem.rsplit("-", 1)[-1]

    def fetch(self, extractor: str) -> Path:
        """The file in torch's cache ($TORCH_HOME/hub/checkpoints), downloaded if it is not there yet.

        Args:
            extractor: whose weights they are, for the messages.

        Raises:
            GalipError: it is not there and cannot be fetched, or it is not the published file.
        """
        from filelock import FileLock
        from huggingface_hub import constants

        folder = Path(torch.hub.get_dir()) / "checkpoints"
        for name in (self.name, *self.aliases):
            if (folder / name).is_file():
                self._check(folder / name)
                return folder / name
        target = folder / self.name
        remedy = f"put {self.name} ({self.origin}) into {folder}, or give the file with --weights {extractor}=FILE"
        if constants.HF_HUB_OFFLINE:
            raise GalipError(f"{target}: these weights are not there, and HF_HUB_OFFLINE forbids fetching; {remedy}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{target}.lock"):  # of several processes one downloads, the others wait and find the file
                if not target.is_file():
                    torch.hub.download_url_to_file(self.url, str(target), self.sha256, progress=sys.stderr.isatty())
        except (OSError, HTTPException, RuntimeError) as error:
            raise GalipError(f"{target}: these weights cannot be fetched ({error}); {remedy}") from error
        return target

    def _check(self, path: Path) -> None:
        digest = sha256(path)
        if not digest.startswith(self.sha256):
            raise GalipError(
                f"{path}: it is not the published file of that name: its sha256 begins with "
                f"{digest[: len(self.sha256)]}; remove it, so that it is fetched again"
            )


def needed_package(name: str) -> Any:
    """A module of a library that only evaluation needs.

    Raises:
        GalipError: it is not installed; the message says how to.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise GalipError(
            f"{package} cannot be imported ({error}); this evaluation needs it: {remedy('eval')}"
        ) from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """A file's tensors by name: safetensors, or what `torch.save` makes of a state dict, read with weights_only.

    Raises:
        InputError: there is no such file.
        GalipError: it cannot be read, or holds something else.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise InputError(f"{path}: there is no such file; give one with weights (.pth or .safetensors)")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's advice on foreign kinds of files, which are refused below
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise GalipError(
            f"{path}: it holds more than plain weights, which could run code, so it is not loaded; "
            "give a file with a state dict"
        ) from error
    except (SafetensorError, OSError, EOFError, RuntimeError, ValueError, KeyError, AttributeError) as error:
        raise GalipError(
            f"{path}: no weights can be read from it ({type(error).__name__}); it is damaged, or no file of weights"
        ) from error
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise GalipError(f"{path}: it holds no state dict, a table of names and tensors; give a file that does")
    return dict(state)


def load_into(network: nn.Module, state: dict[str, Tensor], source: str, unused: Sequence[str] = ()) -> None:
    """Load all of a network's weights; counters of training steps may be absent.

    Args:
        network: it gets the weights.
        state: tensors by name.
        source: where they are from, for the message.
        unused: beginnings of names that may be there although the network does not have them.

    Raises:
        GalipError: weights are missing, of another shape, or belong to another network.
    """
    own = network.state_dict()
    wanted = {name for name in own if not name.endswith(_COUNTERS)}
    given = {name for name in state if not name.endswith(_COUNTERS) and not name.startswith(tuple(unused))}
    other = sorted(name for name in wanted & given if own[name].shape != state[name].shape)
    for what, names in (
        ("weights are missing", sorted(wanted - given)),
        ("weights have no place", sorted(given - wanted)),
        ("weights have another shape", other),
    ):
        if names:
            shown = ", ".join(names[:3]) + (", ..." if names[3:] else "")
            raise GalipError(
                f"{source}: these are not the weights of {type(network).__name__}: {len(names)} {what} ({shown})"
            )
    network.load_state_dict({name: state[name] for name in given}, strict=False)


def digest_of(module: nn.Module) -> str:
    """A name for a network's values: equal values give equal names, whatever file format or library they came through.

    It is made of the shape and the fp32 values of every floating-point parameter and buffer. Tensors' names do not
    enter, because libraries rename them: the digests of the tensors are sorted.

    Args:
        module: a network, on any device and of any floating-point type.

    Returns:
        The first 16 hex digits of a sha256.
    """
    return hashlib.sha256("\n".join(sorted(map(_tensor_digest, _values(module)))).encode()).hexdigest()[:_DIGITS]


def same_network(first: nn.Module, second: nn.Module) -> bool:
    """Whether two networks of one class hold the same weights, but for rounding to half precision or bfloat16.

    Digests tell equal values only; a model folder may keep in half precision what another one keeps in full.
    """
    one, other = dict(first.named_parameters()), dict(second.named_parameters())
    if {name: weight.shape for name, weight in one.items()} != {name: weight.shape for name, weight in other.items()}:
        return False
    for name, weight in one.items():
        exact = weight.detach().cpu().float()
        difference = (exact - other[name].detach().cpu().float()).abs()
        if not bool((difference <= exact.abs() * _ROUNDING + _SMALLEST).all()):
            return False
    return True


def check_finite(module: nn.Module, source: str) -> None:
    """Refuse weights that are not numbers: every feature would be broken.

    Raises:
        GalipError: some are infinite or NaN.
    """
    if not all(bool(value.isfinite().all()) for value in _values(module)):
        raise GalipError(f"{source}: some of these weights are not finite, the file is broken; fetch or save it again")


def _values(module: nn.Module) -> list[Tensor]:
    return [value.detach() for value in (*module.parameters(), *module.buffers()) if value.is_floating_point()]


def _tensor_digest(value: Tensor) -> str:
    numbers = value.to("cpu", torch.float32).contiguous().numpy().astype("<f4", copy=False)
    digest = hashlib.sha256(str(tuple(numbers.shape)).encode())
    digest.update(numbers.reshape(-1).data)
    return digest.hexdigest()
