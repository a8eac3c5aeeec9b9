"""`/openapi.json`: what FastAPI finds out by itself, with the errors and the key as they really are."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from galip.serving.http.middleware import needs_key
from galip.serving.http.schemas import ErrorResponse

_ERRORS = {
    "400": "A field is missing or out of range; `param` names it, `message` says what to do.",
    "401": "The server asks for its key.",
    "413": "The body is too large.",
    "429": "Too much is waiting; `Retry-After` says when there may be room.",
    "500": "The model failed, or its process died.",
    "503": "The model is being loaded.",
    "504": "It took too long.",
}


def add_openapi(app: FastAPI) -> None:
    """Describe an app once all of its routes are there."""
    found: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not found:
            found.update(_describe(app))
        return found

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way


def _describe(app: FastAPI) -> dict[str, Any]:
    described = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
    schemas = described["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    error = ErrorResponse.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(error.pop("$defs"), ErrorResponse=error)
    described["components"]["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer", "description": "Asked for where the server was started with a key."}
    }
    answer = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorResponse"}}}
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            operation["operationId"] = _operation_id(method, path)
            responses = operation["responses"]
            responses.pop("422", None)  # FastAPI's own; here it is 400
            if not needs_key(path):
                continue
            operation["security"] = [{}, {"key": []}]
            if path in ("/v1/images/edits", "/v1/images/variations"):
                responses["501"] = {"description": "Images are not edited here.", "content": answer}
            wanted = _ERRORS if method == "post" or path == "/app/draw" else {"401": _ERRORS["401"]}
            responses.update({status: {"description": text, "content": answer} for status, text in wanted.items()})
    return described


def _operation_id(method: str, path: str) -> str:
    """A name for generated clients, such as "post_v1_images_generations"."""
    words = "".join(character if character.isalnum() else "_" for character in path.partition(":")[0])
    return f"{method}_{words.strip('_')}"
