"""The application's ingress on Ray Serve: the same app as on one machine, and a door that can be closed behind it."""

from __future__ import annotations

import asyncio
from typing import Any

from ray import serve
from starlette.types import ASGIApp, Receive, Scope, Send

from galip.serving.backend import UnavailableError
from galip.serving.http.app import create_app
from galip.serving.http.metrics import Metrics
from galip.serving.http.problems import problem_of
from galip.serving.http.settings import Settings
from galip.serving.ray.backend import RayBackend
from galip.serving.ray.connection import listen_on_loopback


class Door:
    """Counts the requests inside, and lets nobody in once it is closed.

    Serve ends all deployments of an application together, so a film would lose its artists halfway. Whoever ends the
    application closes the door first and waits until everybody has left.

    Args:
        app: what lies behind.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app, self._inside, self._closed = app, 0, False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or say that the service is closing."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._closed:
            await problem_of(UnavailableError("the service is closing")).response()(scope, receive, send)
            return
        self._inside += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._inside -= 1

    async def close(self, patience: float) -> int:
        """Let nobody in any more, and return when everybody has left, or after `patience` seconds.

        Returns:
            How many are still inside.
        """
        self._closed = True
        deadline = asyncio.get_running_loop().time() + patience
        while self._inside and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.05)
        return self._inside


_door: Door | None = None  # of the replica that this process is


class Gate:
    """What stands behind the HTTP proxies: one replica, since links to pictures are kept in its memory.

    Args:
        artists: handle of the deployment of `ArtistReplica`.
        settings: limits and keys.
        deployment: the name of that deployment.
        loopback: whether Ray is this machine's alone.
    """

    def __init__(self, artists: Any, settings: Settings, deployment: str, loopback: bool = False) -> None:
        global _door
        if loopback:
            listen_on_loopback()
        metrics = Metrics()
        backend = RayBackend(artists, serve.get_replica_context().app_name, deployment, settings, metrics)
        self._door = _door = Door(create_app(backend, settings, metrics))

    async def drain(self, patience: float) -> int:
        """See `Door.close`."""
        return await self._door.close(patience)


def _behind_the_door() -> ASGIApp:
    """What Serve asks for once `Gate` has been made."""
    assert _door is not None
    return _door


Ingress: Any = serve.ingress(_behind_the_door)(Gate)
