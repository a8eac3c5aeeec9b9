"""The application's ingress on Ray Serve: the same app as on one machine, behind a middleware that can be drained."""

from __future__ import annotations

import asyncio
from typing import Any

from ray import serve
from starlette.types import ASGIApp, Receive, Scope, Send

from galip.serving.http.app import create_app
from galip.serving.http.errors import as_request_error
from galip.serving.http.metrics import Metrics
from galip.serving.http.settings import Settings
from galip.serving.pool import UnavailableError
from galip.serving.ray.pool import RayPool


class DrainMiddleware:
    """Counts the requests that are being answered, and refuses new ones once it is drained.

    Serve ends all deployments of an application together, so a video would lose its workers halfway. Whoever ends the
    application drains this first and waits until every request has been answered.

    Args:
        app: what answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app, self._running, self._closed = app, 0, False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or say that the service is closing."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._closed:
            closing = UnavailableError("the service is closing")
            await as_request_error(closing).response()(scope, receive, send)
            return
        self._running += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._running -= 1

    async def drain(self, time_limit: float) -> int:
        """Refuse new requests, and return when all others are answered, or after `time_limit` seconds.

        Returns:
            How many are still being answered.
        """
        self._closed = True
        deadline = asyncio.get_running_loop().time() + time_limit
        while self._running and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.05)
        return self._running


_app: DrainMiddleware | None = None  # of the replica that this process is


class ServiceIngress:
    """What stands behind the HTTP proxies: one replica, since links to images are kept in its memory.

    Args:
        workers: handle of the deployment of `WorkerReplica`.
        settings: limits and keys.
        deployment: the name of that deployment.
    """

    def __init__(self, workers: Any, settings: Settings, deployment: str) -> None:
        global _app
        metrics = Metrics()
        pool = RayPool(workers, serve.get_replica_context().app_name, deployment, settings, metrics)
        self._app = _app = DrainMiddleware(create_app(pool, settings, metrics))

    async def drain(self, time_limit: float) -> int:
        """See `DrainMiddleware.drain`."""
        return await self._app.drain(time_limit)


def _built_app() -> ASGIApp:
    """What Serve asks for once `ServiceIngress` has been made."""
    assert _app is not None
    return _app


Ingress: Any = serve.ingress(_built_app)(ServiceIngress)
