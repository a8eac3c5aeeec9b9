"""The page that draws in the browser, as its tests use it."""

from __future__ import annotations

import base64
import importlib.util
import io
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect
from serving.browsing import CHROMIUM, png

ROOT = Path(__file__).parents[2]
WEB = ROOT / "examples" / "web"
PATIENCE = 120_000
"""Milliseconds; the machine may be busy."""

PICTURES = [
    ("3d emoji of red heart", 0),
    ("flat emoji of a <|endoftext|> sleepy cat", 7),
    ("tom &amp; jerry, ‘Ａ’ ﬁsh", 2**32),
    ("an orange pumpkin", 2**63 - 1),
    ("yellow star " * 40, 3),
]
"""Captions and seeds that are drawn by both sides."""

MARKS = [
    pytest.mark.engines,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: chromium is not installed"),
    pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm, which fetches ONNX Runtime for the web"),
]


def script(name: str) -> ModuleType:
    """A script of examples/web as a module."""
    spec = importlib.util.spec_from_file_location(f"web_{name}", WEB / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def serve(site: Path, isolated: bool) -> Iterator[str]:
    """The page below a path of its own, as on a shared host: whatever leaves that path is a fault."""
    with script("serve").server(site.parent, isolated=isolated, quiet=True) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/{site.name}/"
        server.shutdown()


def reach(page: Page, state: str) -> None:
    expect(page.locator("body")).to_have_attribute("data-state", state)


def draw(page: Page, caption: str, seed: int) -> np.ndarray:
    """What the page shows for a caption and a seed, as pixels."""
    page.fill("#seed", str(seed))
    page.fill("#prompt", caption)
    reach(page, "done")
    picture = page.locator("#picture")
    expect(picture).to_have_attribute("data-prompt", caption)
    expect(picture).to_have_attribute("data-seed", str(seed))
    return pixels(png(picture))


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def differing(drawn: list[np.ndarray], expected: list[str]) -> float:
    """The share of all numbers that are not the same."""
    pairs = zip(drawn, expected, strict=True)
    return float(np.mean([a != pixels(base64.b64decode(b)) for a, b in pairs]))


def distances(drawn: list[np.ndarray], expected: list[str]) -> list[int]:
    return [int(np.abs(a - pixels(base64.b64decode(b))).max()) for a, b in zip(drawn, expected, strict=True)]
