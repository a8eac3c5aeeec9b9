"""Training checkpoints: one folder with everything needed to go on bit for bit, never half-written.

images-000010000/
    state.json                 images seen, version, configuration, scores, SHA-256 of every other file
    generator.safetensors      weights of G, of its average and of D (with the assessor), in fp32
    ema.safetensors
    discriminator.safetensors
    optimizers.pt              both optimisers, loss scalers, random states of every process (weights_only=True)
best.json                      which of the folders has the best score
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from galip.errors import GalipError, InputError

STATE, OPTIMIZERS, BEST = "state.json", "optimizers.pt", "best.json"
FORMAT = 2
_NAME = re.compile(r"images-(\d+)")


@dataclass(frozen=True)
class Keep:
    """Which checkpoints stay when a new one is written; the best always does.

    Attributes:
        newest: so many of the newest.
        every: also the first after each multiple of so many images; 0: none.
    """

    newest: int = 2
    every: int = 0


def save_checkpoint(
    folder: Path, images: int, networks: dict[str, nn.Module], states: dict[str, Any], about: dict[str, Any], keep: Keep
) -> Path:
    """Write `folder/images-<images>` under a temporary name, read it back, rename it, and remove what `keep` lets go.

    Args:
        folder: the run's checkpoint folder.
        images: images seen.
        networks: by file name ("generator", "ema", "discriminator").
        states: state dicts and random states for `optimizers.pt`.
        about: plain values for `state.json`.
        keep: which checkpoints stay.

    Returns:
        The checkpoint's folder.

    Raises:
        GalipError: it cannot be written (no room, no right), or what was written reads back differently; earlier
            checkpoints are untouched.
    """
    final = folder / f"images-{images:09d}"
    unfinished = folder / f".unfinished-{final.name}-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _recover(folder)
        for leftover in (*folder.glob(".unfinished-*"), *folder.glob(".removing-*")):
            shutil.rmtree(leftover, ignore_errors=True)
        unfinished.mkdir()
        hashes = {}
        for name, network in networks.items():
            tensors = {key: tensor.detach().contiguous().cpu() for key, tensor in network.state_dict().items()}
            content = save(tensors)
            hashes[f"{name}.safetensors"] = hashlib.sha256(content).hexdigest()
            (unfinished / f"{name}.safetensors").write_bytes(content)
        buffer = io.BytesIO()
        torch.save(states, buffer)
        hashes[OPTIMIZERS] = hashlib.sha256(buffer.getvalue()).hexdigest()
        (unfinished / OPTIMIZERS).write_bytes(buffer.getvalue())
        state = json.dumps({"format": FORMAT, "images": images, **about, "sha256": hashes}, indent=1)
        (unfinished / STATE).write_text(state + "\n", encoding="utf-8")
        for path in unfinished.iterdir():
            _flush(path)
        if (wrong := damage(unfinished)) is not None:
            raise GalipError(f"{wrong}: reads back otherwise than it was written; check the disk")
        earlier = folder / f".replaced-{final.name}"
        if final.exists():
            final.rename(earlier)
        unfinished.rename(final)
        _flush(folder)
        shutil.rmtree(earlier, ignore_errors=True)
    except OSError as error:
        raise GalipError(f"{final}: the checkpoint could not be written ({error.strerror}); free some room") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    _prune(folder, keep)
    return final


def mark_best(checkpoint: Path, metric: str, value: float) -> None:
    """Note that `checkpoint` has the best score so far; it then stays whatever `Keep` says."""
    unfinished = checkpoint.parent / f".{BEST}"
    unfinished.write_text(json.dumps({"checkpoint": checkpoint.name, "metric": metric, "value": value}) + "\n")
    os.replace(unfinished, checkpoint.parent / BEST)


@dataclass(frozen=True)
class Best:
    """The checkpoint that has been marked as the best, and by which score."""

    checkpoint: Path
    metric: str
    value: float


def best_checkpoint(folder: Path) -> Best | None:
    """The best checkpoint in a run's checkpoint folder, where one has been marked."""
    try:
        best = json.loads((folder / BEST).read_text(encoding="utf-8"))
        found = Best(folder / str(best["checkpoint"]), str(best["metric"]), float(best["value"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if (found.checkpoint / STATE).exists() else None


def forget_beyond(folder: Path, images: int) -> list[Path]:
    """Remove the checkpoints of more than `images` images: the run goes on from there, and they are another run's.

    Returns:
        Those that are gone.
    """
    going = [path for path in list_checkpoints(folder) if images_of(path) > images]
    best = best_checkpoint(folder)
    if best and best.checkpoint in going:
        (folder / BEST).unlink()
    for path in going:
        _remove(path)
    return going


def _recover(folder: Path) -> None:
    """Put a checkpoint back that was moved aside for one of the same name, if a kill kept that one from coming."""
    for aside in folder.glob(".replaced-*"):
        final = folder / aside.name.removeprefix(".replaced-")
        if final.exists():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.rename(final)


def _prune(folder: Path, keep: Keep) -> None:
    found = list_checkpoints(folder)
    kept = set(found[-keep.newest :])
    if best := best_checkpoint(folder):
        kept.add(best.checkpoint)
    if keep.every:
        passed: set[int] = set()
        for path in found:
            multiple = images_of(path) // keep.every
            if multiple and multiple not in passed:
                passed.add(multiple)
                kept.add(path)
    for path in found:
        if path not in kept:
            _remove(path)


def _remove(checkpoint: Path) -> None:
    # Renamed first: a kill in the middle of the removal leaves nothing that looks like a checkpoint.
    going = checkpoint.with_name(f".removing-{checkpoint.name}-{os.getpid()}")
    checkpoint.rename(going)
    shutil.rmtree(going, ignore_errors=True)


def damage(checkpoint: Path) -> Path | None:
    """The first file of a checkpoint that is missing or whose hash is wrong; None if it is sound."""
    try:
        hashes = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))["sha256"]
    except (OSError, ValueError, KeyError):
        return checkpoint / STATE
    for name, expected in hashes.items():
        path = checkpoint / name
        if not path.exists() or _sha256(path) != expected:
            return path
    return None


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
    if about.get("format") != FORMAT:
        raise GalipError(
            f"{folder}: a checkpoint of galip {about.get('version')}, which this version cannot resume; "
            "start anew with model.start_from=RUN/model"
        )
    if (wrong := damage(folder)) is not None:
        raise GalipError(f"{wrong}: missing or damaged; resume from another checkpoint of this run")
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
    return sorted(found, key=images_of)


def images_of(checkpoint: Path) -> int:
    """Images seen, from the folder's name."""
    return int(checkpoint.name.removeprefix("images-"))


def find_checkpoint(run: Path, wanted: str) -> Path:
    """The checkpoint that "latest", "best", or a folder's name or path, stands for.

    "latest" passes over damaged ones, so that a run goes on from the newest that is sound.

    Raises:
        GalipError: there is none.
    """
    _recover(run / "checkpoints")
    if wanted == "latest":
        found = list_checkpoints(run / "checkpoints")
        sound = next((path for path in reversed(found) if damage(path) is None), None)
        if sound is None:
            state = "every checkpoint is damaged" if found else "no checkpoint to resume from"
            raise GalipError(f"{run}: {state}; start without --resume")
        return sound
    if wanted == "best":
        best = best_checkpoint(run / "checkpoints")
        if best is None:
            raise GalipError(f"{run}: no best checkpoint is marked; set evaluation.keep_best, or resume from 'latest'")
        return best.checkpoint
    for candidate in (Path(wanted), run / "checkpoints" / wanted):
        if (candidate / STATE).exists():
            return candidate
    raise GalipError(f"{wanted}: no checkpoint; give 'latest', 'best' or a folder images-... of the run")


def place_to_start(out: Path, resume: str | None) -> Path | None:
    """The checkpoint to go on from; None for a new run.

    Raises:
        GalipError: it is not there, or a new run would overwrite another.
    """
    if resume:
        return find_checkpoint(out, resume)
    if list_checkpoints(out / "checkpoints"):
        raise InputError(f"{out}: a run with checkpoints is there already; add --resume latest, or another --out")
    return None


def sound_checkpoint(folder: Path, until: int) -> Path | None:
    """The best checkpoint of at most `until` images, else the newest of those."""
    best = best_checkpoint(folder)
    if best and images_of(best.checkpoint) <= until:
        return best.checkpoint
    return next((path for path in reversed(list_checkpoints(folder)) if images_of(path) <= until), None)


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
