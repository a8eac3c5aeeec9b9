"""An inversion on disk: `inversion.npz` with z and e, `inversion.json` with what they are and how good they are."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from galip.errors import GalipError, InputError

if TYPE_CHECKING:
    from galip.latent.inversion import Inversion

FACTS, LATENTS = "inversion.json", "inversion.npz"
FORMAT = 1


@dataclass(frozen=True)
class StoredInversion:
    """What can be drawn again, edited and varied.

    Attributes:
        z: float32 [z_dim].
        e: float32 [cond_dim] or [num_stages, cond_dim].
        facts: everything in `inversion.json`.
    """

    z: NDArray[np.float32]
    e: NDArray[np.float32]
    facts: dict[str, Any]

    @property
    def caption(self) -> str | None:
        """The caption that the inversion began with."""
        found: str | None = self.facts.get("caption")
        return found

    @property
    def weights(self) -> str:
        """The weights that z and e belong to; see `galip.model_repo.fingerprint.fingerprint`."""
        return str(self.facts["weights"])


def write_inversion(folder: Path, inversion: Inversion, facts: Mapping[str, Any]) -> None:
    """Write both files; each is whole or not there, and the JSON comes last.

    Args:
        folder: made where it is missing.
        inversion: what was found.
        facts: what else is recorded: at least `weights`.

    Raises:
        OSError: they cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    told = {"format": FORMAT} | dict(facts)
    told |= {"caption": inversion.caption, "seed": inversion.seed, "per_stage": inversion.e.ndim == 2}
    told |= {"psnr_db": round(inversion.psnr, 2), "clip_similarity": round(inversion.similarity, 4)}
    told |= {"loss": round(inversion.loss, 6), "start_loss": round(inversion.start_loss, 6)}
    told |= {"start_psnr_db": round(inversion.start_psnr, 2), "latents": LATENTS}
    unfinished = folder / f".{LATENTS}.{os.getpid()}.part"
    try:
        with unfinished.open("wb") as file:
            np.savez(file, z=inversion.z, e=inversion.e)
        unfinished.replace(folder / LATENTS)
        unfinished.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        unfinished.replace(folder / FACTS)
    finally:
        unfinished.unlink(missing_ok=True)


def is_inversion(path: Path) -> bool:
    """Whether a path is a folder that `write_inversion` wrote, or one of its two files."""
    return (path / FACTS).is_file() or (path.name in (FACTS, LATENTS) and path.is_file())


def read_inversion(path: Path) -> StoredInversion:
    """Read an inversion.

    Args:
        path: the folder, or one of the two files in it.

    Raises:
        InputError: there is none.
        GalipError: a file is missing or damaged.
    """
    folder = path if path.is_dir() else path.parent
    if not is_inversion(path):
        raise InputError(f"{path}: there is no inversion; name a folder that galip invert wrote")
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        if not isinstance(facts, dict) or facts.get("format") != FORMAT or "weights" not in facts:
            raise ValueError(f"{FACTS} is none of format {FORMAT}")
        with np.load(folder / LATENTS, allow_pickle=False) as arrays:
            z, e = arrays["z"], arrays["e"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise GalipError(f"{folder}: the inversion is not whole ({error}); invert the picture again") from error
    good = z.ndim == 1 and e.ndim in (1, 2) and z.dtype == e.dtype == np.float32
    if not good or not (np.isfinite(z).all() and np.isfinite(e).all()):
        raise GalipError(f"{folder / LATENTS}: it holds no z and e; invert the picture again")
    return StoredInversion(z, e, facts)
