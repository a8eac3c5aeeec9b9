"""uvicorn's HTTP with bounds on a request's head, which it reads before any code of an app is asked."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from galip.serving.http.errors import RequestError

MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 100
HEAD_TIME_LIMIT = 10.0
"""Seconds from a connection, or from a request's first byte, to the end of its head."""

_LINGER = 2.0  # seconds in which what a refused client still sends is read and dropped, so that it sees the answer
_MAX_DROPPED = 16 * 2**20  # bytes


class BoundedHTTPProtocol(HttpToolsProtocol):
    """Refuses heads that are too long, have too many headers, or take too long; trailers count as headers.

    The parser keeps an unfinished header to itself, so bytes that bring nothing are counted as they come.

    Attributes:
        head_time_limit: see `HEAD_TIME_LIMIT`.
    """

    head_time_limit = HEAD_TIME_LIMIT

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes = self._num_headers = self._unparsed = self._dropped = 0
        self._timer: asyncio.TimerHandle | None = None
        self._refusal: RequestError | None = None
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what was waited for."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what has come, or drop it once the client is refused."""
        if self._refused:
            self._dropped += len(data)
            if self._dropped > _MAX_DROPPED:
                self.transport.abort()
            return
        self._unparsed += len(data)
        super().data_received(data)
        if self._unparsed > MAX_HEAD_BYTES and not self._refused and not self.transport.is_closing():
            self._refuse(_too_long())

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be parsed, or was refused while it was parsed."""
        self._refuse(self._refusal or RequestError(400, "this is not a request of HTTP", code="invalid_request"))

    # ---- what the parser has found

    def on_message_begin(self) -> None:
        """Begin to count a head."""
        self._head_bytes = self._num_headers = self._unparsed = 0
        if self._timer is None:
            self._start_timer()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Count a part of the first line."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header."""
        self._num_headers += 1
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Hand the request to the app."""
        self._unparsed = 0
        self._stop_timer()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Hand a part of the body to the app, which counts it."""
        self._unparsed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request."""
        self._unparsed = 0
        super().on_message_complete()

    def _count(self, size: int) -> None:
        self._unparsed = 0
        self._head_bytes += size
        if self._num_headers > MAX_HEADERS:
            self._refusal = RequestError(431, f"there are more than {MAX_HEADERS} headers", code="too_large")
        elif self._head_bytes > MAX_HEAD_BYTES:
            self._refusal = _too_long()
        if self._refusal is not None:
            raise self._refusal  # the parser stops, and `send_400_response` is called

    # ---- refusing

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(self.head_time_limit, self._on_time_up)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_time_up(self) -> None:
        self._refuse(
            RequestError(408, f"the head of the request did not come within {self.head_time_limit:g} s", code="timeout")
        )

    def _refuse(self, error: RequestError) -> None:
        self._stop_timer()
        self._refused = True
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.close()  # an earlier request of this connection is being answered; nothing can be said
            return
        response = error.response()
        lines = [STATUS_LINE[error.status], b"connection: close\r\n"]
        lines += [name + b": " + value + b"\r\n" for name, value in response.raw_headers]
        self.transport.write(b"".join([*lines, b"\r\n", bytes(response.body)]))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_LINGER, self.transport.close)


def _too_long() -> RequestError:
    return RequestError(431, f"the head of the request has more than {MAX_HEAD_BYTES} bytes", code="too_large")
