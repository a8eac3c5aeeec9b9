"""Sentence vectors of a run's captions, each computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from galip.models.text import SentenceEncoder

_BLOCK = 256


class TextVectors:
    """Caption -> sentence vector, from a table where the captions are few enough, else encoded anew.

    The table is computed in blocks of fixed captions, so that a vector has the same bits whichever sample asks for it
    first: a resumed run repeats an uninterrupted one exactly.

    Args:
        encoder: the sentence encoder.
        captions: every distinct caption of the data, in a fixed order.
        limit: keep no table for more captions than this (2 kB each at 512 dimensions).
        progress: called with (done, all) while the table is computed.
    """

    def __init__(
        self,
        encoder: SentenceEncoder,
        captions: Sequence[str],
        limit: int,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self.encoder = encoder
        self._rows: dict[str, int] = {}
        self._table: Tensor | None = None
        if len(captions) > limit:
            return
        self._rows = {caption: row for row, caption in enumerate(captions)}
        self._table = torch.empty(len(captions), encoder.dim)
        for start in range(0, len(captions), _BLOCK):
            block = list(captions[start : start + _BLOCK])
            self._table[start : start + len(block)] = encoder.encode(block).cpu()
            progress(start + len(block), len(captions))

    def __call__(self, captions: Sequence[str], device: torch.device) -> Tensor:
        """Sentence vectors of B captions, fp32 [B, dim] on `device`."""
        if self._table is None:
            return self.encoder.encode(captions).to(device)
        return self._table[[self._rows[caption] for caption in captions]].to(device)
