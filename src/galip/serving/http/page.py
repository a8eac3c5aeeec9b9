"""The web app's page, and what it asks of the service."""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Query
from fastapi import Request as HTTPRequest
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

from galip import __version__
from galip.serving.http.errors import RequestError
from galip.serving.http.images import IMAGE_FILE
from galip.serving.http.schemas import AppInfo, BlendRequest, Format, Seed, Truncation
from galip.serving.http.service import MEDIA_TYPES, Service
from galip.serving.pool import ImageRequest, WeightedPrompt

STATIC = Path(str(resources.files("galip.serving") / "static"))


def add_page_routes(app: FastAPI, service: Service) -> None:
    """Add the page, its files, and /app to an app."""
    settings = service.settings

    async def generate_one(request: ImageRequest) -> Response:
        image = (await service.generate([request]))[0]
        return Response(image.data, media_type=MEDIA_TYPES[image.format])

    @app.post("/app/draw", tags=["app"], summary="Blend an image", responses=IMAGE_FILE)
    async def blend(asked: BlendRequest) -> Response:
        """Generate one image, of one point of the space or blended of several. The answer is the file itself."""
        prompts = tuple(
            WeightedPrompt(service.clean_prompt(point.prompt, f"points.{number}.prompt"), point.seed, point.weight)
            for number, point in enumerate(asked.points)
        )
        if not any(part.weight for part in prompts):
            raise RequestError(400, "points: every weight is 0; give one of them a share", "points", "invalid_value")
        return await generate_one(
            ImageRequest(
                prompts, asked.truncation, service.size(asked.size), format=asked.format, quality=asked.quality
            )
        )

    @app.get("/app/draw", tags=["app"], summary="Show an image", responses=IMAGE_FILE)
    async def show(
        request: HTTPRequest,
        prompt: str,
        seed: Seed = 0,
        truncation: Truncation = 1.0,
        size: int | None = None,
        format: Annotated[Format, Query()] = "png",
    ) -> Response:
        """The same of one point, as an address, for an `<img>`."""
        part = WeightedPrompt(service.clean_prompt(prompt), seed)
        asked = ImageRequest((part,), truncation, service.size(size), format=format)
        tag = f'"{hashlib.sha256(repr((asked, service.pool.info())).encode()).hexdigest()[:32]}"'
        headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        response = await generate_one(asked)
        response.headers.update(headers)
        return response

    @app.get("/app/facts", tags=["app"], summary="Describe the model and the limits")
    async def info() -> AppInfo:
        """What the page must know of the model and of the limits."""
        known = service.pool.info()
        return AppInfo(
            model=known.name,
            weights=known.weights,
            side=known.image_size,
            engine=known.engine,
            version=__version__,
            max_size=max(known.image_size, settings.max_size),
            max_prompt=settings.max_prompt,
            max_n=settings.max_n,
            max_frames=settings.max_frames,
            edits=service.editor is not None,
            about=known.about,
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
