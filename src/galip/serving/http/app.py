"""The HTTP app: OpenAI's image API, films, the page and what it asks, and what machines ask of a service."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, Query
from fastapi import Request as HTTPRequest
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

from galip import __version__
from galip.errors import GalipError, InputError
from galip.generation.noise import SEED_LIMIT
from galip.generation.prompts import clean_caption
from galip.serving import videos
from galip.serving.backend import Backend, EncodedImage, Picture, Point
from galip.serving.http.guard import Guard
from galip.serving.http.links import Links
from galip.serving.http.metrics import Metrics
from galip.serving.http.problems import RequestError, add_handlers
from galip.serving.http.schemas import (
    AppFacts,
    DrawRequest,
    FilmRequest,
    Format,
    GenerationRequest,
    ImagesResponse,
    ModelCard,
    ModelList,
    Seed,
    Truncation,
)
from galip.serving.http.settings import Settings
from galip.utils.video import check_film

Answer = TypeVar("Answer")

STATIC = Path(str(resources.files("galip.serving") / "static"))
_RANDOM_SEEDS = 2**32
_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp", "gif": "image/gif", "mp4": "video/mp4"}
_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")
_PICTURE = {200: {"content": {"image/png": {}, "image/jpeg": {}, "image/webp": {}}, "description": "The picture."}}
_FILM = {200: {"content": {"video/mp4": {}, "image/webp": {}, "image/gif": {}}, "description": "The film."}}


def create_app(
    backend: Backend,
    settings: Settings,
    metrics: Metrics | None = None,
    on_failure: Callable[[GalipError], None] | None = None,
) -> FastAPI:
    """Make the app around whatever draws.

    Args:
        backend: draws. The app starts and closes it.
        settings: limits and keys.
        metrics: the counters of `/metrics`, if the backend counts there too.
        on_failure: is told why the backend could not be started. Until then, and while it loads, `/readyz` says 503.

    Returns:
        An ASGI app; its routes are listed at `/docs`.
    """
    counters = metrics or Metrics()
    service = _Service(backend, settings)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async def start() -> None:
            try:
                await backend.start()
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
            await backend.close()

    app = FastAPI(
        title="galip",
        version=__version__,
        summary="Pictures from captions in one forward pass.",
        lifespan=lifespan,
        docs_url=None,  # those pages would load scripts from another host
        redoc_url=None,
    )
    add_handlers(app)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=list(settings.origins), allow_methods=["*"], allow_headers=["*"]
        )
    app.add_middleware(Guard, settings=settings, metrics=counters)  # added last, so it stands first
    _add_images(app, service)
    _add_page(app, service)
    _add_machines(app, service, counters)
    return app


class _Service:
    """What the routes share: checks of what was asked for, time limits, links."""

    def __init__(self, backend: Backend, settings: Settings) -> None:
        self.backend, self.settings = backend, settings
        self.links = Links(settings.link_lifetime, settings.link_bytes)
        self.films = 0

    def check_model(self, model: str | None) -> None:
        served = self.backend.facts().model
        if model not in (None, served):
            message = f"there is no model {model!r} here, only {served!r}; model may be left out"
            raise RequestError(404, message, "model", "model_not_found")

    def caption(self, prompt: str, param: str = "prompt") -> str:
        limit = self.settings.max_prompt
        if len(prompt) > limit:
            raise RequestError(
                400, f"{param} has {len(prompt)} characters, and at most {limit} are taken", param, "too_long"
            )
        try:
            return clean_caption(prompt)
        except InputError as error:
            raise RequestError(400, f"{param}: {error}", param, "invalid_value") from error

    def side(self, size: int | str | None, param: str = "size") -> int | None:
        """The wanted side in pixels; None for the model's own."""
        own, most = self.backend.facts().side, self.settings.max_size
        if size in (None, "auto"):
            return None
        if isinstance(size, str):
            found = _SIZE.fullmatch(size)
            if found is None or found[1] != found[2]:
                raise RequestError(
                    400, f'{param} {size!r}: use "auto" or a square such as "{own}x{own}"', param, "invalid_value"
                )
            size = int(found[1])
        assert size is not None
        if not own <= size <= max(own, most):
            message = (
                f"{param} {size}: the model draws {own} x {own} pixels, which can be enlarged up to {most} x {most}"
            )
            raise RequestError(400, message, param, "invalid_value")
        return None if size == own else size

    async def draw(self, pictures: Sequence[Picture]) -> list[EncodedImage]:
        return await self.in_time(self.backend.draw(pictures), self.settings.time_limit)

    async def in_time(self, answer: Awaitable[Answer], limit: float) -> Answer:
        try:
            return await asyncio.wait_for(answer, limit)
        except (TimeoutError, asyncio.TimeoutError):
            raise RequestError(
                504, f"it took longer than the {limit:g} s that a request may take", code="timeout"
            ) from None

    @contextlib.contextmanager
    def place_for_film(self) -> Any:
        if self.films >= self.settings.max_films:
            message = f"{self.films} films are being made already; try again in a while"
            raise RequestError(429, message, code="queue_full", headers={"Retry-After": "5"})
        self.films += 1
        try:
            yield
        finally:
            self.films -= 1


