"""The service without torch: one request by OpenAI's own client, and the web page with everything that it asks for."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest
from light.commands import environment
from openai import OpenAI
from PIL import Image


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where `galip serve` answers."""
    folder = tmp_path_factory.mktemp("serve")
    command = [sys.executable, "-m", "galip", "serve", "--port", "0"]
    with subprocess.Popen(
        command, cwd=folder, env=environment(folder), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if found := re.search(r"http://\S+", line):
                    break
            else:
                pytest.fail("the service ended before it told its address")
            yield found[0]
        finally:
            process.terminate()
            process.wait(60)
    assert sorted(path.name for path in Path(folder).iterdir() if path.name != ".cache") == []


def test_the_openai_client_gets_an_image(address: str) -> None:
    client = OpenAI(base_url=urljoin(address, "v1"), api_key="none", max_retries=5)
    answer = client.images.generate(prompt="a red heart", size="128x128", extra_body={"seed": 7})
    with Image.open(BytesIO(base64.b64decode(answer.data[0].b64_json))) as image:
        assert image.size == (128, 128)
        red, green, _ = image.convert("RGB").getpixel((64, 64))
    assert red > green + 60
    assert [model.id for model in client.models.list()] == ["emoji-64"]


def test_the_page_and_what_it_asks_for_are_there(address: str) -> None:
    with httpx.Client(base_url=address, timeout=60) as client:
        page = client.get("/").raise_for_status()
        assert page.headers["content-type"].startswith("text/html")
        asked = set(re.findall(r'(?:src|href)="([^"#:]+)"', page.text))
        assert any(name.endswith(".js") for name in asked) and any(name.endswith(".css") for name in asked)
        for name in asked:
            assert client.get(urljoin("/", name)).raise_for_status().content, name
        for script in [name for name in asked if name.endswith(".js")]:
            base = urljoin("/", script)
            for part in re.findall(r'from "(\.[^"]+)"', client.get(base).text):
                client.get(urljoin(base, part)).raise_for_status()
        assert client.get("/healthz").raise_for_status()
        assert client.get("/openapi.json").raise_for_status().json()["paths"]
