"""Middleware before the app: bounded bodies, clients that go away, keys, headers, metrics.

All of it is plain ASGI: the usual middleware classes of web frameworks hide that a client has gone away.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from galip.serving.http.errors import RequestError
from galip.serving.http.metrics import Metrics
from galip.serving.http.settings import Settings

access_log = logging.getLogger("galip.access")

_GONE = 499  # as nginx notes it
_MAX_DROPPED, _MAX_DROPPING = 64 * 2**20, 5.0  # bytes, and seconds, of a refused request's body that are read

_PAGE_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'self'"
)
# The page about the API is Swagger's own, which sets styles of elements from its script.
_DOCS_POLICY = _PAGE_POLICY + "; style-src 'self' 'unsafe-inline'"

_OPEN = ("/", "/static", "/docs", "/openapi.json", "/healthz", "/readyz", "/metrics", "/v1/images/files")
"""What needs no key: pages without any generated image, what machines ask, and links that are secrets themselves."""


_UPLOADS = ("/v1/images/edits", "/v1/images/variations")
"""Where requests bring an image, and may be larger."""


class ServiceMiddleware:
    """The outermost layer of the app.

    Args:
        app: what it protects.
        settings: limits and keys.
        metrics: where requests are counted.
    """

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics
        self._keys = [_digest(key) for key in settings.api_keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self._metrics.begun()
        begun, status, endpoint = time.monotonic(), _GONE, "refused"
        request_id = f"req_{secrets.token_hex(16)}"
        head_only = scope["method"] == "HEAD"
        if head_only:
            scope = {**scope, "method": "GET"}

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = [(b"x-request-id", request_id.encode()), *_headers(scope["path"])]
                message["headers"] = [*message.get("headers", []), *own]
            elif head_only and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        try:
            try:
                self._check_host(scope)
                self._check_key(scope)
                body = await self._body(scope, receive)
            except RequestError as error:
                await _refuse(error, scope, receive, watched)
                return
            if body is None:
                return
            endpoint = "unknown"
            await self._answer(scope, body, receive, watched)
        finally:
            route = scope.get("route")  # set by the route that took the request
            endpoint = route.path if isinstance(route, APIRoute) else endpoint
            seconds = time.monotonic() - begun
            self._metrics.answered(endpoint, status, seconds)
            # Without the query string, which may hold a prompt.
            client, path = scope.get("client") or ("-", 0), quote(scope["path"])
            method = "HEAD" if head_only else scope["method"]
            access_log.info('%s "%s %s" %d %.0f ms %s', client[0], method, path, status, 1000 * seconds, request_id)

    def _check_host(self, scope: Scope) -> None:
        """Refuse names that are not this server's.

        A page from elsewhere whose name is made to lead to this machine (DNS rebinding) would count as this server's
        own for the browser, and could use what only this machine's user should.
        """
        allowed = self._settings.allowed_hosts
        host = host_name(_header(scope, b"host"))
        if allowed and "*" not in allowed and host not in {name.lower() for name in allowed}:
            message = f"this server does not go by the name {host!r}; its owner may let it by --allowed-host"
            raise RequestError(403, message, code="host_not_allowed")

    def _check_key(self, scope: Scope) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if not self._keys or scope["method"] == "OPTIONS" or not needs_key(path):
            return
        kind, _, key = _header(scope, b"authorization").partition(" ")
        given = _digest(key.strip()) if kind.lower() == "bearer" else ""
        # All keys are compared, in the time that it always takes.
        right = [hmac.compare_digest(given, known) for known in self._keys]
        if not any(right):
            message = "this server asks for its key, as the header 'Authorization: Bearer KEY'"
            raise RequestError(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})

    async def _body(self, scope: Scope, receive: Receive) -> bytes | None:
        """The whole body; None where the client has gone away."""
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        limit = self._settings.max_upload if path in _UPLOADS else self._settings.max_body
        length = _header(scope, b"content-length")
        too_large = RequestError(
            413, f"the body has more than {limit} bytes", code="too_large", headers={"Connection": "close"}
        )
        if length.isdigit() and int(length) > limit:
            raise too_large

        async def read() -> bytes | None:
            body = bytearray()
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                body += message.get("body", b"")
                if len(body) > limit:
                    raise too_large
                if not message.get("more_body"):
                    return bytes(body)

        try:
            return await asyncio.wait_for(read(), self._settings.time_limit)
        except (TimeoutError, asyncio.TimeoutError):
            raise RequestError(
                408, "the body did not come in time", code="timeout", headers={"Connection": "close"}
            ) from None

    async def _answer(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        """Run the app, and stop it when the client goes away."""
        given, gone = False, asyncio.Event()

        async def replay() -> Message:
            nonlocal given
            if not given:
                given = True
                return {"type": "http.request", "body": body, "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def listen() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            gone.set()

        answering = asyncio.ensure_future(self._app(scope, replay, send))
        listening = asyncio.ensure_future(listen())
        try:
            await asyncio.wait((answering, listening), return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                answering.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await answering
        finally:
            answering.cancel()
            listening.cancel()


async def _refuse(error: RequestError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with an error, and read what the client still sends before the answer ends.

    A connection that is closed before everything has been read is reset, and the client may never see the answer.
    """
    response = error.response()
    await send({"type": "http.response.start", "status": error.status, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": bytes(response.body), "more_body": True})
    if not _header(scope, b"expect"):  # who waits for a word before sending a body has been given it
        with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
            await asyncio.wait_for(_drop_body(receive), _MAX_DROPPING)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _drop_body(receive: Receive) -> None:
    dropped = 0
    while dropped <= _MAX_DROPPED:
        message = await receive()
        dropped += len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            return


def host_name(header: str) -> str:
    """The name in a Host header, in lower case, without the port and the brackets of IPv6."""
    host = header.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].removesuffix(".")


def _headers(path: str) -> Sequence[tuple[bytes, bytes]]:
    policy = _DOCS_POLICY if path.rstrip("/").endswith("/docs") else _PAGE_POLICY
    return [
        (b"content-security-policy", policy.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
    ]


def needs_key(path: str) -> bool:
    """Whether an address, without what a proxy puts before it, is behind the key where the server has one."""
    return not any(path == place or (place != "/" and path.startswith(place + "/")) for place in _OPEN)


def _header(scope: Scope, name: bytes) -> str:
    found: Any = next((value for key, value in scope["headers"] if key == name), b"")
    return found.decode("latin-1")  # type: ignore[no-any-return]


def _digest(key: str) -> str:
    """Of equal length for all keys, so that comparing tells nothing of theirs."""
    return hashlib.sha256(key.encode()).hexdigest()
