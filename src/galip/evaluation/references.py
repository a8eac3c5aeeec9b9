"""What a model is measured against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class References:
    """What a model is measured against, and with what.

    Attributes:
        data: captioned real images (`galip.data.open.open_source`); empty where the protocol brings its own.
        reference: an .npz with statistics of the reference, for protocols that ask for one.
        training: the images that the model was trained on, for the memorisation check; empty: no check.
        prompts: prompt suites by name, or files of prompts, beside the protocol's own.
        weights: of feature networks, by their names; missing ones are the usual ones.
        cache: where features of real images are kept; None: `galip.model_repo.cache.cache_folder()`.
    """

    data: str = ""
    reference: Path | None = None
    training: str = ""
    prompts: tuple[str, ...] = ()
    weights: Mapping[str, str] | None = None
    cache: Path | None = None
