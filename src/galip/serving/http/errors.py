"""Errors as a client sees them: in the shape of OpenAI's API, `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from galip.errors import GalipError, InputError
from galip.serving.pool import QueueFullError, UnavailableError, WorkerLostError

log = logging.getLogger("galip.serving")

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_UNAVAILABLE_FOR = 2
"""Seconds after which a client may look again whether the service is ready."""


class RequestError(GalipError):
    """A request that cannot be answered.

    Args:
        status: HTTP's.
        message: what is wrong and what to do.
        param: the field that is to blame.
        code: a word for programs.
        headers: of the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code, self.headers = status, param, code, dict(headers or {})

    def response(self) -> Response:
        """The whole answer."""
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        error = {"message": str(self), "type": kind, "param": self.param, "code": self.code}
        return Response(json.dumps({"error": error}), self.status, headers=self.headers, media_type="application/json")


def as_request_error(error: Exception) -> RequestError:
    """What a client is told of an error; of one that it cannot put right nothing but that there was one."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, InputError):
        return RequestError(400, str(error), code="invalid_value")
    if isinstance(error, QueueFullError):
        return RequestError(429, str(error), code="queue_full", headers={"Retry-After": str(error.retry_after)})
    if isinstance(error, UnavailableError):
        return RequestError(503, str(error), code="unavailable", headers={"Retry-After": str(_UNAVAILABLE_FOR)})
    if isinstance(error, WorkerLostError):
        return RequestError(500, str(error), code="worker_lost")
    if isinstance(error, GalipError):
        return RequestError(500, str(error), code="model_failed")
    return RequestError(500, "the server made a mistake; its log says more", code="internal_error")


def add_error_handlers(app: FastAPI) -> None:
    """Answer all errors of an app in this shape."""

    async def known(_request: Request, error: Exception) -> Response:
        return as_request_error(error).response()

    async def unknown(request: Request, error: Exception) -> Response:
        log.exception("%s %s failed", request.method, request.url.path, exc_info=error)
        return as_request_error(error).response()

    async def invalid(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return _of_validation(error.errors()).response()

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        messages = {
            404: f"there is nothing at {request.method} {request.url.path}; see /docs",
            405: f"{request.url.path} does not take {request.method}; see /docs",
        }
        message = messages.get(error.status_code, str(error.detail))
        return RequestError(error.status_code, message, code="not_found", headers=error.headers).response()

    app.add_exception_handler(GalipError, known)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, unknown)


def _of_validation(errors: Sequence[Any]) -> RequestError:
    """The first of pydantic's errors, as one about a field."""
    first = errors[0]
    if first["type"] == "json_invalid":
        return RequestError(400, "the body is not JSON", code="invalid_json")
    place = [str(part) for part in first["loc"] if part not in ("body", "query")]
    param = ".".join(place) or None
    if first["type"] == "extra_forbidden":
        return RequestError(400, f"unknown parameter: {param}", param, "unknown_parameter")
    if first["type"] == "missing":
        if param is None:
            return RequestError(400, "the body is empty; give a JSON object", code="invalid_json")
        return RequestError(400, f"{param} is missing", param, "missing_required_parameter")
    message = first["msg"].removeprefix("Value error, ")
    return RequestError(400, f"{param}: {message}" if param else message, param, "invalid_value")
