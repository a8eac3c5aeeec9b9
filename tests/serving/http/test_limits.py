"""What a client may send: bounded heads and bodies, names of the server, and what is not logged."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from galip.serving.http.addresses import LOOPBACK_NAMES, allowed_hosts, is_loopback
from galip.serving.http.app import create_app
from galip.serving.http.middleware import host_name
from galip.serving.http.protocol import MAX_HEAD_BYTES, MAX_HEADERS, BoundedHTTPProtocol
from galip.serving.http.settings import Settings
from galip.serving.pool import EncodedImage, ImageRequest, ModelInfo

MAX_BODY = 4096


class HastyProtocol(BoundedHTTPProtocol):
    head_time_limit = 0.5


class InstantPool:
    """Answers at once: here it matters what reaches it, not what it generates."""

    async def start(self) -> None: ...

    async def generate(self, requests: list[ImageRequest]) -> list[EncodedImage]:
        return [EncodedImage(b"image", "png", 8, 8) for _ in requests]

    def info(self) -> ModelInfo:
        return ModelInfo("instant", 8, "none", "0")

    def ready(self) -> bool:
        return True

    async def close(self) -> None: ...


@contextlib.contextmanager
def running(protocol: type[BoundedHTTPProtocol] = BoundedHTTPProtocol, **settings: Any) -> Iterator[int]:
    """The app on a port of the loopback interface."""
    app = create_app(InstantPool(), Settings(max_body=MAX_BODY, **settings))
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(app, http=protocol, ws="none", access_log=False, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with running() as port:
        yield port


def talk(port: int, *parts: bytes, limit: int = 1 << 20) -> bytes:
    """Send all parts, then read until the server ends the connection; a reset is an error."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        for part in parts:
            connection.sendall(part)
        found = b""
        while (data := connection.recv(65536)) and len(found) < limit:
            found += data
    return found


def taken(port: int, begin: bytes) -> int:
    """Bytes that the server takes of something without an end, of 64 MB at the most."""
    sent = 0
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(begin)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(4000):
                connection.sendall(b"y" * 16384)
                sent += 16384
    return sent


def head(*headers: bytes, line: bytes = b"GET /healthz HTTP/1.1") -> bytes:
    return b"\r\n".join([line, b"Host: localhost", *headers, b"", b""])


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def error(answer: bytes) -> dict[str, Any]:
    return dict(json.loads(answer.partition(b"\r\n\r\n")[2])["error"])


# ---- heads


def test_an_ordinary_head_is_answered(port: int) -> None:
    many = [b"X-%d: y" % number for number in range(MAX_HEADERS - 2)]
    assert status(talk(port, head(b"Connection: close", *many))) == 200
    assert status(talk(port, head(b"Connection: close", b"X: " + b"y" * 60_000))) == 200


@pytest.mark.parametrize(
    "request_head",
    [
        head(*[b"X-%d: y" % number for number in range(MAX_HEADERS)]),
        head(b"X: " + b"y" * MAX_HEAD_BYTES),
        head(*[b"X-%d: " % number + b"y" * 4000 for number in range(20)]),
        head(line=b"GET /" + b"y" * MAX_HEAD_BYTES + b" HTTP/1.1"),
    ],
    ids=["many headers", "one long header", "many long headers", "a long address"],
)
def test_a_head_that_is_too_large_is_refused(port: int, request_head: bytes) -> None:
    answer = talk(port, request_head)
    assert status(answer) == 431
    assert error(answer)["code"] == "too_large"
    assert b"connection: close" in answer.lower()


@pytest.mark.parametrize("begin", [b"GET /healthz HTTP/1.1\r\nX: ", b"GET /healthz HTTP/1.1\r\nX", b"GET /"])
def test_a_head_that_never_ends_is_not_kept(port: int, begin: bytes) -> None:
    assert taken(port, begin) < 40 * 2**20


def test_a_trailer_that_never_ends_is_refused_too(port: int) -> None:
    line = b"POST /v1/images/generations HTTP/1.1"
    begin = head(b"Transfer-Encoding: chunked", line=line) + b"2\r\n{}\r\n0\r\nX: "
    assert taken(port, begin) < 40 * 2**20


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nX: "], ids=["nothing", "half a head"])
def test_a_head_has_its_time(sent: bytes) -> None:
    with running(HastyProtocol) as port:
        begun = time.monotonic()
        answer = talk(port, sent)
        assert status(answer) == 408
        assert 0.4 < time.monotonic() - begun < 20
        # The next request of a connection has its own.
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall(head())
            answer = b""  # head and body may come one after the other
            while not answer.endswith(b"}"):
                piece = connection.recv(65536)
                assert piece
                answer += piece
            assert status(answer) == 200
            connection.sendall(b"GET /healthz")
            assert status(connection.recv(65536)) == 408


def test_a_slow_answer_is_not_cut_by_the_time_of_heads() -> None:
    class Slow(InstantPool):
        async def generate(self, requests: list[ImageRequest]) -> list[EncodedImage]:
            await asyncio.sleep(1.5)
            return await super().generate(requests)

    app = create_app(Slow(), Settings())
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, http=HastyProtocol, ws="none", log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        address = b"GET /app/draw?prompt=a HTTP/1.1"
        assert status(talk(listener.getsockname()[1], head(b"Connection: close", line=address))) == 200
    finally:
        server.should_exit = True
        thread.join()


