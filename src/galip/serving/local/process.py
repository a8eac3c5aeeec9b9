"""A supervised process with a model.

The process is an executor of the standard library with one place, started by spawn. If it dies, only the batch that it
was generating is lost; the executor is thrown away and another one made.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import ParamSpec, TypeVar

from galip.errors import GalipError
from galip.serving.model_worker import ModelSpec, ModelWorker
from galip.serving.pool import EncodedImage, ImageRequest, ModelInfo, WorkerLostError

P = ParamSpec("P")
Answer = TypeVar("Answer")

LOG_FORMAT = "%(levelname)s:     %(message)s"

_worker: ModelWorker | None = None  # of the worker process


class SpawnedProcess:
    """An executor's one process, which can be killed and started again.

    Attributes:
        pid: of the process; None while there is no process.
    """

    def __init__(self) -> None:
        self._executor: ProcessPoolExecutor | None = None
        self.pid: int | None = None

    async def spawn(self) -> None:
        """Start the process.

        Raises:
            WorkerLostError: it died at once.
        """
        level = logging.getLogger().getEffectiveLevel()
        self._executor = ProcessPoolExecutor(
            1, multiprocessing.get_context("spawn"), initializer=_begin, initargs=(level,)
        )
        self.pid = await self.call(os.getpid)

    async def call(self, function: Callable[P, Answer], *args: P.args, **kwargs: P.kwargs) -> Answer:
        """Run a function there.

        Raises:
            WorkerLostError: the process has died, or there is none.
        """
        if self._executor is None:
            raise WorkerLostError("the process that generates has been ended")
        try:
            return await asyncio.wrap_future(self._executor.submit(function, *args, **kwargs))
        except BrokenProcessPool:
            self.kill()
            raise WorkerLostError("the process that was generating has died; it is being replaced") from None

    def kill(self) -> None:
        """End the process at once, whatever it does."""
        executor, self._executor = self._executor, None
        pid, self.pid = self.pid, None
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)
        if executor is not None:
            executor.shutdown(wait=False, cancel_futures=True)


class WorkerProcess(SpawnedProcess):
    """One process with one model.

    Args:
        spec: what it loads.
        time_limit: seconds that a batch may take before the process counts as hanging and is killed.
    """

    def __init__(self, spec: ModelSpec, time_limit: float) -> None:
        super().__init__()
        self._spec, self._time_limit = spec, time_limit

    async def start(self) -> ModelInfo:
        """Start the process and load the model.

        Raises:
            GalipError: the model cannot be loaded.
            WorkerLostError: the process died while it was loading.
        """
        await self.spawn()
        return await self.call(_load, self._spec)

    async def generate(self, requests: Sequence[ImageRequest]) -> list[EncodedImage | GalipError]:
        """Generate a batch; see `ModelWorker.generate`.

        Raises:
            WorkerLostError: the process has died, or was killed because it took too long. It must be started again.
        """
        try:
            return await asyncio.wait_for(self.call(_generate, list(requests)), self._time_limit)
        except (TimeoutError, asyncio.TimeoutError):  # two classes before Python 3.11
            self.kill()
            raise WorkerLostError(
                f"a batch took longer than {self._time_limit:g} s, so its process was ended"
            ) from None


def _begin(log_level: int) -> None:
    """What a worker process does first."""
    # Ctrl-C and a service manager's SIGTERM reach the whole group; it is the parent that says when it ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    logging.basicConfig(level=log_level, format=LOG_FORMAT)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    """End with the parent, even if that was killed: nobody else would end this process."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _load(spec: ModelSpec) -> ModelInfo:
    global _worker
    _worker = ModelWorker(spec)
    return _worker.info


def _generate(requests: Sequence[ImageRequest]) -> list[EncodedImage | GalipError]:
    assert _worker is not None
    return _worker.generate(requests)
