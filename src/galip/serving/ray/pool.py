"""The pool of a cluster: Ray Serve's deployment of workers behind one handle."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Any

from ray import serve
from ray.exceptions import RayActorError, RayError, TaskCancelledError
from ray.serve.exceptions import BackPressureError, RayServeException, RequestCancelledError

from galip.errors import GalipError
from galip.serving.http.metrics import Metrics
from galip.serving.http.settings import Settings
from galip.serving.local.rates import Rate
from galip.serving.pool import (
    EncodedImage,
    ImageRequest,
    ModelInfo,
    QueueFullError,
    UnavailableError,
    WorkerLostError,
)
from galip.serving.ray.worker import GeneratedImage

log = logging.getLogger("galip.serving")

_POLL_INTERVAL = 1.0
"""Seconds between two questions for which replicas are running."""


class RayPool:
    """Generates in the replicas of a Ray Serve deployment; see `WorkerPool`. It lives inside the application's ingress.

    Serve's own limit on what may queue is per call of the handle, and a call is an image: a request for many could get
    in halfway. So requests are let in or refused as a whole here, and Serve's limit, which is never lower, is what
    holds should there be several of these.

    Args:
        handle: of the deployment of `WorkerReplica`.
        application, deployment: its names, by which Serve's status is asked for it.
        settings: limits of the queue and of batches.
        metrics: where batches and lost replicas are counted.
    """

    def __init__(self, handle: Any, application: str, deployment: str, settings: Settings, metrics: Metrics) -> None:
        self._handle, self._application, self._deployment = handle, application, deployment
        self._settings, self._metrics = settings, metrics
        self._info: ModelInfo | None = None
        self._running = self._asked = 0
        self._rate = Rate()
        self._closed = False
        self._calls: set[Any] = set()
        self._lost: set[str] = set()
        self._polling: asyncio.Task[None] | None = None
        metrics.watch_queue(lambda: self._asked)
        metrics.watch_workers(lambda: self._running)

    async def start(self) -> None:
        """Wait for the first replica."""
        self._polling = asyncio.create_task(self._poll(), name="galip replicas")
        while self._info is None:
            try:
                self._info = await self._handle.info.remote()
            except (RayError, RayServeException) as error:
                log.warning("no replica has answered yet: %s", error)
                await asyncio.sleep(_POLL_INTERVAL)

    async def generate(self, requests: Sequence[ImageRequest]) -> list[EncodedImage]:
        """Generate images together with those of other clients: one call of the handle for each."""
        if self._info is None:
            raise UnavailableError("the model is being loaded")
        if self._closed:
            raise UnavailableError("the service is closing")
        generating = max(self._running, 1) * self._settings.max_batch
        if self._asked + len(requests) > generating + self._settings.max_queue:
            raise QueueFullError(self._retry_after())
        calls = [self._handle.generate.remote(request) for request in requests]
        self._calls.update(calls)
        self._asked += len(calls)
        answers = [asyncio.ensure_future(self._answer(call)) for call in calls]
        try:
            return list(await asyncio.gather(*answers))
        finally:  # without a pause, in which whoever cancels this might do it again
            self._asked -= len(calls)
            self._calls.difference_update(calls)
            for call, answer in zip(calls, answers, strict=True):
                if not answer.done():
                    answer.cancel()
                    _cancel(call)

    def info(self) -> ModelInfo:
        """What model this is."""
        if self._info is None:
            raise UnavailableError("the model is being loaded")
        return self._info

    def ready(self) -> bool:
        """Whether a replica is there to generate, by Serve's status of a moment ago."""
        return self._info is not None and self._running > 0 and not self._closed

    async def close(self) -> None:
        """Give up what is being generated. The deployment is Serve's to end."""
        self._closed = True
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.gather(self._polling, return_exceptions=True)
        for call in list(self._calls):
            _cancel(call)

    async def _answer(self, call: Any) -> EncodedImage:
        try:
            generated: GeneratedImage = await call
        except BackPressureError:
            raise QueueFullError(self._retry_after()) from None
        except RayActorError as error:
            self._count_lost(error)
            raise WorkerLostError("the process that was generating has died; it is being replaced") from error
        except (RequestCancelledError, TaskCancelledError):
            raise UnavailableError("the service is closing") from None
        except (RayError, RayServeException) as error:
            log.exception("an image could not be generated")
            raise GalipError(f"the image could not be generated: {type(error).__name__}") from error
        if generated.batch_size:
            self._metrics.generated(generated.batch_size, generated.seconds)
            self._rate.add(generated.batch_size, generated.seconds)
        if isinstance(generated.result, GalipError):
            raise generated.result
        return generated.result

    def _count_lost(self, error: RayActorError) -> None:
        """Count each replica once, however many images went with it."""
        actor = str(error.actor_id)
        if actor not in self._lost:
            self._lost.add(actor)
            self._metrics.lost()
            log.error("a replica has died: %s", str(error).splitlines()[0])

    def _retry_after(self) -> int:
        """Seconds after which what has been asked for now will have been generated, at the rate of late."""
        return self._rate.retry_after(self._asked, self._running)

    async def _poll(self) -> None:
        """Keep up with how many replicas are running."""
        while True:
            with contextlib.suppress(Exception):  # of a controller that is itself being replaced
                self._running = await asyncio.to_thread(running_replicas, self._application, self._deployment)
            await asyncio.sleep(_POLL_INTERVAL)


def _cancel(call: Any) -> None:
    """Give up a call of a handle, which may have ended, or failed, since it was looked at."""
    with contextlib.suppress(Exception):
        call.cancel()


def running_replicas(application: str, deployment: str) -> int:
    """How many replicas of a deployment are running, by Serve's status."""
    found = serve.status().applications.get(application)
    replicas = found.deployments.get(deployment) if found else None
    return sum(count for state, count in replicas.replica_states.items() if state == "RUNNING") if replicas else 0
