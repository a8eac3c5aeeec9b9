"""An inversion on disk: `inversion.npz` with z and e, `inversion.json` with what they are and how good they are."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from galip.errors import GalipError, InputError
from galip.utils.arrays import FloatArray
from galip.utils.atomic import atomic_file, write_json
from galip.utils.untrusted import read_json_object

if TYPE_CHECKING:
    from galip.latent.inversion import Inversion

FACTS, LATENTS = "inversion.json", "inversion.npz"
FORMAT = 1


@dataclass(frozen=True)
class StoredInversion:
    """What can be generated again, edited and varied.

    Attributes:
        z: float32 [z_dim].
        e: float32 [cond_dim] or [num_stages, cond_dim].
        facts: everything in `inversion.json`.
    """

    z: FloatArray
    e: FloatArray
    facts: dict[str, Any]

    @property
    def prompt(self) -> str | None:
        """The prompt that the inversion began with."""
        found = self.facts.get("caption")
        return found if isinstance(found, str) else None

    @property
    def weights(self) -> str:
        """The weights that z and e belong to; see `galip.model_repo.fingerprint`."""
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
    told |= {"caption": inversion.prompt, "seed": inversion.seed, "per_stage": inversion.e.ndim == 2}
    told |= {"psnr_db": round(inversion.psnr, 2), "clip_similarity": round(inversion.similarity, 4)}
    told |= {"loss": round(inversion.loss, 6), "start_loss": round(inversion.start_loss, 6)}
    told |= {"start_psnr_db": round(inversion.start_psnr, 2), "latents": LATENTS}
    with atomic_file(folder / LATENTS) as unfinished, unfinished.open("wb") as file:
        np.savez(file, z=inversion.z, e=inversion.e)
    write_json(folder / FACTS, told)


def is_inversion(path: Path) -> bool:
    """Whether a path is a folder that `write_inversion` wrote, or one of its two files."""
    return (path / FACTS).is_file() or (path.name in (FACTS, LATENTS) and path.is_file())


def read_inversion(path: Path) -> StoredInversion:
    """Read an inversion.

    Args:
        path: the folder, or one of the two files in it.

    Raises:
        InputError: there is no inversion.
        GalipError: a file is missing or damaged.
    """
    folder = path if path.is_dir() else path.parent
    if not is_inversion(path):
        raise InputError(f"{path}: there is no inversion; name a folder that galip invert wrote")
    facts = read_json_object(folder / FACTS, "invert the image again")
    if facts.get("format") != FORMAT or "weights" not in facts:
        raise GalipError(f"{folder / FACTS}: it is not an inversion of format {FORMAT}; invert the image again")
    try:
        with np.load(folder / LATENTS, allow_pickle=False) as arrays:
            z, e = arrays["z"], arrays["e"]
    except (OSError, ValueError, KeyError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise GalipError(f"{folder}: the inversion is not whole ({error}); invert the image again") from error
    good = z.ndim == 1 and e.ndim in (1, 2) and z.dtype == e.dtype == np.float32
    if not good or not (np.isfinite(z).all() and np.isfinite(e).all()):
        raise GalipError(f"{folder / LATENTS}: it does not hold z and e; invert the image again")
    return StoredInversion(z, e, facts)
