"""The routes below /v1: OpenAI's image API and its list of models."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi import Request as HTTPRequest
from starlette.responses import Response

from galip.serving.http.answers import image_answer
from galip.serving.http.errors import RequestError
from galip.serving.http.schemas import GenerationRequest, ImagesResponse, ModelCard, ModelList
from galip.serving.http.service import MEDIA_TYPES, Service
from galip.serving.pool import EncodedImage

Responses = dict[int | str, dict[str, Any]]

IMAGE_FILE: Responses = {
    200: {"content": {"image/png": {}, "image/jpeg": {}, "image/webp": {}}, "description": "The image."}
}
IMAGES: Responses = {
    200: {"model": ImagesResponse, "content": {"text/event-stream": {}}, "description": "The images, or their stream."}
}


def add_image_routes(app: FastAPI, service: Service) -> None:
    """Add /v1/images/generations, links, and /v1/models to an app."""

    @app.post("/v1/images/generations", tags=["images"], summary="Generate images", responses=IMAGES)
    async def generate(asked: GenerationRequest, request: HTTPRequest) -> Response:
        """Images of a prompt; OpenAI's request and answer, with `seed`, `truncation` and `fit` beside."""
        headers = service.ignored_header(asked)
        service.check_model(asked.model)
        prompt = service.clean_prompt(asked.prompt)
        service.check_count(asked.n)
        seeds = service.seeds(asked.seed, asked.n)
        images = await service.generate(service.requests(asked, prompt, seeds))
        return image_answer(images, seeds, asked, "image_generation.completed", link_maker(service, request), headers)

    @app.get("/v1/images/files/{name}", tags=["images"], summary="Get an image by its link", responses=IMAGE_FILE)
    async def linked_image(name: str) -> Response:
        """An image behind a link, for as long as it is kept."""
        image = service.links.get(name)
        if image is None:
            raise RequestError(404, "this image is not kept any more; generate it again", code="expired")
        headers = {"Cache-Control": "private, max-age=3600"}
        return Response(image.data, media_type=MEDIA_TYPES[image.format], headers=headers)

    @app.get("/v1/models", tags=["models"], summary="List the models")
    async def models() -> ModelList:
        """The one model that is served, under its name and its aliases."""
        return ModelList(data=[ModelCard(id=name) for name in service.model_names])

    @app.get("/v1/models/{model:path}", tags=["models"], summary="Get a model")
    async def model(model: str) -> ModelCard:
        """The same by its name."""
        service.check_model(model)
        return ModelCard(id=model)


def link_maker(service: Service, request: HTTPRequest) -> Any:
    """What keeps an image and gives its address as the client of a request sees it."""

    def link(image: EncodedImage) -> str:
        return str(request.url_for("linked_image", name=service.links.add(image)))

    return link
