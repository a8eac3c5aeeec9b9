"""The service on a port of this machine, in a thread of the tests' own process, with a tiny model in a worker."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import uvicorn

from galip.serving.http.app import create_app
from galip.serving.http.metrics import Metrics
from galip.serving.http.settings import Settings
from galip.serving.local.editing import LocalEditor
from galip.serving.local.pool import LocalPool
from galip.serving.model_worker import ModelSpec

PATIENCE = 240.0
"""Seconds for whatever takes a moment on a machine that has nothing else to do, and a start of a worker elsewhere."""


class LocalService:
    """What tests ask of a running service.

    Attributes:
        url: of its root, without the last slash.
        client: an HTTP client with that root.
    """

    def __init__(self, url: str, workers: list[int]) -> None:
        self.url, self._workers = url, workers
        self.client = httpx.Client(base_url=url, timeout=PATIENCE)

    def metric(self, name: str) -> float:
        """A value of /metrics, such as "galip_pictures_total"."""
        for line in self.client.get("/metrics").text.splitlines():
            if line.startswith(name + " "):
                return float(line.split()[-1])
        raise KeyError(name)

    def worker(self) -> int:
        """The process number of the first worker."""
        known = {process.pid for process in multiprocessing.active_children()}
        return next(pid for pid in known if pid is not None and pid not in self._workers)

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[int]:
        """While this lasts the worker does nothing; gives its process number."""
        pid = self.worker()
        os.kill(pid, signal.SIGSTOP)
        try:
            yield pid
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def generate(self, prompt: str = "a red heart", **fields: object) -> httpx.Response:
        """A request as OpenAI's clients send it."""
        return self.client.post("/v1/images/generations", json={"prompt": prompt, **fields})


@contextlib.contextmanager
def serving(
    folder: Path, workers: int = 1, root_path: str = "", edits: bool = False, **settings: object
) -> Iterator[LocalService]:
    """Serve a model folder by torch while the block lasts."""
    limits = Settings(**settings)  # type: ignore[arg-type]
    metrics = Metrics()
    spec = ModelSpec(str(folder), "tiny", "torch", "cpu", 1, limits.max_batch)
    before = [process.pid for process in multiprocessing.active_children() if process.pid is not None]
    editor = LocalEditor(spec, limits) if edits else None
    app = create_app(LocalPool(spec, limits, metrics, workers), limits, metrics, editor=editor)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", root_path=root_path))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    service = LocalService(f"http://127.0.0.1:{listener.getsockname()[1]}", before)
    try:
        wait_for(lambda: service.client.get("/readyz").status_code == 200)
        yield service
    finally:
        service.client.close()
        server.should_exit = True
        thread.join()


def wait_for(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Return as soon as something is so."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if condition():
                return
        time.sleep(0.02)
    raise AssertionError("it did not come about in time")
