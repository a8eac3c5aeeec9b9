"""The backend of one machine: a queue, and worker processes that are replaced when they die."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

from galip.errors import GalipError
from galip.serving.backend import EncodedImage, Facts, Picture, UnavailableError, WorkerLostError
from galip.serving.http.metrics import Metrics
from galip.serving.http.settings import Settings
from galip.serving.local.batching import Queue
from galip.serving.local.workers import Worker
from galip.serving.model_worker import Order

log = logging.getLogger("galip.serving")

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
"""Seconds before a worker that could not be replaced is tried again; doubled each time."""


class LocalBackend:
    """Draws in processes of this machine; see `Backend`.

    Args:
        order: what to load.
        settings: batch, queue and time limits.
        metrics: where batches and lost workers are counted.
        workers: processes, each with a model of its own. More than one is for machines with more cores than one
            picture can use, or with several GPUs.
    """

    def __init__(self, order: Order, settings: Settings, metrics: Metrics, workers: int = 1) -> None:
        self._settings, self._metrics = settings, metrics
        self._queue = Queue(settings.max_queue)
        self._workers = [Worker(order, settings.time_limit) for _ in range(workers)]
        self._running: list[asyncio.Task[None]] = []
        self._up: set[Worker] = set()
        self._facts: Facts | None = None
        metrics.watch_queue(lambda: len(self._queue))
        metrics.watch_workers(lambda: len(self._up))

    async def start(self) -> None:
        """Load the model in all workers; return when one of them can draw."""
        first, *rest = self._workers
        self._facts = await first.start()
        self._up.add(first)
        self._running = [asyncio.create_task(self._serve(worker), name="galip worker") for worker in (first, *rest)]

    async def draw(self, pictures: Sequence[Picture]) -> list[EncodedImage]:
        """Draw pictures together with those of other requests."""
        if self._facts is None:
            raise UnavailableError("the model is being loaded")
        return await self._queue.draw(pictures)

    def facts(self) -> Facts:
        """What model this is."""
        if self._facts is None:
            raise UnavailableError("the model is being loaded")
        return self._facts

    def ready(self) -> bool:
        """Whether a worker is there to draw."""
        return bool(self._up)

    async def close(self) -> None:
        """End the workers."""
        self._queue.close()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        self._up.clear()
        for worker in self._workers:
            worker.kill()

    async def _serve(self, worker: Worker) -> None:
        """Draw batch after batch, and replace the process whenever it is lost."""
        while True:
            if worker not in self._up:
                await self._replace(worker)
            jobs = await self._queue.take(self._settings.max_batch)
            begun = time.monotonic()
            try:
                results = await worker.draw([job.picture for job in jobs])
            except WorkerLostError as lost:
                self._up.discard(worker)
                self._metrics.lost()
                log.error("%s; %d pictures are lost", lost, len(jobs))
                self._queue.failed(jobs, lost)
                continue
            except Exception as error:  # a defect of ours; the next batch may do better
                log.exception("a batch of %d pictures failed", len(jobs))
                self._queue.failed(jobs, GalipError(f"the pictures could not be drawn: {type(error).__name__}"))
                continue
            seconds = time.monotonic() - begun
            self._metrics.drawn(len(jobs), seconds)
            self._queue.done(jobs, results, seconds)

    async def _replace(self, worker: Worker) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                await worker.start()
            except GalipError as error:
                worker.kill()
                log.error("a worker could not be started, trying again in %.0f s: %s", pause, error)
                if not self._up:
                    self._queue.send_away("nothing can draw at the moment")
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            self._up.add(worker)
            log.info("a worker has been started, process %s", worker.pid)
            return
