"""`galip serve` where there is no torch: the official client, the page, and the whole of /v1 on ONNX Runtime."""

from __future__ import annotations

import base64
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
import tiny
from PIL import Image
from serving.local_service import wait_for

import galip

# Python runs this at the start of every process that finds it on its path, worker processes too.
BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "diffusers", "accelerate", "onnx", "ray"):
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocked())
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as it is run without torch."""
    folder = tmp_path_factory.mktemp("models")
    words = [sys.executable, "-m", "galip", "export", str(tiny.save(folder / "source")), "-o", str(folder / "tiny")]
    subprocess.run([*words, "--format", "onnx"], check=True, capture_output=True)
    return folder / "tiny"


@pytest.fixture(scope="module")
def url(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the command, run without torch."""
    blocked = tmp_path_factory.mktemp("blocked")
    (blocked / "sitecustomize.py").write_text(BLOCKED, encoding="utf-8")
    path = os.pathsep.join([str(blocked), os.environ.get("PYTHONPATH", "")])
    words = [sys.executable, "-m", "galip", "serve", "--model", str(model), "--name", "tiny", "--port", "0"]
    log = blocked / "log"
    with log.open("w") as file:
        process = subprocess.Popen(words, stdout=file, stderr=file, env={**os.environ, "PYTHONPATH": path})
    try:
        wait_for(lambda: "galip: http" in log.read_text() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        url = log.read_text().partition("galip: ")[2].split()[0]
        wait_for(lambda: httpx.get(url + "readyz").status_code == 200 or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield url
    finally:
        process.terminate()
        process.wait()


def test_torch_is_blocked_in_these_processes(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BLOCKED, encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "-c", "import torch"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "torch is blocked" in ended.stderr


def test_the_official_client_gets_the_models_images(url: str, model: Path) -> None:
    client = openai.OpenAI(base_url=url + "v1", api_key="none", max_retries=0)
    answer = client.images.generate(prompt="a red heart", n=2, extra_body={"seed": 5})
    images = [base64.b64decode(image.b64_json or "") for image in answer.data or []]
    expected = galip.load(model, engine="onnxruntime")("a red heart", num_images_per_prompt=2, seed=5).images
    for data, image in zip(images, expected, strict=True):
        difference = np.asarray(Image.open(io.BytesIO(data)), np.int16) - np.asarray(image, np.int16)
        assert np.abs(difference).max() <= 1
    assert [model.id for model in client.models.list()] == ["tiny"]


def test_the_page_and_what_it_asks_for(url: str) -> None:
    assert "<title>galip</title>" in httpx.get(url).text
    assert httpx.get(url + "app/facts").json()["engine"] == "onnxruntime"
    points = [{"prompt": "a red heart", "seed": 3}, {"prompt": "a blue car", "seed": 8}]
    blend = httpx.post(url + "app/draw", json={"points": points, "format": "webp"})
    assert Image.open(io.BytesIO(blend.content)).format == "WEBP"


@pytest.mark.parametrize("format", ["webp", "gif", "mp4"])
def test_videos(url: str, format: str) -> None:
    keyframes = [{"prompt": "a red heart", "seed": 3}, {"prompt": "a blue car", "seed": 8}]
    body = {"keyframes": keyframes, "frames": 3, "output_format": format}
    answer = httpx.post(url + "v1/images/interpolations", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    assert len(answer.content) > 100


def test_links(url: str) -> None:
    body = {"prompt": "a red heart", "response_format": "url"}
    link = httpx.post(url + "v1/images/generations", json=body).json()["data"][0]["url"]
    assert httpx.get(link).headers["content-type"] == "image/png"


def test_the_command_bounds_heads_and_knows_its_own_names(url: str) -> None:
    assert httpx.get(url, headers={"X": "y" * 70_000}).status_code == 431
    refused = httpx.get(url + "v1/models", headers={"Host": "evil.example"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "host_not_allowed")
    assert httpx.get(url + "v1/models", headers={"Host": "localhost"}).status_code == 200
