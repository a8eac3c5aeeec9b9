"""Vectors of a run's captions, each computed once."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from galip.distributed import Distributed
from galip.models.text import SentenceEncoder
from galip.training.networks import Networks
from galip.training.tensors import Bundle
from galip.training.text_store import stored_table

logger = logging.getLogger(__name__)

_BLOCK = 256


@dataclass(frozen=True)
class TextVectors(Bundle):
    """Vectors of B captions, fp32.

    Attributes:
        e: [B, cond_dim], what conditions G and D.
        clip: [B, embed_dim], CLIP's vectors, towards which the similarity loss pulls; `e` itself without a T5.
        second_clip: the same in the second CLIP, where there is one.
        open: [B, 1], 1 where a caption leaves something to the noise, else 0; None: all do.
    """

    e: Tensor
    clip: Tensor
    second_clip: Tensor | None = None
    open: Tensor | None = None


class VectorTable:
    """Caption -> vector by one encoder, from a table where the captions are few enough, else encoded anew.

    The table is computed in blocks of fixed captions, so that a vector has the same bits whichever sample asks for it
    first: a resumed run repeats an uninterrupted one exactly.

    Args:
        encoder: the sentence encoder.
        captions: every distinct caption of the data, in a fixed order.
            None: they are too many, or unknown before they come; every one is then encoded when it is asked for.
        distributed: the processes of the run, each of which computes its share of the table.
        store: a folder where the table is kept on disk, computed by the main process if it is not there yet; None: it
            is kept in memory.
    """

    def __init__(
        self,
        encoder: SentenceEncoder,
        captions: Sequence[str] | None,
        distributed: Distributed | None = None,
        store: Path | None = None,
    ) -> None:
        self.encoder = encoder
        self._rows: dict[str, int] = {}
        self._table: Tensor | None = None
        self._told = False
        if captions is None:
            return
        self._rows = {caption: row for row, caption in enumerate(captions)}
        too_long: list[str] = []
        if store is not None:
            self._table, too_long = self._stored(captions, store, distributed)
        else:
            self._table = torch.zeros(len(captions), encoder.dim)
            rank, world = (distributed.rank, distributed.world) if distributed else (0, 1)
            too_long = self._fill(self._table, captions, rank, world)
            if distributed is not None and world > 1:
                self._table = distributed.total(self._table.to(distributed.device)).cpu()
                too_long = distributed.collect(too_long)
        if too_long and (distributed is None or distributed.is_main):
            logger.warning("%d captions are too long and are truncated; the first: %s", len(too_long), too_long[0])

    def _stored(
        self, captions: Sequence[str], store: Path, distributed: Distributed | None
    ) -> tuple[Tensor, list[str]]:
        """The table on disk, and what was truncated if it was computed now."""
        too_long: list[str] = []

        def opened() -> Tensor:
            fill = lambda table: too_long.extend(self._fill(table, captions))  # noqa: E731
            return stored_table(store, self.encoder, captions, fill)

        if distributed is not None:
            distributed.from_main(lambda: len(opened()))  # the others wait for the file
        return opened(), too_long

    def _fill(self, table: Tensor, captions: Sequence[str], rank: int = 0, world: int = 1) -> list[str]:
        """Write a process's share of the vectors into a table; answers which captions were truncated."""
        too_long: list[str] = []
        for start in range(rank * _BLOCK, len(captions), world * _BLOCK):
            block = list(captions[start : start + _BLOCK])
            vectors, cut = self._encode(block)
            table[start : start + len(block)] = vectors.cpu()
            too_long += cut
        return too_long

    def __call__(self, captions: Sequence[str], device: torch.device) -> Tensor:
        """Vectors of B captions, fp32 [B, dim] on `device`."""
        rows = [self._rows.get(caption, -1) for caption in captions]
        if self._table is None or -1 in rows:
            vectors, too_long = self._encode(captions)
            if too_long and not self._told:
                self._told = True
                logger.warning("captions that are too long are truncated; the first: %s", too_long[0])
            return vectors.to(device)
        return self._table[rows].to(device)

    def _encode(self, captions: Sequence[str]) -> tuple[Tensor, list[str]]:
        """Vectors of captions, and what the encoder warned of, which would be a line for each caption."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            vectors = self.encoder.encode(captions)
        too_long = [one for one in caught if issubclass(one.category, UserWarning) and "truncated" in str(one.message)]
        for other in caught:
            if other not in too_long:
                warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)
        return vectors, [str(one.message) for one in too_long]


class CaptionVectors:
    """All vectors that a step needs of its captions: for conditioning, for similarity, the second CLIP's.

    Args:
        networks: the run's networks.
        captions: as for `VectorTable`.
        distributed: the processes of the run.
        open_captions: those that leave something to the noise; None: all do.
        store: as for `VectorTable`.
    """

    def __init__(
        self,
        networks: Networks,
        captions: Sequence[str] | None,
        distributed: Distributed,
        open_captions: Container[str] | None = None,
        store: Path | None = None,
    ) -> None:
        self.device, self._open = distributed.device, open_captions
        self._e = VectorTable(networks.sentence_encoder, captions, distributed, store)
        self._clip = None if networks.t5 is None else VectorTable(networks.clip_encoder, captions, distributed, store)
        second = networks.second
        self._second = None if second is None else VectorTable(second.encoder, captions, distributed, store)

    def __call__(self, captions: Sequence[str]) -> TextVectors:
        """The vectors of B captions, on the run's device."""
        e = self._e(captions, self.device)
        clip = e if self._clip is None else self._clip(captions, self.device)
        second = None if self._second is None else self._second(captions, self.device)
        if self._open is None:
            return TextVectors(e, clip, second)
        leave_open = torch.tensor([[float(caption in self._open)] for caption in captions], device=self.device)
        return TextVectors(e, clip, second, leave_open)
