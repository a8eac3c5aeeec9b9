"""The pool of one machine: a queue, and worker processes that are replaced when they die."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

from galip.errors import GalipError
from galip.serving.http.metrics import Metrics
from galip.serving.http.settings import Settings
from galip.serving.local.batching import RequestQueue
from galip.serving.local.process import WorkerProcess
from galip.serving.model_worker import ModelSpec
from galip.serving.pool import EncodedImage, ImageRequest, ModelInfo, UnavailableError, WorkerLostError

log = logging.getLogger("galip.serving")

_FIRST_PAUSE, _MAX_PAUSE = 1.0, 30.0
"""Seconds before a worker that could not be replaced is tried again; doubled each time."""


class LocalPool:
    """Generates in processes of this machine; see `WorkerPool`.

    Args:
        spec: what to load.
        settings: batch, queue and time limits.
        metrics: where batches and lost workers are counted.
        workers: processes, each with a model of its own. More than one is for machines with more cores than one
            image can use, or with several GPUs.
    """

    def __init__(self, spec: ModelSpec, settings: Settings, metrics: Metrics, workers: int = 1) -> None:
        self._settings, self._metrics = settings, metrics
        self._queue = RequestQueue(settings.max_queue)
        self._workers = [WorkerProcess(spec, settings.time_limit) for _ in range(workers)]
        self._tasks: list[asyncio.Task[None]] = []
        self._up: set[WorkerProcess] = set()
        self._info: ModelInfo | None = None
        metrics.watch_queue(lambda: len(self._queue))
        metrics.watch_workers(lambda: len(self._up))

    async def start(self) -> None:
        """Load the model in all workers; return when one of them can generate."""
        first, *rest = self._workers
        self._info = await first.start()
        self._up.add(first)
        self._tasks = [asyncio.create_task(self._serve(worker), name="galip worker") for worker in (first, *rest)]

    async def generate(self, requests: Sequence[ImageRequest]) -> list[EncodedImage]:
        """Generate images together with those of other clients."""
        if self._info is None:
            raise UnavailableError("the model is being loaded")
        return await self._queue.generate(requests)

    def info(self) -> ModelInfo:
        """What model this is."""
        if self._info is None:
            raise UnavailableError("the model is being loaded")
        return self._info

    def ready(self) -> bool:
        """Whether a worker is there to generate."""
        return bool(self._up)

    async def close(self) -> None:
        """End the workers."""
        self._queue.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._up.clear()
        for worker in self._workers:
            worker.kill()

    async def _serve(self, worker: WorkerProcess) -> None:
        """Generate batch after batch, and replace the process whenever it is lost."""
        while True:
            if worker not in self._up:
                await self._replace(worker)
            pending = await self._queue.take(self._settings.max_batch)
            begun = time.monotonic()
            try:
                results = await worker.generate([each.request for each in pending])
            except WorkerLostError as lost:
                self._up.discard(worker)
                self._metrics.lost()
                log.error("%s; %d images are lost", lost, len(pending))
                self._queue.failed(pending, lost)
                continue
            except Exception as error:  # a defect of ours; the next batch may do better
                log.exception("a batch of %d images failed", len(pending))
                self._queue.failed(pending, GalipError(f"the images cannot be generated: {type(error).__name__}"))
                continue
            seconds = time.monotonic() - begun
            self._metrics.generated(len(pending), seconds)
            self._queue.done(pending, results, seconds)

    async def _replace(self, worker: WorkerProcess) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                await worker.start()
            except GalipError as error:
                worker.kill()
                log.error("a worker could not be started, trying again in %.0f s: %s", pause, error)
                if not self._up:
                    self._queue.send_away("no worker is there at the moment")
                await asyncio.sleep(pause)
                pause = min(2 * pause, _MAX_PAUSE)
                continue
            self._up.add(worker)
            log.info("a worker has been started, process %s", worker.pid)
            return
