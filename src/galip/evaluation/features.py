"""Pictures go through every network that still needs them, block by block, into stores on the disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from galip.distributed import Distributed
from galip.evaluation.extractors.registry import FeatureExtractor
from galip.evaluation.stores import FeatureStore
from galip.utils.progress import Progress


class Writer(Protocol):
    """What reads captions: an extractor with a text side."""

    def encode_text(self, captions: Sequence[str]) -> Tensor:
        """Vectors [N, D] of captions."""


def look_at_pictures(
    pictures: Callable[[range], Tensor],
    looking: Mapping[str, tuple[FeatureExtractor, FeatureStore]],
    processes: Distributed,
    progress: Progress,
    what: str,
) -> None:
    """Fill stores with features of pictures; every process takes its share of the missing blocks.

    Args:
        pictures: numbers -> their pictures [n, 3, S, S], uint8, or floats that were not quantised.
        looking: by space, a network and where its features go. All stores are of equal count.
        processes: those that share the work.
        progress: told after every block of this process.
        what: what it is told.
    """
    stores = {space: store for space, (_, store) in looking.items()}
    wanted: dict[int, list[str]] = {}
    for space, block in _missing(stores, processes):
        wanted.setdefault(block, []).append(space)
    mine = sorted(wanted)[processes.rank :: processes.world]
    for done, block in enumerate(mine):
        progress(what, done * processes.world, len(wanted))
        rows = looking[wanted[block][0]][1].rows(block)
        seen = pictures(rows)
        for space in wanted[block]:
            extractor, store = looking[space]
            store.save(block, extractor(_as_taken(seen, extractor)).cpu().numpy())
    progress(what, len(wanted), len(wanted))
    processes.wait()


def read_captions(
    captions: Sequence[str],
    reading: Mapping[str, tuple[Writer, FeatureStore]],
    processes: Distributed,
    progress: Progress,
) -> None:
    """Fill stores with vectors of captions, dealt out as pictures are.

    Args:
        captions: one for each row of the stores.
        reading: by space, a text side and where its vectors go.
        processes: those that share the work.
        progress: told after every block of this process.
    """
    work = _missing({space: store for space, (_, store) in reading.items()}, processes)
    mine = work[processes.rank :: processes.world]
    for done, (space, block) in enumerate(mine):
        progress("captions", done * processes.world, len(work))
        writer, store = reading[space]
        rows = store.rows(block)
        store.save(block, writer.encode_text(captions[rows.start : rows.stop]).float().cpu().numpy())
    progress("captions", len(work), len(work))
    processes.wait()


def _missing(stores: Mapping[str, FeatureStore], processes: Distributed) -> list[tuple[str, int]]:
    """Blocks that nobody has saved yet, by space.

    The main process looks for all: another one might see what has been saved since, and deal differently.
    """
    return processes.from_main(lambda: [(space, block) for space, store in stores.items() for block in store.missing()])


def _as_taken(pictures: Tensor, extractor: FeatureExtractor) -> Tensor:
    """8-bit pictures for a network that takes them, whatever the protocol draws."""
    if pictures.dtype == torch.uint8 or extractor.takes == "float":
        return pictures
    return (pictures.clamp(0, 1) * 255).round().to(torch.uint8)
