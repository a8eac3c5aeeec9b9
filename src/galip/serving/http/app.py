"""The HTTP app: OpenAI's image API, videos, the page and what it asks, and what machines ask of a service."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from galip import __version__
from galip.errors import GalipError
from galip.serving.http.edits import add_edit_routes
from galip.serving.http.errors import RequestError, add_error_handlers
from galip.serving.http.images import add_image_routes
from galip.serving.http.interpolations import add_video_routes
from galip.serving.http.metrics import Metrics
from galip.serving.http.middleware import ServiceMiddleware
from galip.serving.http.openapi import add_openapi
from galip.serving.http.page import add_page_routes
from galip.serving.http.service import Service
from galip.serving.http.settings import Settings
from galip.serving.pool import Editor, WorkerPool


def create_app(
    pool: WorkerPool,
    settings: Settings,
    metrics: Metrics | None = None,
    on_failure: Callable[[GalipError], None] | None = None,
    editor: Editor | None = None,
) -> FastAPI:
    """Make the app around a pool of workers.

    Args:
        pool: generates. The app starts and closes it.
        settings: limits and keys.
        metrics: the counters of `/metrics`, if the pool counts there too.
        on_failure: is told why the pool could not be started. Until then, and while it loads, `/readyz` says 503.
        editor: generates from images that clients bring, and is closed with the app; None: they are told that it
            is not done here.

    Returns:
        An ASGI app; its routes are listed at `/docs`.
    """
    counters = metrics or Metrics()
    service = Service(pool, settings, editor)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async def start() -> None:
            try:
                await pool.start()
            except GalipError as error:
                if on_failure is None:
                    raise
                on_failure(error)

        starting = asyncio.create_task(start())
        try:
            yield
        finally:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            if editor is not None:
                await editor.close()
            await pool.close()

    app = FastAPI(
        title="galip",
        version=__version__,
        summary="Images from prompts in one forward pass.",
        lifespan=lifespan,
        redirect_slashes=False,  # it would redirect to whatever host the client named
        docs_url=None,  # those pages would load scripts from another host
        redoc_url=None,
    )
    add_error_handlers(app)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.origins),
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["X-Request-Id", "X-Ignored-Fields", "Retry-After"],
        )
    app.add_middleware(ServiceMiddleware, settings=settings, metrics=counters)  # added last, so it stands first
    add_image_routes(app, service)
    add_edit_routes(app, service)
    add_page_routes(app, service)
    add_video_routes(app, service)
    _add_operations_routes(app, service, counters)
    add_openapi(app)
    return app


def _add_operations_routes(app: FastAPI, service: Service, metrics: Metrics) -> None:
    @app.get("/healthz", tags=["service"], summary="Say whether the process answers")
    async def healthz() -> dict[str, str]:
        """Whether the process answers at all."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["service"], summary="Say whether an image would be generated")
    async def readyz() -> dict[str, str]:
        """Whether an image that is asked for now would be generated; 503 while the model is loaded."""
        if not service.pool.ready():
            raise RequestError(503, "no worker is ready yet", code="unavailable", headers={"Retry-After": "2"})
        return {"status": "ready"}

    @app.get("/metrics", tags=["service"], summary="Show the counters", response_class=Response)
    async def show_metrics() -> Response:
        """Counters for Prometheus."""
        page, kind = metrics.page()
        return Response(page, headers={"Content-Type": kind})
