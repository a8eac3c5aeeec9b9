"""A step recorded once as a CUDA graph and replayed: for networks so small that launching them takes the time.

What is recorded reads its inputs from the same memory every time, and must not look at any value on the way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from galip.errors import InputError
from galip.processes import Processes
from galip.training.config import RunConfig

# Before recording: optimisers make their state, libraries choose their kernels.
_PLAIN_STEPS = 3


Taken = TypeVar("Taken", bound="Inputs")


class Inputs(Protocol):
    """What a step takes: a fixed choice of tensors."""

    def tensors(self) -> tuple[Tensor | None, ...]:
        """All of them, in a fixed order."""

    def each(self: Taken, change: Callable[[Tensor], Tensor]) -> Taken:
        """The same with every tensor changed."""


def check_recordable(run: RunConfig, processes: Processes) -> None:
    """Whether a run can be recorded as a CUDA graph.

    Raises:
        InputError: something in it cannot; the message names the option and the remedy.
    """
    wrong = None
    if processes.device.type != "cuda":
        wrong = f"needs a CUDA GPU, and this run computes on {processes.device.type}"
    elif processes.world > 1:
        wrong = f"is for one process, and {processes.world} were launched"
    elif run.precision == "fp16":
        wrong = "cannot follow a loss scaler's decisions; set run.precision to bf16 or fp32"
    elif run.micro_batch not in (None, run.batch):
        wrong = "takes the batch as one; leave run.micro_batch out"
    elif run.checkpoint_vit:
        wrong = "spends memory on speed, and run.checkpoint_vit does the opposite; choose one"
    if wrong is not None:
        raise InputError(f"run.cuda_graph {wrong}")


class Recording(Generic[Taken]):
    """`take`, done plainly for the first few inputs, then recorded and replayed.

    Args:
        take: enqueues a whole step and answers its numbers, a 1-D tensor; changes weights and optimiser states in
            place and leaves no gradients behind.
    """

    def __init__(self, take: Callable[[Taken], Tensor]) -> None:
        self._take = take
        self._taken = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: Taken | None = None
        self._answer: Tensor | None = None

    def __call__(self, inputs: Taken) -> Tensor:
        """Take the step; the answer is overwritten by the next."""
        if self._taken < _PLAIN_STEPS:
            self._taken += 1
            return self._plainly(inputs)
        if self._graph is None or self._inputs is None or self._answer is None:
            self._inputs = inputs.each(torch.clone)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._answer = self._take(self._inputs)
        ours, theirs = self._inputs.tensors(), inputs.tensors()
        if [t if t is None else t.shape for t in ours] != [t if t is None else t.shape for t in theirs]:
            return self._plainly(inputs)  # say, a batch with one caption only, which has no mismatched pairs
        for kept, new in zip(ours, theirs, strict=True):
            if kept is not None and new is not None:
                kept.copy_(new, non_blocking=True)
        self._graph.replay()
        return self._answer

    def _plainly(self, inputs: Taken) -> Tensor:
        """On a stream of its own, as recording will be: what autograd keeps for a parameter belongs to a stream."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            answer = self._take(inputs)
        torch.cuda.current_stream().wait_stream(stream)
        return answer
