"""How a batch is spread over processes, and how captions are compared across them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from galip.errors import InputError


def caption_ids(captions: Sequence[str]) -> Tensor:
    """int64 [B] that are equal where captions are, on whichever process."""
    return torch.tensor(
        [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little", signed=True) for text in captions]
    )


def per_rank_batch_size(batch: int, micro_batch: int | None, world: int) -> int:
    """How many samples of each step one process takes.

    Args:
        batch: samples of a step, over all processes.
        micro_batch: what one process holds at once, where that is less than its share.
        world: number of processes.

    Raises:
        InputError: the batch cannot be shared evenly.
    """
    if batch % world:
        raise InputError(
            f"schedule.batch is {batch}, which {world} processes cannot share evenly; use a multiple of {world}"
        )
    share = batch // world
    if micro_batch and micro_batch < share and share % micro_batch:
        raise InputError(
            f"performance.micro_batch is {micro_batch}, but each process's share of the batch is {share}; "
            f"use a divisor of {share}"
        )
    return share
