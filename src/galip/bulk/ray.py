"""Blocks of a large job on a Ray cluster: an actor for each model, a block at a time, those of a lost actor again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from galip.data_prep.base import Listing, WritingOptions
from galip.data_prep.unfinished import plan_of, under_way
from galip.data_prep.writing import Task, expected, write_block
from galip.errors import GalipError
from galip.serving.ray.connection import Place

_TRIES = 3  # of a block whose actors die


class Writer:
    """An actor that draws and writes blocks. Its model is loaded with the first of them."""

    def write(self, task: Task) -> None:
        """Write one block; see `galip.data_prep.writing.write_block`."""
        write_block(task, lambda: None)


def write_blocks(
    source: Listing, out: Path, writing: WritingOptions, where: Place, replicas: int, say: Callable[[str], None]
) -> None:
    """Write all blocks of a source that are not finished. `galip.data_prep.writing.prepare` then finds them done.

    Args:
        source: what is written.
        out: folder, an absolute path that every machine of the cluster sees.
        writing: as for `prepare`.
        where: what each actor needs.
        replicas: actors.
        say: is told of actors that are lost.

    Raises:
        GalipError: as `prepare`; or a block has killed several actors.
    """
    with under_way(out, plan_of(source, writing.recorded())) as state:
        if state is None:
            return
        tasks = [Task(block, n, state.folder, writing) for n, block in enumerate(source.blocks) if not state.done(n)]
        columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
        console = Console(stderr=True)
        with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as progress:
            bar = progress.add_task("drawing", total=expected(source, tasks))
            _work(
                tasks,
                where,
                min(replicas, len(tasks)),
                say,
                lambda task: progress.advance(bar, expected(source, [task]) or 0),
            )


def _work(
    tasks: list[Task], where: Place, replicas: int, say: Callable[[str], None], done: Callable[[Task], None]
) -> None:
    import ray
    from ray.exceptions import RayActorError, RayTaskError

    actor: Any = ray.remote(Writer).options(num_cpus=where.cpus, num_gpus=where.gpus, max_restarts=-1)
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
                    f"{_TRIES} processes have died one after the other while drawing the same pictures, perhaps for "
                    "want of memory; the same command goes on from what is finished"
                ) from error
            say(f"a process has died; what it was drawing is drawn again ({str(error).splitlines()[0]})")
            waiting.append((task, attempt + 1))
        except RayTaskError as error:
            if isinstance(error.cause, GalipError):
                raise error.cause from error
            raise
        else:
            done(task)