def _add_images(app: FastAPI, service: _Service) -> None:
    settings = service.settings

    @app.post("/v1/images/generations", response_model=ImagesResponse, tags=["images"])
    async def generate(asked: GenerationRequest, request: HTTPRequest) -> Response:
        """Draw pictures; OpenAI's request and answer, with `seed` and `truncation` beside."""
        service.check_model(asked.model)
        prompt, size = service.caption(asked.prompt), service.side(asked.size)
        if asked.n > settings.max_n:
            raise RequestError(
                400, f"n is {asked.n}, and at most {settings.max_n} pictures are drawn", "n", "invalid_value"
            )
        seeds = _seeds(asked.seed, asked.n)
        images = await service.draw(
            [
                Picture((Point(prompt, seed),), asked.truncation, size, asked.output_format, asked.output_compression)
                for seed in seeds
            ]
        )
        data: list[dict[str, Any]] = []
        for image, seed in zip(images, seeds, strict=True):
            if asked.response_format == "url":
                address = request.url_for("linked", name=service.links.add(image))
                data.append({"url": str(address), "seed": seed})
            else:
                data.append({"b64_json": base64.b64encode(image.data).decode(), "seed": seed})
        return _images(data, asked.output_format, images[0].side)

    @app.get("/v1/images/files/{name}", tags=["images"], response_class=Response, responses=_PICTURE)  # type: ignore[arg-type]
    async def linked(name: str) -> Response:
        """A picture behind a link, for as long as it is kept."""
        image = service.links.get(name)
        if image is None:
            raise RequestError(404, "this picture is not kept any more; have it drawn again", code="expired")
        return Response(image.data, media_type=_TYPES[image.format], headers={"Cache-Control": "private, max-age=3600"})

    @app.post("/v1/images/interpolations", tags=["images"], response_class=Response, responses=_FILM)  # type: ignore[arg-type]
    async def interpolate(asked: FilmRequest) -> Response:
        """Draw a film from picture to picture. The answer is the file itself, or, for `png`, its frames as JSON."""
        service.check_model(asked.model)
        size = service.side(asked.size)
        points = [
            Point(service.caption(keyframe.prompt, f"keyframes.{number}.prompt"), keyframe.seed)
            for number, keyframe in enumerate(asked.keyframes)
        ]
        count = videos.length(len(points), asked.frames, asked.loop)
        if count > settings.max_frames:
            message = (
                f"this film would have {count} frames, and at most {settings.max_frames} are drawn; use fewer frames"
            )
            raise RequestError(400, message, "frames", "invalid_value")
        facts = service.backend.facts()
        as_frames = asked.output_format == "png"
        if not as_frames:
            try:
                check_film(Path(f"film.{asked.output_format}"), asked.fps, size or facts.side)
            except GalipError as error:
                raise RequestError(
                    400, f"output_format {asked.output_format}: {error}", "output_format", "invalid_value"
                ) from error
        pictures = videos.frames(
            points, asked.frames, asked.loop, asked.easing, asked.truncation, size, "png" if as_frames else "rgb"
        )
        texts = {"model": facts.model, "weights": facts.weights, "galip": __version__}
        texts["keyframes"] = json.dumps([[point.prompt, point.seed] for point in points], ensure_ascii=False)
        with service.place_for_film():
            images = videos.draw_frames(service.backend, pictures, min(settings.max_batch, settings.max_queue))
            if as_frames:
                frames = await service.in_time(_all(images), settings.film_time_limit)
                data = [{"b64_json": base64.b64encode(image.data).decode()} for image in frames]
                return _images(data, "png", frames[0].side)
            film = await service.in_time(
                videos.encode(images, asked.output_format, asked.fps, texts), settings.film_time_limit
            )
        return Response(film, media_type=_TYPES[asked.output_format])

    @app.get("/v1/models", tags=["models"])
    async def models() -> ModelList:
        """The one model that is served."""
        return ModelList(data=[ModelCard(id=service.backend.facts().model)])

    @app.get("/v1/models/{model:path}", tags=["models"])
    async def model(model: str) -> ModelCard:
        """The same by its name."""
        service.check_model(model)
        return ModelCard(id=model)


