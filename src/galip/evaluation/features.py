"""Images go through every network that still needs them, block by block, into stores on the disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from galip.distributed import Distributed
from galip.evaluation.extractors.protocol import FeatureExtractor
from galip.evaluation.stores import FeatureStore
from galip.utils.progress import Progress


class TextEncoder(Protocol):
    """What reads captions: an extractor with a text side."""

    def encode_text(self, captions: Sequence[str]) -> Tensor:
        """Vectors [N, D] of captions."""


def extract_features(
    images: Callable[[range], Tensor],
    looking: Mapping[str, tuple[FeatureExtractor, FeatureStore]],
    distributed: Distributed,
    progress: Progress,
    stage: str,
) -> None:
    """Fill stores with features of images; every process takes its share of the missing blocks.

    Args:
        images: numbers -> their images [n, 3, S, S], uint8, or floats that were not quantised.
        looking: by space, a network and where its features go. All stores are of equal count.
        distributed: those that share the work.
        progress: told after every block of this process.
        stage: what it is told.
    """
    stores = {space: store for space, (_, store) in looking.items()}
    wanted: dict[int, list[str]] = {}
    for space, block in _missing(stores, distributed):
        wanted.setdefault(block, []).append(space)
    mine = sorted(wanted)[distributed.rank :: distributed.world]
    for done, block in enumerate(mine):
        progress(stage, done * distributed.world, len(wanted))
        rows = looking[wanted[block][0]][1].rows(block)
        batch = images(rows)
        for space in wanted[block]:
            extractor, store = looking[space]
            store.save(block, extractor(_as_taken(batch, extractor)).cpu().numpy())
    progress(stage, len(wanted), len(wanted))
    distributed.wait()


def encode_captions(
    captions: Sequence[str],
    reading: Mapping[str, tuple[TextEncoder, FeatureStore]],
    distributed: Distributed,
    progress: Progress,
) -> None:
    """Fill stores with vectors of captions, dealt out as images are.

    Args:
        captions: one for each row of the stores.
        reading: by space, a text side and where its vectors go.
        distributed: those that share the work.
        progress: told after every block of this process.
    """
    work = _missing({space: store for space, (_, store) in reading.items()}, distributed)
    mine = work[distributed.rank :: distributed.world]
    for done, (space, block) in enumerate(mine):
        progress("captions", done * distributed.world, len(work))
        encoder, store = reading[space]
        rows = store.rows(block)
        store.save(block, encoder.encode_text(captions[rows.start : rows.stop]).float().cpu().numpy())
    progress("captions", len(work), len(work))
    distributed.wait()


def _missing(stores: Mapping[str, FeatureStore], distributed: Distributed) -> list[tuple[str, int]]:
    """Blocks that nobody has saved yet, by space.

    The main process looks for all: another one might see what has been saved since, and deal differently.
    """
    return distributed.from_main(
        lambda: [(space, block) for space, store in stores.items() for block in store.missing()]
    )


def _as_taken(images: Tensor, extractor: FeatureExtractor) -> Tensor:
    """8-bit images for a network that takes them, whatever the protocol generates."""
    if images.dtype == torch.uint8 or extractor.takes == "float":
        return images
    return (images.clamp(0, 1) * 255).round().to(torch.uint8)
