"""Blocks worked on by several processes until they are done or the user has had enough."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import count
from multiprocessing.connection import wait as wait_for
from typing import Any, Protocol, TypeVar

from galip.errors import GalipError
from galip.utils.progress import Progress, no_progress

Task = TypeVar("Task")
Result = TypeVar("Result")
Tick = Callable[[], None]
"""Called by the work after each image: it counts it, and raises where the work shall end."""

_LOOK_EVERY = 0.2  # seconds between two looks at the counter

# In a worker: the images of all workers so far, and whether to stop.
_shared: tuple[Any, Any] | None = None


class StoppedError(Exception):
    """The work ends because the command ends; what is finished stays."""


class Work(Protocol):
    """A function of a module, so that a worker process can find it."""

    def __call__(self, task: Any, tick: Tick, /) -> Any: ...


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def work_on(
    work: Callable[[Task, Tick], Result],
    tasks: Iterable[Task],
    workers: int,
    stage: str,
    expected: int | None = None,
    progress: Progress = no_progress,
) -> Iterator[Result]:
    """Do `work` on every task.

    Args:
        work: a function of a module; called with a task and a `Tick`.
        tasks: picklable where there are several workers; a few are taken ahead of the work.
        workers: processes; 1 works in this one.
        stage: what is being done, for `progress`.
        expected: images in all tasks, None if nobody knows.
        progress: is told how many images are done.

    Yields:
        The results, in the order in which they come.

    Raises:
        GalipError: a worker process died, or the work raised it.
    """
    numbers = count(1)
    progress(stage, 0, expected or 0)
    if workers > 1:
        yield from _in_processes(work, tasks, workers, lambda done: progress(stage, done, expected or 0))
    else:
        for task in tasks:
            yield work(task, lambda: progress(stage, next(numbers), expected or 0))


def _in_processes(
    work: Callable[[Task, Tick], Result], tasks: Iterable[Task], workers: int, show: Callable[[int], None]
) -> Iterator[Result]:
    # Not forked: libraries that hold threads (Arrow, torch) do not survive that.
    context = multiprocessing.get_context("spawn")
    counter, stop = context.Value("q", 0), context.Event()
    coming = iter(tasks)
    pending: set[Future[Result]] = set()
    with ProcessPoolExecutor(workers, context, _start_worker, (counter, stop)) as pool:
        try:
            while True:
                while len(pending) < 2 * workers and (task := next(coming, None)) is not None:
                    with _interrupts_held():  # the first one starts all workers
                        pending.add(pool.submit(_run, work, task))
                if not pending:
                    return
                done, pending = wait(pending, _LOOK_EVERY, FIRST_COMPLETED)
                show(counter.value)
                for future in done:
                    yield future.result()
        except BrokenProcessPool as error:
            raise GalipError(
                "a worker process died, perhaps for want of memory; the same command with fewer --workers goes on from "
                "what is finished"
            ) from error
        finally:
            # Also after Ctrl-C; workers then end at their next image.
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C waits until the end of the block, and never reaches a process that is started in it.

    A worker that Ctrl-C ends while it still imports would leave its pool waiting for it for ever.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker(counter: Any, stop: Any) -> None:
    global _shared
    _shared = (counter, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process gets it too, and says when to stop
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # A killed main process closes no queue: without this its workers would wait for work for ever.
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait_for([parent.sentinel])
    os._exit(1)


def _run(work: Callable[[Task, Tick], Result], task: Task) -> Result:
    return work(task, _tick)


def _tick() -> None:
    assert _shared is not None
    counter, stop = _shared
    with counter.get_lock():
        counter.value += 1
    if stop.is_set():
        raise StoppedError
