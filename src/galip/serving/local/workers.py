"""A supervised process that draws.

The process is an executor of the standard library with one place, started by spawn. If it dies, only the batch that it
was drawing is lost; the executor is thrown away and another one made.
"""

from __future__ import annotations

import asyncio
import contextlib
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
from galip.serving.backend import EncodedImage, Facts, Picture, WorkerLostError
from galip.serving.model_worker import Artist, Order

P = ParamSpec("P")
Answer = TypeVar("Answer")

_artist: Artist | None = None  # of the worker process


class Worker:
    """One process with one model.

    Args:
        order: what it loads.
        patience: seconds that a batch may take before the process counts as hanging and is killed.

    Attributes:
        pid: of the process; None while there is none.
    """

    def __init__(self, order: Order, patience: float) -> None:
        self._order, self._patience = order, patience
        self._executor: ProcessPoolExecutor | None = None
        self.pid: int | None = None

    async def start(self) -> Facts:
        """Start the process and load the model.

        Raises:
            GalipError: the model cannot be loaded.
            WorkerLostError: the process died while it was loading.
        """
        self._executor = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_begin)
        self.pid = await self._call(os.getpid)
        return await self._call(_load, self._order)

    async def draw(self, pictures: Sequence[Picture]) -> list[EncodedImage | GalipError]:
        """Draw a batch; see `Artist.draw`.

        Raises:
            WorkerLostError: the process has died, or was killed because it took too long. It must be started again.
        """
        try:
            return await asyncio.wait_for(self._call(_draw, list(pictures)), self._patience)
        except (TimeoutError, asyncio.TimeoutError):  # two classes before Python 3.11
            self.kill()
            raise WorkerLostError(f"a batch took longer than {self._patience:g} s, so its process was ended") from None

    def kill(self) -> None:
        """End the process at once, whatever it does."""
        executor, self._executor = self._executor, None
        pid, self.pid = self.pid, None
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        if executor is not None:
            executor.shutdown(wait=False, cancel_futures=True)

    async def _call(self, function: Callable[P, Answer], *args: P.args, **kwargs: P.kwargs) -> Answer:
        if self._executor is None:
            raise WorkerLostError("the process that draws has been ended")
        try:
            return await asyncio.wrap_future(self._executor.submit(function, *args, **kwargs))
        except BrokenProcessPool:
            self.kill()
            raise WorkerLostError("the process that was drawing has died; it is being replaced") from None


def _begin() -> None:
    """What a worker process does first."""
    # Ctrl-C and a service manager's SIGTERM reach the whole group; it is the parent that says when drawing ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    """End with the parent, even if that was killed: nobody else would end this process."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _load(order: Order) -> Facts:
    global _artist
    _artist = Artist(order, say=lambda line: print(line, file=sys.stderr, flush=True))
    return _artist.facts


def _draw(pictures: Sequence[Picture]) -> list[EncodedImage | GalipError]:
    assert _artist is not None
    return _artist.draw(pictures)
