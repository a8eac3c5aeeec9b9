"""A step recorded once as a CUDA graph and replayed: for networks so small that launching them takes the time.

What is recorded reads its inputs from the same memory every time, and must not look at any value on the way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor

from galip.distributed import Distributed
from galip.errors import GalipError, InputError
from galip.training.config import RunConfig
from galip.training.tensors import Bundle

PLAIN_STEPS = 3
"""Before recording: optimisers make their state, libraries choose their kernels."""

Form = tuple[torch.Size | None, ...]

Taken = TypeVar("Taken", bound=Bundle)


def check_recordable(run: RunConfig, processes: Distributed) -> None:
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
    elif run.compile:
        wrong = "and run.compile have not been seen to work together; choose one"
    elif run.checkpoint_vit:
        wrong = "spends memory on speed, and run.checkpoint_vit does the opposite; choose one"
    if wrong is not None:
        raise InputError(f"run.cuda_graph {wrong}")


class Recording(Generic[Taken]):
    """`take`, done plainly for the first `PLAIN_STEPS` inputs, then recorded and replayed.

    There is one recording for each form of the inputs, which are two at most: a batch with one caption only has no
    mismatched pairs.

    Args:
        take: enqueues a whole step and answers its numbers, a 1-D tensor; changes weights and optimiser states in
            place and leaves no gradients behind.
    """

    def __init__(self, take: Callable[[Taken], Tensor]) -> None:
        self._take = take
        self._taken = 0
        self._stream: torch.cuda.Stream | None = None
        self._recorded: dict[Form, tuple[torch.cuda.CUDAGraph, Taken, Tensor]] = {}

    def __call__(self, inputs: Taken) -> Tensor:
        """Take the step; the answer is overwritten by the next.

        Raises:
            GalipError: the step cannot be recorded, or there is not enough memory for it.
        """
        if self._taken < PLAIN_STEPS:
            self._taken += 1
            return self._plainly(inputs)
        form = tuple(tensor if tensor is None else tensor.shape for tensor in inputs.tensors())
        if form not in self._recorded:
            self._recorded[form] = self._record(inputs)
        graph, kept, answer = self._recorded[form]
        for ours, theirs in zip(kept.tensors(), inputs.tensors(), strict=True):
            if ours is not None and theirs is not None:
                ours.copy_(theirs, non_blocking=True)
        graph.replay()
        return answer

    def _record(self, inputs: Taken) -> tuple[torch.cuda.CUDAGraph, Taken, Tensor]:
        kept, graph = inputs.each(torch.clone), torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                answer = self._take(kept)
        except RuntimeError as error:
            what = str(error).splitlines()[0]
            raise GalipError(
                f"the step cannot be recorded as a CUDA graph ({what}); set run.cuda_graph=false"
            ) from error
        return graph, kept, answer

    def _plainly(self, inputs: Taken) -> Tensor:
        """On a stream of its own, as recording will be: what autograd keeps for a parameter belongs to a stream."""
        self._stream = self._stream or torch.cuda.Stream()
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            answer = self._take(inputs)
        torch.cuda.current_stream().wait_stream(self._stream)
        return answer
