"""Text vectors on disk: computed once for a data set and an encoder, read by memory mapping in every run after that."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from galip.errors import GalipError
from galip.models.text import SentenceEncoder
from galip.utils.atomic import atomic_file


def stored_table(
    folder: Path, encoder: SentenceEncoder, captions: Sequence[str], fill: Callable[[Tensor], object]
) -> Tensor:
    """The table of vectors of captions, written to a file if it is not there yet, and mapped into memory.

    Only what a step asks for is read, so it may be larger than memory: 4 * encoder.dim bytes a caption on disk.

    Args:
        folder: where tables are kept; made if need be.
        encoder: with the captions it decides over the vectors; another one has a file of its own.
        captions: in the order of the rows.
        fill: writes the vectors into the table, fp32 [number of captions, encoder.dim].

    Returns:
        fp32 [number of captions, encoder.dim], backed by the file; what is written to it stays in memory.

    Raises:
        GalipError: the file cannot be written or read.
    """
    shape = (len(captions), encoder.dim)
    file = folder / f"{_digest(encoder, captions)}.npy"
    try:
        if not file.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            with atomic_file(file, suffix=".npy") as unfinished:
                table = np.lib.format.open_memmap(unfinished, "w+", np.float32, shape)
                fill(torch.from_numpy(table))
                table.flush()
        # Copy on write: torch knows no array that may only be read.
        found = np.load(file, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise GalipError(f"{file}: text vectors cannot be kept there ({error}); see performance.text_store") from error
    if found.shape != shape or found.dtype != np.float32:
        raise GalipError(f"{file}: it is damaged; remove it, and it is computed again")
    return torch.from_numpy(found)


def _digest(encoder: SentenceEncoder, captions: Sequence[str]) -> str:
    vocabulary = sorted(encoder.tokenizer.get_vocab().items())
    about = [type(encoder).__name__, encoder.max_tokens, getattr(encoder, "scale", None), vocabulary]
    digest = hashlib.sha256(json.dumps(about).encode())
    for name, weight in sorted(encoder.model.state_dict().items()):
        digest.update(f"{name}\0{weight.dtype}\0".encode())
        digest.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    for caption in captions:
        digest.update(caption.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()[:32]
