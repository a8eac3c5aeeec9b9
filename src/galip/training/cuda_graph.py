"""A step captured once as a CUDA graph and replayed: for networks so small that launching them takes the time.

What is captured reads its inputs from the same memory every time, and must not look at any value on the way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import torch

from galip.data.samples import Batch
from galip.distributed import Distributed
from galip.errors import GalipError, InputError
from galip.training.config import TrainConfig
from galip.training.step_base import MicroBatch, StepStats, StepTensors, TrainingStep
from galip.training.tensors import Bundle
from galip.training.text_vectors import TextVectors

WARMUP_STEPS = 3
"""Before capture: optimisers make their state, libraries choose their kernels."""

Form = tuple[torch.Size | None, ...]

Inputs = TypeVar("Inputs", bound=Bundle)
Outputs = TypeVar("Outputs")


def check_capturable(config: TrainConfig, distributed: Distributed) -> None:
    """Whether a run's step can be captured as a CUDA graph.

    Raises:
        InputError: something in it cannot; the message names the option and the remedy.
    """
    wrong, options = None, config.performance
    if distributed.device.type != "cuda":
        wrong = f"needs a CUDA GPU, and this run computes on {distributed.device.type}"
    elif distributed.world > 1:
        wrong = f"is for one process, and {distributed.world} were launched"
    elif options.precision == "fp16":
        wrong = "cannot follow a loss scaler's decisions; set performance.precision to bf16 or fp32"
    elif options.micro_batch not in (None, config.schedule.batch):
        wrong = "takes the batch as one; leave performance.micro_batch out"
    elif options.compile:
        wrong = "and performance.compile have not been seen to work together; choose one"
    elif options.checkpoint_vit:
        wrong = "spends memory on speed, and performance.checkpoint_vit does the opposite; choose one"
    if wrong is not None:
        raise InputError(f"performance.cuda_graph {wrong}")


class CUDAGraphStep:
    """A step whose work is captured after `WARMUP_STEPS` plain ones; it is called like the step itself.

    The graphs hold the optimisers' states as they are: make a new one after a checkpoint has been loaded.

    Args:
        step: of a run for which `check_capturable` passes; its optimisers are changed so that a graph can hold them.
    """

    def __init__(self, step: TrainingStep) -> None:
        self.step = step
        for optimizer in step.optimizers.values():
            for group in optimizer.param_groups:
                group["capturable"] = True
                group["lr"] = torch.tensor(float(group["lr"]), device=step.device)
        self._compute: GraphedCall[MicroBatch, StepTensors] = GraphedCall(lambda micro: step.compute([micro]))

    def __call__(
        self, batch: Batch, text: TextVectors, lr_multiplier: float = 1.0, seen: int | None = None
    ) -> StepStats:
        """Take one step; see `TrainingStep.__call__`."""
        self.step.set_rates(lr_multiplier)
        (micro,) = self.step.micro_batches(batch, text, seen)
        return self.step.stats(self._compute(micro))


class GraphedCall(Generic[Inputs, Outputs]):
    """`step_impl`, called plainly for the first `WARMUP_STEPS` inputs, then captured and replayed.

    There is one graph for each form of the inputs, which are few: a batch with one caption only has no mismatched
    pairs, and in the end what feature networks see is no longer blurred.

    Args:
        step_impl: enqueues a whole step and answers its numbers; changes weights and optimiser states in place and
            leaves no gradients behind.
    """

    def __init__(self, step_impl: Callable[[Inputs], Outputs]) -> None:
        self._step_impl = step_impl
        self._done = 0
        self._stream: torch.cuda.Stream | None = None
        self._graphs: dict[Form, tuple[torch.cuda.CUDAGraph, Inputs, Outputs]] = {}

    def __call__(self, inputs: Inputs) -> Outputs:
        """Do the work; the answer is overwritten by the next call.

        Raises:
            GalipError: it cannot be captured, or there is not enough memory for it.
        """
        if self._done < WARMUP_STEPS:
            self._done += 1
            return self._plainly(inputs)
        form = tuple(tensor if tensor is None else tensor.shape for tensor in inputs.tensors())
        if form not in self._graphs:
            self._graphs[form] = self._capture(inputs)
        graph, kept, answer = self._graphs[form]
        for ours, theirs in zip(kept.tensors(), inputs.tensors(), strict=True):
            if ours is not None and theirs is not None:
                ours.copy_(theirs, non_blocking=True)
        graph.replay()
        return answer

    def _capture(self, inputs: Inputs) -> tuple[torch.cuda.CUDAGraph, Inputs, Outputs]:
        kept, graph = inputs.each(torch.clone), torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                answer = self._step_impl(kept)
        except RuntimeError as error:
            what = str(error).splitlines()[0]
            raise GalipError(
                f"the step cannot be captured as a CUDA graph ({what}); set performance.cuda_graph=false"
            ) from error
        return graph, kept, answer

    def _plainly(self, inputs: Inputs) -> Outputs:
        """On a stream of its own, as capture will be: what autograd keeps for a parameter belongs to a stream."""
        self._stream = self._stream or torch.cuda.Stream()
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            answer = self._step_impl(inputs)
        torch.cuda.current_stream().wait_stream(self._stream)
        return answer
