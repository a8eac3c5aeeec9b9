"""Short names for a model's weights and for all that its images depend on."""

from __future__ import annotations

import hashlib
from pathlib import Path

from galip.model_repo.format import INDEX, NETWORKS, TOKENIZER
from galip.model_repo.weights import weight_files


def fingerprint(folder: Path) -> str:
    """A short name for the generator's weights: the first 16 hexadecimal digits of their SHA-256."""
    digest = hashlib.sha256()
    for file in weight_files(folder / "generator"):
        _add(digest, file)
    return digest.hexdigest()[:16]


def source_digest(folder: Path) -> str:
    """One hash over everything of a model folder that images depend on: weights, configurations, tokenizer.

    Returns:
        32 hexadecimal digits of a SHA-256.
    """
    parts = [path for part in (*NETWORKS, TOKENIZER) for path in (folder / part).rglob("*") if path.is_file()]
    digest = hashlib.sha256()
    for path in sorted([folder / INDEX, *parts]):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{sha256(path)}\n".encode())
    return digest.hexdigest()[:32]


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    _add(digest, path)
    return digest.hexdigest()


def _add(digest: hashlib._Hash, path: Path) -> None:
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
