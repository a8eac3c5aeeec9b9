"""The service of one machine: uvicorn around the app in this process, workers beside it."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

import uvicorn

from galip.errors import GalipError
from galip.serving.http.addresses import announce, listen
from galip.serving.http.app import create_app
from galip.serving.http.metrics import Metrics
from galip.serving.http.protocol import BoundedHTTPProtocol
from galip.serving.http.settings import Settings
from galip.serving.local.editing import LocalEditor, can_edit
from galip.serving.local.pool import LocalPool
from galip.serving.local.process import LOG_FORMAT
from galip.serving.model_worker import ModelSpec


def run(
    spec: ModelSpec,
    settings: Settings,
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: int = 1,
    root_path: str = "",
    log_level: str = "info",
) -> None:
    """Serve until a signal says to stop; then answer what has been asked, and end.

    Args:
        spec: what to load.
        settings: limits and keys.
        host: address to listen at.
        port: 0 for a free one.
        workers: processes with a model each.
        root_path: what a proxy puts before this server's paths.
        log_level: "debug", "info", "warning" or "error".

    Raises:
        InputError: the address cannot be had.
        GalipError: the model cannot be loaded.
    """
    listener = listen(host, port)
    metrics = Metrics()
    failures: list[GalipError] = []

    def failed(error: GalipError) -> None:
        failures.append(error)
        server.should_exit = True

    editor = LocalEditor(spec, settings) if can_edit(spec) else None
    app = create_app(LocalPool(spec, settings, metrics, workers), settings, metrics, failed, editor)
    logging.basicConfig(level=log_level.upper(), format=LOG_FORMAT)
    config = uvicorn.Config(
        app,
        log_level=log_level,
        access_log=False,  # it would show query strings; `ServiceMiddleware` has a log of its own
        http=BoundedHTTPProtocol,
        ws="none",
        root_path=root_path,
        timeout_graceful_shutdown=round(max(settings.time_limit, settings.video_time_limit, settings.edit_time_limit)),
        server_header=False,
    )
    server = uvicorn.Server(config)
    announce(host, listener.getsockname()[1], root_path, open_to_all=not settings.api_keys)
    # uvicorn drains at SIGTERM and then raises it again, which by default would end Python without any tidying up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    asyncio.run(server.serve(sockets=[listener]))
    if failures:
        raise failures[0]
