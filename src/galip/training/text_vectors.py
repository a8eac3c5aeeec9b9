"""Sentence vectors of a run's captions, each computed once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from galip.distributed import Distributed
from galip.models.text import SentenceEncoder
from galip.training.networks import Networks
from galip.training.step import Sentences

_BLOCK = 256


class TextVectors:
    """Caption -> sentence vector, from a table where the captions are few enough, else encoded anew.

    The table is computed in blocks of fixed captions, so that a vector has the same bits whichever sample asks for it
    first: a resumed run repeats an uninterrupted one exactly.

    Args:
        encoder: the sentence encoder.
        captions: every distinct caption of the data, in a fixed order.
            None: they are too many, or unknown before they come; every one is then encoded when it is asked for.
        processes: the processes of the run, each of which computes its share of the table.
    """

    def __init__(
        self, encoder: SentenceEncoder, captions: Sequence[str] | None, processes: Distributed | None = None
    ) -> None:
        self.encoder = encoder
        self._rows: dict[str, int] = {}
        self._table: Tensor | None = None
        if captions is None:
            return
        self._rows = {caption: row for row, caption in enumerate(captions)}
        self._table = torch.zeros(len(captions), encoder.dim)
        rank, world = (processes.rank, processes.world) if processes else (0, 1)
        for start in range(rank * _BLOCK, len(captions), world * _BLOCK):
            block = list(captions[start : start + _BLOCK])
            self._table[start : start + len(block)] = encoder.encode(block).cpu()
        if processes is not None and world > 1:
            self._table = processes.total(self._table.to(processes.device)).cpu()

    def __call__(self, captions: Sequence[str], device: torch.device) -> Tensor:
        """Sentence vectors of B captions, fp32 [B, dim] on `device`."""
        rows = [self._rows.get(caption, -1) for caption in captions]
        if self._table is None or -1 in rows:
            return self.encoder.encode(captions).to(device)
        return self._table[rows].to(device)


class RunSentences:
    """All vectors that a step needs of its captions: conditioning, similarity, the second CLIP's.

    Args:
        networks: the run's networks.
        captions: as for `TextVectors`.
        processes: the processes of the run.
    """

    def __init__(self, networks: Networks, captions: Sequence[str] | None, processes: Distributed) -> None:
        self.device = processes.device
        self._e = TextVectors(networks.sentence_encoder, captions, processes)
        self._similar = None if networks.t5 is None else TextVectors(networks.clip_encoder, captions, processes)
        second = networks.second
        self._second = None if second is None else TextVectors(second.encoder, captions, processes)

    def __call__(self, captions: Sequence[str]) -> Sentences:
        """The vectors of B captions, on the run's device."""
        e = self._e(captions, self.device)
        similar = e if self._similar is None else self._similar(captions, self.device)
        second = None if self._second is None else self._second(captions, self.device)
        return Sentences(e, similar, second)
