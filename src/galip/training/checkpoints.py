"""Training checkpoints: one folder with everything needed to go on bit for bit, never half-written.

images-000010000/
    state.json                 images seen, version, configuration, SHA-256 of every other file
    generator.safetensors      weights of G, of its average and of D (with the assessor), in fp32
    ema.safetensors
    discriminator.safetensors
    optimizers.pt              both optimisers, loss scalers and random states (loaded with weights_only=True)
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from galip.errors import GalipError

STATE, OPTIMIZERS = "state.json", "optimizers.pt"
_NAME = re.compile(r"images-(\d+)")


def save_checkpoint(
    folder: Path, images: int, networks: dict[str, nn.Module], states: dict[str, Any], about: dict[str, Any], keep: int
) -> Path:
    """Write `folder/images-<images>` under a temporary name, rename it, and remove the oldest beyond `keep`.

    Args:
        folder: the run's checkpoint folder.
        images: images seen.
        networks: by file name ("generator", "ema", "discriminator").
        states: state dicts and random states for `optimizers.pt`.
        about: plain values for `state.json`.
        keep: how many checkpoints stay.

    Returns:
        The checkpoint's folder.

    Raises:
        GalipError: it cannot be written (no room, no right); earlier checkpoints are untouched.
    """
    final = folder / f"images-{images:09d}"
    unfinished = folder / f".unfinished-{final.name}-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(".unfinished-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        unfinished.mkdir()
        for name, network in networks.items():
            tensors = {key: tensor.detach().contiguous().cpu() for key, tensor in network.state_dict().items()}
            save_file(tensors, unfinished / f"{name}.safetensors")
        torch.save(states, unfinished / OPTIMIZERS)
        hashes = {path.name: _sha256(path) for path in sorted(unfinished.iterdir())}
        state = json.dumps({"images": images, **about, "sha256": hashes}, indent=1)
        (unfinished / STATE).write_text(state + "\n", encoding="utf-8")
        for path in unfinished.iterdir():
            _flush(path)
        if final.exists():
            shutil.rmtree(final)
        unfinished.rename(final)
        _flush(folder)
    except OSError as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise GalipError(f"{final}: the checkpoint could not be written ({error.strerror}); free some room") from error
    for old in list_checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return final


def load_checkpoint(
    folder: Path, networks: dict[str, nn.Module] | None = None, device: torch.device | str = "cpu"
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a checkpoint back, weights into `networks`.

    Returns:
        (about, states): what `save_checkpoint` was given, `images` included in `about`.

    Raises:
        GalipError: a file is missing, damaged or does not fit the networks; it is named.
    """
    try:
        about = json.loads((folder / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise GalipError(f"{folder}: no checkpoint ({STATE} cannot be read); name a folder images-...") from error
    for name, expected in about["sha256"].items():
        path = folder / name
        if not path.exists() or _sha256(path) != expected:
            raise GalipError(f"{path}: missing or damaged; resume from another checkpoint of this run")
    for name, network in (networks or {}).items():
        tensors: dict[str, Tensor] = load_file(folder / f"{name}.safetensors", device=str(device))
        try:
            network.load_state_dict(tensors)
        except RuntimeError as error:
            raise GalipError(
                f"{folder / name}.safetensors does not fit the configured network; resume with the run's own "
                f"configuration ({str(error).splitlines()[-1].strip()})"
            ) from error
    states = torch.load(folder / OPTIMIZERS, map_location=device, weights_only=True)
    return about, states


def list_checkpoints(folder: Path) -> list[Path]:
    """Finished checkpoints, oldest first."""
    found = [path for path in folder.glob("images-*") if _NAME.fullmatch(path.name) and (path / STATE).exists()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("images-")))


def find_checkpoint(run: Path, wanted: str) -> Path:
    """The checkpoint that "latest", or a folder's name or path, stands for.

    Raises:
        GalipError: there is none.
    """
    if wanted == "latest":
        found = list_checkpoints(run / "checkpoints")
        if not found:
            raise GalipError(f"{run}: no checkpoint to resume from; start without --resume")
        return found[-1]
    for candidate in (Path(wanted), run / "checkpoints" / wanted):
        if (candidate / STATE).exists():
            return candidate
    raise GalipError(f"{wanted}: no checkpoint; give 'latest' or a folder images-... of the run")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)


def _digest(file: Any) -> str:  # Python 3.10 has no hashlib.file_digest
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _flush(path: Path) -> None:
    """Make sure that a file or a folder's entry has reached the disk before it is relied on."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
