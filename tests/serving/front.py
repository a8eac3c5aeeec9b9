"""What may stand between a browser and the service: a proxy with a path of its own, slow, or without the service."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_KEPT = ("content-type", "content-security-policy", "etag", "cache-control", "retry-after", "location")
_GONE = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"


class Front:
    """A reverse proxy on this machine that takes `prefix` off every path, as nginx does for `--root-path`.

    Args:
        service: address of the service behind it, which must outlive it.
        prefix: such as "/pictures".

    Attributes:
        url: where a browser finds the page.
        delay: seconds that every answer of `/app` is held back.
        gone: whether the service is unreachable; the proxy then answers 502 with a page of its own.
        asked: paths that browsers have asked for.
        most: answers of `/app` that were waited for at the same time, at the most.
    """

    def __init__(self, service: str, prefix: str) -> None:
        self.delay, self.gone = 0.0, False
        self.asked: list[str] = []
        self.most, self._waiting, self._counting = 0, 0, threading.Lock()
        front, behind = self, urlsplit(service)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                front.asked.append(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if front.gone:
                    self.answer(502, {"Content-Type": "text/html"}, _GONE)
                elif not self.path.startswith(prefix + "/"):
                    self.answer(404, {"Content-Type": "text/plain"}, b"not of this service")
                else:
                    self.forward(self.path.removeprefix(prefix), body)

            do_POST = do_GET  # noqa: N815

            def forward(self, path: str, body: bytes) -> None:
                with front.counted(path.startswith("/app/")):
                    self.fetch(path, body)

            def fetch(self, path: str, body: bytes) -> None:
                if path.startswith("/app/"):
                    time.sleep(front.delay)
                headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
                connection = http.client.HTTPConnection(behind.hostname or "", behind.port, timeout=60)
                try:
                    connection.request(self.command, path, body, headers)
                    response = connection.getresponse()
                    data = response.read()
                finally:
                    connection.close()
                kept = {name: value for name, value in response.getheaders() if name.lower() in _KEPT}
                self.answer(response.status, kept, data)

            def answer(self, status: int, headers: dict[str, str], data: bytes) -> None:
                try:
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)
                except (BrokenPipeError, ConnectionResetError):
                    pass  # the browser gave the request up

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.origin = f"http://127.0.0.1:{self._server.server_port}/"
        self.url = f"{self.origin.rstrip('/')}{prefix}/"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @contextlib.contextmanager
    def counted(self, counts: bool) -> Iterator[None]:
        """Count one more that is waited for."""
        with self._counting:
            self._waiting += counts
            self.most = max(self.most, self._waiting)
        try:
            yield
        finally:
            with self._counting:
                self._waiting -= counts

    def stop(self) -> None:
        """Take no more requests."""
        self._server.shutdown()
        self._server.server_close()
