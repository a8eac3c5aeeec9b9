"""The deployment that generates: a model worker per replica, and Ray Serve's batching before it."""

from __future__ import annotations

import asyncio
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ray import serve

from galip.errors import GalipError
from galip.serving.model_worker import ModelSpec, ModelWorker
from galip.serving.pool import EncodedImage, ImageRequest, ModelInfo


@dataclass(frozen=True)
class GeneratedImage:
    """A replica's answer.

    Attributes:
        result: the image, or why there is none.
        batch_size: images of its batch, told with the first of them; 0 with the others.
        seconds: that the batch took.
    """

    result: EncodedImage | GalipError
    batch_size: int
    seconds: float


class WorkerReplica:
    """A model, and the images that wait for it.

    Serve puts a request into a batch as soon as it comes, and goes on to the next batch while the one before is being
    generated, so batches that wait would stay as small as they were begun. Requests are therefore held back while the
    worker is busy, and let in together when it is free: under load batches grow by themselves, and nothing ever waits
    for a batch to fill.

    Args:
        spec: what to load.
        time_limit: seconds that a batch may take before the replica counts as hanging and is replaced.
    """

    def __init__(self, spec: ModelSpec, time_limit: float) -> None:
        # One thread for everything: what engines prepare may belong to the thread that they are prepared in.
        self._thread = ThreadPoolExecutor(1, "worker")
        self._worker = self._thread.submit(ModelWorker, spec).result()
        self._time_limit, self._begun = time_limit, math.inf
        self._free = asyncio.Event()
        self._free.set()
        self._generate.set_max_batch_size(spec.batch_size)  # type: ignore[attr-defined]

    def check_health(self) -> None:
        """What Serve asks now and then.

        Raises:
            GalipError: a batch takes too long; after several of these Serve replaces the replica.
        """
        if time.monotonic() - self._begun > self._time_limit:
            raise GalipError(f"a batch takes longer than {self._time_limit:g} s")

    async def info(self) -> ModelInfo:
        """What model this is."""
        return self._worker.info

    async def generate(self, request: ImageRequest) -> GeneratedImage:
        """Generate an image together with others."""
        while not self._free.is_set():
            await self._free.wait()
        return await self._generate(request)  # type: ignore[return-value, arg-type]

    @serve.batch(batch_wait_timeout_s=0.0)
    async def _generate(self, requests: list[ImageRequest]) -> list[GeneratedImage]:
        self._free.clear()
        self._begun = begun = time.monotonic()
        try:
            results = await asyncio.get_running_loop().run_in_executor(self._thread, self._worker.generate, requests)
        finally:
            self._begun = math.inf
            self._free.set()
        seconds = time.monotonic() - begun
        return [GeneratedImage(result, 0 if number else len(results), seconds) for number, result in enumerate(results)]
