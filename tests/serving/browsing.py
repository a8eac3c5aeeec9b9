"""A served page in headless Chromium, as tests of the web app and its benchmark use it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Locator, Page, Playwright, Request

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
"""The system's own browser: none is ever downloaded."""

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
ZOOMED = {"width": 640, "height": 450}
"""What is left of a wide window when a person enlarges everything to 200 %."""
TABS = ["draw", "morph", "explore", "walk", "grid"]

_START = 120.0
"""Seconds that a server may take to load its model on a busy machine."""


def launch(playwright: Playwright) -> Browser:
    """Headless Chromium with a profile of its own."""
    return playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)


class Service:
    """`galip serve` in a process of its own.

    Args:
        log: file for what it says.
        options: further words of the command line.
        key: that it asks for.
    """

    def __init__(self, log: Path, *options: str, key: str = "") -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self._log = log
        self._options = options
        self._environment = {**os.environ, "HF_HUB_OFFLINE": "1", "GALIP_API_KEY": key}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it can draw."""
        command = [sys.executable, "-m", "galip", "serve", "--port", str(self.port), *self._options]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=self._environment)
        deadline = time.monotonic() + _START
        while True:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"the server did not start:\n{self._log.read_text(encoding='utf-8')}")
            try:
                with urllib.request.urlopen(self.url + "readyz", timeout=5):
                    return
            except OSError:
                time.sleep(0.1)

    def stop(self) -> None:
        """End it as a service manager would."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


def watch(page: Page, origin: str) -> list[str]:
    """Collect what a page must never do: ask what is not below `origin`, break its Content-Security-Policy, throw."""
    problems: list[str] = []

    def asked(request: Request) -> None:
        if not request.url.startswith((origin, "blob:", "data:")):
            problems.append(f"asked elsewhere: {request.url}")

    page.on("request", asked)
    page.on("pageerror", lambda error: problems.append(f"thrown: {error}"))
    # That a request failed is in the console too; tests of failing servers want it to.
    page.on(
        "console",
        lambda said: (
            problems.append(f"console: {said.text}")
            if said.type == "error" and "Failed to load resource" not in said.text
            else None
        ),
    )
    return problems


_PIXELS = """async element => {
    if (element instanceof HTMLImageElement) await element.decode();
    const canvas = document.createElement("canvas");
    canvas.width = element.naturalWidth || element.width;
    canvas.height = element.naturalHeight || element.height;
    canvas.getContext("2d").drawImage(element, 0, 0);
    return canvas.toDataURL("image/png");
}"""


def png(picture: Locator) -> bytes:
    """What an <img> or <canvas> shows, in its own resolution."""
    return base64.b64decode(picture.evaluate(_PIXELS).partition(",")[2])


def digest(picture: Locator) -> str:
    """Tells pictures apart."""
    return hashlib.sha256(png(picture)).hexdigest()[:16]


def ask(service: Service, path: str, body: dict[str, Any]) -> bytes:
    """A request without the page, to compare with."""
    request = urllib.request.Request(
        service.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return bytes(response.read())
