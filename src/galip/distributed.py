"""This process among those that were launched: Accelerate's state, and the few messages that processes exchange.

`accelerate launch` and `torchrun` start the processes; without either there is one. On machines without a GPU they talk
over gloo.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import (
    DistributedDataParallelKwargs,
    InitProcessGroupKwargs,
    broadcast_object_list,
    gather_object,
)
from torch import Tensor, nn

from galip._deprecated import renamed
from galip.errors import GalipError, InputError

Answer = TypeVar("Answer")


class Distributed:
    """Rank, number of processes, device, and collective operations.

    Args:
        device: "auto" (CUDA where there is one), "cpu", or a device such as "cuda:1" for a single process.
        asked_by: what errors call the option that `device` comes from.

    Attributes:
        accelerator: Accelerate's own object; without mixed precision, which the trainer's two loss scalers see to.
        rank, world: which process this is, and of how many.
        device: where this process computes.

    Raises:
        InputError: the device is unknown, not there, or named by number though several processes were launched; or
            `accelerate config` asks for what this code would break under.
    """

    def __init__(self, device: str = "auto", asked_by: str = "device") -> None:
        wanted = _device(device, asked_by)
        on_cpu = wanted is not None and wanted.type == "cpu"
        if wanted is not None and wanted.type == "cuda" and wanted.index is not None:
            torch.cuda.set_device(wanted)
        ddp = DistributedDataParallelKwargs(find_unused_parameters=False, gradient_as_bucket_view=True)
        # One process computes an evaluation's metrics, and may need longer than the ten minutes that NCCL waits.
        patience = InitProcessGroupKwargs(timeout=timedelta(hours=2))
        self.accelerator = Accelerator(cpu=on_cpu, mixed_precision="no", kwargs_handlers=[ddp, patience])
        self._check_settings()
        self.rank, self.world = self.accelerator.process_index, self.accelerator.num_processes
        # Accelerate says "cpu:0" in each of several processes, which safetensors does not know.
        self.device = torch.device("cpu") if self.accelerator.device.type == "cpu" else self.accelerator.device
        if wanted is not None and wanted.index is not None:
            if self.world > 1:
                raise InputError(f"{asked_by} is {device}, but {self.world} processes were launched; use auto")
            self.device = wanted

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and speaks."""
        return bool(self.accelerator.is_main_process)

    def wrap(self, module: nn.Module) -> nn.Module:
        """`module` with its gradients averaged over processes; itself where there is only one."""
        return self.accelerator.prepare_model(module) if self.world > 1 else module

    def without_sync(self, module: nn.Module, skip: bool) -> contextlib.AbstractContextManager[Any]:
        """While `skip`, gradients of a wrapped module stay local: all but the last of accumulated micro-batches."""
        return module.no_sync() if skip and self.world > 1 else contextlib.nullcontext()  # type: ignore[operator]

    def gather_rows(self, local: Tensor) -> Tensor:
        """Rows [n, ...] of all processes in the order of sample numbers: rank r holds rows r, r + W, r + 2 W, ..."""
        if self.world == 1:
            return local
        gathered: Tensor = self.accelerator.gather(local.contiguous())
        return gathered.unflatten(0, (self.world, len(local))).transpose(0, 1).flatten(0, 1)

    def mean(self, values: Tensor) -> Tensor:
        """Mean over processes."""
        return self.accelerator.reduce(values, "mean") if self.world > 1 else values

    def total(self, values: Tensor) -> Tensor:
        """Sum over processes."""
        return self.accelerator.reduce(values, "sum") if self.world > 1 else values

    def from_main(self, decide: Callable[[], Answer]) -> Answer:
        """What `decide` answers, or raises, on the main process: for whatever is read from files.

        Raises:
            GalipError: what it raised there.
        """
        if self.world == 1:
            return decide()
        told: list[Any] = [None]
        if self.is_main:
            try:
                told = [(decide(), None)]
            except GalipError as error:
                told = [(None, error)]
        answer, wrong = broadcast_object_list(told)[0]
        if wrong is not None:
            raise wrong
        return answer  # type: ignore[no-any-return]

    def collect(self, items: Sequence[Any]) -> list[Any]:
        """Python objects of all processes, rank after rank, on every process."""
        return list(gather_object(list(items))) if self.world > 1 else list(items)

    def _check_settings(self) -> None:
        """`accelerate config` may ask for what this trainer's own step would break under."""
        state = self.accelerator.state
        kind = str(self.accelerator.distributed_type).rpartition(".")[2]
        if kind != "NO" and not kind.startswith("MULTI_"):
            raise InputError(
                f"accelerate is configured for {kind}, which this trainer does not run under; launch with --multi_gpu "
                "or torchrun"
            )
        plugin = getattr(state, "dynamo_plugin", None)
        if plugin is not None and str(getattr(plugin.backend, "value", plugin.backend)) != "NO":
            raise InputError("accelerate is configured to compile; use performance.compile=true instead, it spares D")

    def wait(self) -> None:
        """Return when every process has come here."""
        self.accelerator.wait_for_everyone()


def _device(name: str, asked_by: str) -> torch.device | None:
    """The device that is asked for; None leaves the choice of the GPU to Accelerate."""
    if name == "auto":
        return None if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"{asked_by} is {name!r}; use auto, cpu, cuda or cuda:0") from error
    there = {
        "cpu": lambda: 1,
        "cuda": torch.cuda.device_count,
        "mps": torch.mps.device_count,
        "xpu": torch.xpu.device_count,
    }
    count = there[device.type]() if device.type in there else 0
    if (device.index or 0) >= count:
        found = f"torch finds {count} of this kind" if count else f"torch finds no {device.type.upper()} device here"
        raise InputError(f"{asked_by} is {name}, but {found}; use auto or cpu")
    return device


def __getattr__(name: str) -> Any:
    return renamed(__name__, name)
