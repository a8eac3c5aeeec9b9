"""Training checkpoints: one folder with everything needed to go on bit for bit, never half-written.

images-000010000/
    state.json                 images seen, version, configuration, scores
    generator.safetensors      weights of G, of its average and of D (with the assessor), in fp32
    ema.safetensors
    discriminator.safetensors
    optimizers.pt              both optimisers, loss scalers, random states of every process (weights_only=True)
    SHA256SUMS                 of all the others, as `sha256sum --check` reads them
best.json                      which of the folders has the best score
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from galip.errors import GalipError, InputError
from galip.model_repo.fingerprint import sha256
from galip.utils.atomic import atomic_folder, clear_folder, unfinished_name, write_json

STATE, OPTIMIZERS, SUMS, BEST = "state.json", "optimizers.pt", "SHA256SUMS", "best.json"
FORMAT = 3
_NAME = re.compile(r"images-(\d+)")


class CheckpointInfo(BaseModel):
    """What `state.json` says of a checkpoint.

    Attributes:
        format: 3; 2 in version 0.1, which had the other files' hashes in `sha256` and none of `state.json`.
        images: images seen.
        version: of galip.
        config: the run's configuration as plain values.
        data: hash of what the data is.
        scores: of the latest evaluation.
        averages: sums since the last log row.
        guard: what the collapse guard knows.
        lr_scale: what it has multiplied the learning rates with; version 0.1 has it as `lowered` in `guard`.
        stage: number of the stage that it belongs to, from 0.
        text_scale: a T5's factor, where one conditions.
    """

    model_config = ConfigDict(extra="forbid")

    format: Literal[2, 3] = 3
    images: int = Field(ge=0)
    version: str
    config: dict[str, Any]
    data: str
    scores: dict[str, float] = {}
    averages: dict[str, Any] = {}
    guard: dict[str, Any] = {}
    lr_scale: float | None = Field(None, gt=0)
    stage: int = Field(0, ge=0)
    text_scale: float | None = None
    sha256: dict[str, str] = {}


@dataclass(frozen=True)
class Keep:
    """Which checkpoints stay when a new one is written; the best always does.

    Attributes:
        newest: so many of the newest.
        every: also the first after each multiple of so many images; 0: none.
    """

    newest: int = 2
    every: int = 0


# ---- writing


def save_checkpoint(
    folder: Path, info: CheckpointInfo, networks: dict[str, nn.Module], states: dict[str, Any], keep: Keep
) -> Path:
    """Write `folder/images-<images>` whole, read back before it gets its name, and remove what `keep` lets go.

    Args:
        folder: the run's checkpoint folder.
        info: for `state.json`.
        networks: by file name ("generator", "ema", "discriminator").
        states: state dicts and random states for `optimizers.pt`.
        keep: which checkpoints stay.

    Returns:
        The checkpoint's folder.

    Raises:
        GalipError: it cannot be written (no room, no right), or what was written reads back differently; earlier
            checkpoints are untouched.
    """
    final = folder / f"images-{info.images:09d}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        clear_folder(folder)
        with atomic_folder(final) as unfinished:
            for name, network in networks.items():
                tensors = {key: tensor.detach().contiguous().cpu() for key, tensor in network.state_dict().items()}
                save_file(tensors, unfinished / f"{name}.safetensors")
            torch.save(states, unfinished / OPTIMIZERS)
            state = info.model_dump(mode="json", exclude={"sha256"}, exclude_none=True)
            (unfinished / STATE).write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
            (unfinished / SUMS).write_bytes(_sums(unfinished))
            for path in unfinished.iterdir():
                _flush(path)
            if (wrong := damage(unfinished)) is not None:
                raise GalipError(f"{final / wrong.name}: reads back otherwise than it was written; check the disk")
        _flush(folder)
    except OSError as error:
        raise GalipError(f"{final}: the checkpoint could not be written ({error.strerror}); free some room") from error
    _prune(folder, keep)
    return final


def mark_best(checkpoint: Path, metric: str, value: float) -> None:
    """Note that `checkpoint` has the best score so far; it then stays whatever `Keep` says."""
    write_json(checkpoint.parent / BEST, {"checkpoint": checkpoint.name, "metric": metric, "value": value}, indent=None)


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
    going = unfinished_name(checkpoint)
    checkpoint.rename(going)
    shutil.rmtree(going, ignore_errors=True)


# ---- reading


def damage(checkpoint: Path) -> Path | None:
    """The first file of a checkpoint that is missing or not what was written; None if it is sound."""
    try:
        info = read_info(checkpoint)
    except GalipError:
        return checkpoint / STATE
    if info.format == FORMAT:
        return _differing(checkpoint)
    for name, expected in info.sha256.items():
        path = checkpoint / Path(name).name
        if not path.is_file() or sha256(path) != expected:
            return path
    return None if info.sha256 else checkpoint / STATE


def _differing(checkpoint: Path) -> Path | None:
    try:
        written = (checkpoint / SUMS).read_bytes()
        now = _sums(checkpoint)
    except OSError:
        return checkpoint / SUMS
    if written == now:
        return None
    told = written.splitlines()
    changed = [line for line in now.splitlines() if line not in told]
    name = changed[0].partition(b"  ")[2].decode() if changed else SUMS
    return checkpoint / name


def _sums(checkpoint: Path) -> bytes:
    """The exact content that `SHA256SUMS` must have."""
    names = sorted(path.name for path in checkpoint.iterdir() if path.is_file() and path.name != SUMS)
    return "".join(f"{sha256(checkpoint / name)}  {name}\n" for name in names).encode()


def read_info(checkpoint: Path) -> CheckpointInfo:
    """What `state.json` says; whether the other files are sound is for `damage`.

    Raises:
        GalipError: it cannot be read, or is not that of a checkpoint that this version knows.
    """
    try:
        content = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise GalipError(f"{checkpoint}: no checkpoint ({STATE} cannot be read); name a folder images-...") from error
    if isinstance(content, dict) and "format" in content and content["format"] not in (2, FORMAT):
        raise GalipError(
            f"{checkpoint}: a checkpoint of galip {content.get('version')}, which this version cannot resume; "
            "start anew with model.start_from=RUN/model"
        )
    try:
        return CheckpointInfo.model_validate(content)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"])) or "the whole"
        raise GalipError(f"{checkpoint / STATE}: damaged ({where}); resume from another checkpoint") from error


def load_checkpoint(
    folder: Path, networks: dict[str, nn.Module] | None = None, device: torch.device | str = "cpu"
) -> tuple[CheckpointInfo, dict[str, Any]]:
    """Read a checkpoint back, weights into `networks`.

    Returns:
        The infos and the states that `save_checkpoint` was given.

    Raises:
        GalipError: a file is missing, damaged or does not fit the networks; it is named.
    """
    info = read_info(folder)
    if (wrong := damage(folder)) is not None:
        raise GalipError(f"{wrong}: missing or damaged; resume from another checkpoint of this run")
    for name, network in (networks or {}).items():
        path = folder / f"{name}.safetensors"
        if not path.is_file():
            raise GalipError(
                f"{path}: this checkpoint has no such network; resume with the run's own configuration "
                "(RUN/config.yaml)"
            )
        tensors: dict[str, Tensor] = load_file(path, device=str(device))
        try:
            network.load_state_dict(tensors)
        except RuntimeError as error:
            raise GalipError(
                f"{path} does not fit the configured network; resume with the run's own "
                f"configuration ({str(error).splitlines()[-1].strip()})"
            ) from error
    states = torch.load(folder / OPTIMIZERS, map_location=device, weights_only=True)
    return info, states


# ---- finding


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
        found = Best(folder / Path(best["checkpoint"]).name, str(best["metric"]), float(best["value"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if (found.checkpoint / STATE).exists() else None


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
    clear_folder(run / "checkpoints")
    if wanted == "latest":
        found = list_checkpoints(run / "checkpoints")
        sound = next((path for path in reversed(found) if damage(path) is None), None)
        if sound is None:
            if found:
                raise GalipError(f"{run}: every checkpoint is damaged; start anew with another --out")
            raise GalipError(f"{run}: no checkpoint to resume from; start without --resume")
        return sound
    if wanted == "best":
        best = best_checkpoint(run / "checkpoints")
        if best is None:
            raise GalipError(f"{run}: no best checkpoint is marked; set evaluation.keep_best, or resume from 'latest'")
        return best.checkpoint
    for candidate in (Path(wanted).expanduser(), run / "checkpoints" / wanted):
        if (candidate / STATE).exists():
            return candidate
    raise GalipError(f"{wanted}: no checkpoint; give 'latest', 'best' or a folder images-... of the run")


def starting_checkpoint(out: Path, resume: str | None) -> Path | None:
    """The checkpoint to go on from; None for a new run.

    Raises:
        GalipError: it is not there, or a new run would overwrite another.
    """
    if resume:
        return find_checkpoint(out, resume)
    if list_checkpoints(out / "checkpoints"):
        raise InputError(f"{out}: a run with checkpoints is there already; add --resume latest, or another --out")
    return None


def last_sound_checkpoint(folder: Path, until: int) -> Path | None:
    """The best checkpoint of at most `until` images, else the newest of those."""
    best = best_checkpoint(folder)
    if best and images_of(best.checkpoint) <= until:
        return best.checkpoint
    return next((path for path in reversed(list_checkpoints(folder)) if images_of(path) <= until), None)


def _flush(path: Path) -> None:
    """Make sure that a file or a folder's entry has reached the disk before it is relied on."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