def _add_page(app: FastAPI, service: _Service) -> None:
    settings = service.settings

    async def draw_one(picture: Picture) -> Response:
        image = (await service.draw([picture]))[0]
        return Response(image.data, media_type=_TYPES[image.format])

    @app.post("/app/draw", tags=["app"], response_class=Response, responses=_PICTURE)  # type: ignore[arg-type]
    async def draw(asked: DrawRequest) -> Response:
        """Draw one picture, of one point of the space or blended of several. The answer is the file itself."""
        points = tuple(
            Point(service.caption(point.prompt, f"points.{number}.prompt"), point.seed, point.weight)
            for number, point in enumerate(asked.points)
        )
        if not any(point.weight for point in points):
            raise RequestError(400, "points: every weight is 0; give one of them a share", "points", "invalid_value")
        size = service.side(asked.size)
        return await draw_one(Picture(points, asked.truncation, size, asked.format, asked.quality))

    @app.get("/app/draw", tags=["app"], response_class=Response, responses=_PICTURE)  # type: ignore[arg-type]
    async def show(
        request: HTTPRequest,
        prompt: str,
        seed: Seed = 0,
        truncation: Truncation = 1.0,
        size: int | None = None,
        format: Annotated[Format, Query()] = "png",
    ) -> Response:
        """The same of one point, as an address, for an `<img>`."""
        picture = Picture((Point(service.caption(prompt), seed),), truncation, service.side(size), format)
        tag = f'"{hashlib.sha256(repr((picture, service.backend.facts())).encode()).hexdigest()[:32]}"'
        headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        response = await draw_one(picture)
        response.headers.update(headers)
        return response

    @app.get("/app/facts", tags=["app"])
    async def facts() -> AppFacts:
        """What the page must know of the model and of the limits."""
        known = service.backend.facts()
        return AppFacts(
            model=known.model,
            weights=known.weights,
            side=known.side,
            engine=known.engine,
            version=__version__,
            max_size=max(known.side, settings.max_size),
            max_prompt=settings.max_prompt,
            max_n=settings.max_n,
            max_frames=settings.max_frames,
        )

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return FileResponse(STATIC / "docs.html", headers={"Cache-Control": "no-cache"})

    swagger = Path(str(resources.files("fastapi_offline") / "static"))
    app.mount("/static/swagger", StaticFiles(directory=swagger))
    app.mount("/static", StaticFiles(directory=STATIC))


def _add_machines(app: FastAPI, service: _Service, metrics: Metrics) -> None:
    @app.get("/healthz", tags=["service"])
    async def healthz() -> dict[str, str]:
        """Whether the process answers at all."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["service"])
    async def readyz() -> dict[str, str]:
        """Whether a picture that is asked for now would be drawn; 503 while the model is loaded."""
        if not service.backend.ready():
            raise RequestError(503, "nothing can draw yet", code="unavailable", headers={"Retry-After": "2"})
        return {"status": "ready"}

    @app.get("/metrics", tags=["service"], response_class=Response)
    async def show_metrics() -> Response:
        """Counters for Prometheus."""
        page, kind = metrics.page()
        return Response(page, headers={"Content-Type": kind})


def _seeds(first: int | None, count: int) -> list[int]:
    if first is None:
        return [secrets.randbelow(_RANDOM_SEEDS) for _ in range(count)]
    if first + count > SEED_LIMIT:
        raise RequestError(
            400, f"seed {first}: with n = {count} the last seed would be too large", "seed", "invalid_value"
        )
    return list(range(first, first + count))


def _images(data: list[dict[str, Any]], format: str, side: int) -> Response:
    answer = {
        "created": int(time.time()),
        "data": data,
        "background": "opaque",
        "output_format": format,
        "size": f"{side}x{side}",
    }
    return Response(json.dumps(answer), media_type="application/json")


async def _all(images: AsyncIterator[EncodedImage]) -> list[EncodedImage]:
    return [image async for image in images]