def test_what_is_not_http_is_refused_in_the_same_shape(port: int) -> None:
    answer = talk(port, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
    assert status(answer) == 400
    assert error(answer)["code"] == "invalid_request"


# ---- bodies


@pytest.mark.parametrize("size", [MAX_BODY + 1, 8 * 2**20])
def test_an_oversized_body_gets_its_answer_and_an_orderly_end(port: int, size: int) -> None:
    line = b"POST /v1/images/generations HTTP/1.1"
    answer = talk(port, head(b"Content-Length: %d" % size, line=line), b"x" * size)
    assert status(answer) == 413
    assert error(answer)["code"] == "too_large"


def test_an_oversized_body_in_chunks_too(port: int) -> None:
    line = b"POST /v1/images/generations HTTP/1.1"
    chunks = b"1000\r\n" + b"x" * 0x1000 + b"\r\n"
    answer = talk(port, head(b"Transfer-Encoding: chunked", line=line), chunks * 500, b"0\r\n\r\n")
    assert status(answer) == 413


def test_whoever_asks_before_sending_is_told_at_once(port: int) -> None:
    line = b"POST /v1/images/generations HTTP/1.1"
    begun = time.monotonic()
    answer = talk(port, head(b"Content-Length: 1000000", b"Expect: 100-continue", line=line))
    assert status(answer) == 413
    assert time.monotonic() - begun < 4


def test_a_body_that_drips_is_cut_when_the_requests_time_is_up() -> None:
    with running(time_limit=1.0) as port, socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        line = b"POST /v1/images/generations HTTP/1.1"
        connection.sendall(head(b"Content-Length: 100", line=line))
        begun = time.monotonic()
        connection.settimeout(0.2)
        while time.monotonic() - begun < 20:
            connection.sendall(b"x")
            with contextlib.suppress(TimeoutError):
                answer = connection.recv(65536)
                break
        assert status(answer) == 408
        assert time.monotonic() - begun < 10


# ---- names of the server


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("localhost:8000", "localhost"),
        ("LocalHost", "localhost"),
        ("127.0.0.1:1", "127.0.0.1"),
        ("[::1]:8000", "::1"),
        ("[::1]", "::1"),
        ("example.org.:80", "example.org"),
        ("", ""),
    ],
)
def test_the_name_in_a_host_header(header: str, name: str) -> None:
    assert host_name(header) == name


def test_which_names_are_let_in() -> None:
    assert allowed_hosts("127.0.0.1", (), open_to_all=True) == LOOPBACK_NAMES
    assert allowed_hosts("127.0.0.2", ("my.name",), open_to_all=True) == (*LOOPBACK_NAMES, "127.0.0.2", "my.name")
    assert allowed_hosts("127.0.0.1", (), open_to_all=False) == ()
    assert allowed_hosts("0.0.0.0", (), open_to_all=True) == ()
    assert allowed_hosts("0.0.0.0", ("my.name",), open_to_all=False) == ("my.name",)
    assert [is_loopback(host) for host in ("localhost", "::1", "127.9.9.9", "0.0.0.0", "::", "", "example.org")] == [
        *[True] * 3,
        *[False] * 4,
    ]


@pytest.mark.parametrize(
    ("names", "host", "expected"),
    [
        (LOOPBACK_NAMES, b"127.0.0.1", 200),
        (LOOPBACK_NAMES, b"localhost:1234", 200),
        (LOOPBACK_NAMES, b"[::1]:8000", 200),
        (LOOPBACK_NAMES, b"evil.example", 403),
        (LOOPBACK_NAMES, b"localhost.evil.example", 403),
        (LOOPBACK_NAMES, b"", 403),
        ((*LOOPBACK_NAMES, "My.Name"), b"my.name:80", 200),
        (("*",), b"evil.example", 200),
        ((), b"evil.example", 200),
    ],
)
def test_a_name_that_leads_here_from_elsewhere_is_refused(names: tuple[str, ...], host: bytes, expected: int) -> None:
    with running(allowed_hosts=names) as port:
        for path in (b"/", b"/v1/models", b"/static/app.js"):
            answer = talk(port, b"GET " + path + b" HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n")
            assert status(answer) == expected
            assert expected == 200 or error(answer)["code"] == "host_not_allowed"


@pytest.mark.parametrize("path", [b"/static", b"/static/swagger", b"/docs/", b"/v1/models/", b"//evil.example/static"])
def test_nothing_redirects_to_a_given_host(port: int, path: bytes) -> None:
    answer = talk(port, b"GET " + path + b" HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
    assert status(answer) >= 400
    assert b"location:" not in answer.lower()


# ---- what is not logged


def test_prompts_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), running() as port:
        address = b"GET /app/draw?prompt=a+private+heart HTTP/1.1"
        assert status(talk(port, head(b"Connection: close", line=address))) == 200
        body = b'{"prompt": "another private heart"}'
        line = b"POST /v1/images/generations HTTP/1.1"
        length, kind = b"Content-Length: %d" % len(body), b"Content-Type: application/json"
        assert status(talk(port, head(length, kind, b"Connection: close", line=line), body)) == 200
        assert status(talk(port, head(b"Connection: close", line=b"GET /a%0Ab HTTP/1.1"))) == 404
    access = [record.getMessage() for record in caplog.records if record.name == "galip.access"]
    assert access[0].startswith('127.0.0.1 "GET /app/draw" 200 ')
    assert '"GET /a%0Ab" 404' in access[2], "one line for one request"
    assert "private" not in caplog.text
