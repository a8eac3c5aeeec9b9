"""The routes of OpenAI's image API that begin with an image: edits and variations, which come as forms."""

from __future__ import annotations

from typing import Any, TypeVar

from fastapi import FastAPI
from fastapi import Request as HTTPRequest
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.responses import Response

from galip.serving.http.answers import image_answer
from galip.serving.http.errors import RequestError
from galip.serving.http.images import IMAGES, link_maker
from galip.serving.http.schemas import EditForm, ImageOptions, VariationForm
from galip.serving.http.service import Service
from galip.serving.pool import EditRequest

Form = TypeVar("Form", bound=ImageOptions)

_MAX_FILES, _MAX_FIELDS = 17, 64  # OpenAI takes 16 images and a mask
_FILES = ("mask", "markup")


def add_edit_routes(app: FastAPI, service: Service) -> None:
    """Add /v1/images/edits and /v1/images/variations to an app."""

    @app.post(
        "/v1/images/edits",
        tags=["images"],
        summary="Edit an image",
        responses=IMAGES,
        openapi_extra=_form_body(EditForm),
    )
    async def edit(request: HTTPRequest) -> Response:
        """What the model finds nearest to an image, changed to show a prompt. It takes a search: seconds to minutes."""
        image, asked = await _read(service, request, EditForm)
        prompt = service.clean_prompt(asked.prompt)
        amounts = (0.0, *[asked.amount] * (asked.n - 1))
        return await _answer(service, request, image, asked, prompt, amounts, asked.strength)

    @app.post(
        "/v1/images/variations",
        tags=["images"],
        summary="Vary an image",
        responses=IMAGES,
        openapi_extra=_form_body(VariationForm),
    )
    async def vary(request: HTTPRequest) -> Response:
        """Images near what the model finds nearest to an image: its sentence vector, and noise a little way off."""
        image, asked = await _read(service, request, VariationForm)
        return await _answer(service, request, image, asked, "", (asked.amount,) * asked.n, 0.0)


async def _answer(
    service: Service,
    request: HTTPRequest,
    image: bytes,
    asked: ImageOptions,
    prompt: str,
    amounts: tuple[float, ...],
    strength: float,
) -> Response:
    headers = service.ignored_header(asked)
    service.check_model(asked.model)
    service.check_count(asked.n)
    seeds = service.seeds(asked.seed, asked.n)
    wanted = tuple(service.requests(asked, prompt, seeds))
    images = await service.edit(EditRequest(image, wanted, amounts, strength))
    return image_answer(images, seeds, asked, "image_edit.completed", link_maker(service, request), headers)


async def _read(service: Service, request: HTTPRequest, kind: type[Form]) -> tuple[bytes, Form]:
    """The image and the fields of a form.

    Raises:
        RequestError: nothing is edited here, or the body is no form, or has no image or several.
        RequestValidationError: a field is wrong.
    """
    service.check_edits()
    try:
        form = await request.form(max_files=_MAX_FILES, max_fields=_MAX_FIELDS)
    except HTTPException as error:
        raise RequestError(400, f"the body is not a form: {error.detail}", code="invalid_form") from error
    try:
        image = await _image_of(form)
        fields = {name: value for name, value in form.items() if isinstance(value, str) and value}
        try:
            return image, kind.model_validate(fields)
        except ValidationError as error:
            raise RequestValidationError(error.errors()) from error
    finally:
        await form.close()


async def _image_of(form: FormData) -> bytes:
    images = [*form.getlist("image"), *form.getlist("image[]")]
    for name in _FILES:
        if form.get(name):
            raise RequestError(400, f"{name}: images are edited as a whole; leave {name} out", name, "invalid_value")
    if not images:
        message = "image is missing; send a form (multipart/form-data) with a file of this name"
        raise RequestError(400, message, "image", "missing_required_parameter")
    if len(images) > 1:
        raise RequestError(400, f"image: {len(images)} are given; give one", "image", "invalid_value")
    if not isinstance(images[0], UploadFile):
        raise RequestError(400, "image: this is a text; send a file", "image", "invalid_value")
    return await images[0].read()


def _form_body(kind: type[ImageOptions]) -> dict[str, Any]:
    """What OpenAPI says of a form."""
    schema = kind.model_json_schema()
    schema["properties"] = {
        "image": {"type": "string", "format": "binary", "description": "A PNG, JPEG or WebP file."},
        **schema["properties"],
    }
    schema["required"] = ["image", *schema.get("required", [])]
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}
