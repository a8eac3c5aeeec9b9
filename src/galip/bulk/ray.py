"""Blocks of a large job on a Ray cluster: an actor for each model, a block at a time, those of a lost actor again."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from galip.data_prep.base import Listing, WritingOptions
from galip.data_prep.unfinished import plan_of, under_way
from galip.data_prep.writing import Task, expected, write_block
from galip.errors import GalipError
from galip.serving.ray.connection import WorkerResources
from galip.utils.progress import Progress, no_progress

log = logging.getLogger("galip.bulk")

_TRIES = 3  # of a block whose actors die


class BlockWriter:
    """An actor that generates and writes blocks. Its model is loaded with the first of them."""

    def write(self, task: Task) -> None:
        """Write one block; see `galip.data_prep.writing.write_block`."""
        write_block(task, lambda: None)


def write_blocks(
    source: Listing,
    out: Path,
    writing: WritingOptions,
    resources: WorkerResources,
    replicas: int,
    progress: Progress = no_progress,
) -> None:
    """Write all blocks of a source that are not finished. `galip.data_prep.writing.prepare` then finds them done.

    Args:
        source: what is written.
        out: folder, an absolute path that every machine of the cluster sees.
        writing: as for `prepare`.
        resources: what each actor needs.
        replicas: actors.
        progress: told ("generate", images done, images in all) as blocks are finished.

    Raises:
        GalipError: as `prepare`; or a block has killed several actors.
    """
    with under_way(out, plan_of(source, writing.recorded())) as state:
        if state is None:
            return
        tasks = [Task(block, n, state.folder, writing) for n, block in enumerate(source.blocks) if not state.done(n)]
        total = expected(source, tasks) or 0
        done = 0

        def written(task: Task) -> None:
            nonlocal done
            done += expected(source, [task]) or 0
            progress("generate", done, total)

        progress("generate", 0, total)
        _work(tasks, resources, min(replicas, len(tasks)), written)


def _work(tasks: list[Task], resources: WorkerResources, replicas: int, done: Callable[[Task], None]) -> None:
    import ray
    from ray.exceptions import RayActorError, RayTaskError

    actor: Any = ray.remote(BlockWriter).options(num_cpus=resources.cpus, num_gpus=resources.gpus, max_restarts=-1)
    idle = [actor.remote() for _ in range(replicas)]
    waiting = deque((task, 1) for task in tasks)
    running: dict[Any, tuple[Any, Task, int]] = {}
    while waiting or running:
        while waiting and idle:
            task, attempt = waiting.popleft()
            writer = idle.pop()
            running[writer.write.remote(task)] = (writer, task, attempt)
        (ready,), _ = ray.wait(list(running), num_returns=1)
        writer, task, attempt = running.pop(ready)
        idle.append(writer)
        try:
            ray.get(ready)
        except RayActorError as error:
            if attempt == _TRIES:
                raise GalipError(
                    f"{_TRIES} processes have died one after the other while generating the same images, perhaps for "
                    "want of memory; the same command goes on from what is finished"
                ) from error
            log.warning("a process has died; its images are generated again (%s)", str(error).splitlines()[0])
            waiting.append((task, attempt + 1))
        except RayTaskError as error:
            if isinstance(error.cause, GalipError):
                raise error.cause from error
            raise
        else:
            done(task)
