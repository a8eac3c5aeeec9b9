"""`galip mcp`, as the official package's own client sees it: in this process, and as the command."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from mcp import Client, StdioServerParameters
from PIL import Image

import galip
from galip.serving.assistant import Limits, create_server
from galip.serving.model_worker import ModelSpec, ModelWorker


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def worker(folder: Path) -> ModelWorker:
    return ModelWorker(ModelSpec(str(folder), "tiny", "torch", "cpu", 1, 4))


def asked(worker: ModelWorker, question: Callable[[Client], Awaitable[Any]]) -> Any:
    """What a client is answered that has connected to a server in this process."""

    async def ask() -> Any:
        async with Client(create_server(worker, Limits(images=6, frames=12, size=64))) as client:
            return await question(client)

    return asyncio.run(ask())


def call(worker: ModelWorker, tool: str, **arguments: Any) -> Any:
    return asked(worker, lambda client: client.call_tool(tool, arguments))


def opened(content: Any) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(content.data)))


def test_the_tools_say_what_they_take(worker: ModelWorker) -> None:
    tools = {tool.name: tool for tool in asked(worker, lambda client: client.list_tools()).tools}
    assert set(tools) == {"generate", "walk", "grid"}
    for tool in tools.values():
        assert tool.description
    assert tools["generate"].input_schema["required"] == ["prompt"]


def test_images_are_the_pipelines(worker: ModelWorker, folder: Path) -> None:
    result = call(worker, "generate", prompt=" a red  heart", n=2, seed=5)
    assert not result.is_error
    *images, told = result.content
    expected = galip.load(folder, engine="torch", device="cpu")("a red heart", num_images_per_prompt=2, seed=5).images
    for content, image in zip(images, expected, strict=True):
        assert content.mime_type == "image/png"
        difference = np.asarray(opened(content), np.int16) - np.asarray(image, np.int16)
        assert np.abs(difference).max() <= 1
    assert told.text == "prompt: a red heart; seeds: 5, 6"
    assert opened(call(worker, "generate", prompt="a red heart", size=64).content[0]).size == (64, 64)


def test_a_walk_is_an_animation(worker: ModelWorker) -> None:
    image, told = call(worker, "walk", prompts=["a red heart", "a blue car"], seeds=[3], frames=4).content
    assert image.mime_type == "image/gif"
    assert opened(image).n_frames == 8  # type: ignore[attr-defined]
    assert told.text == "8 frames: a red heart (seed 3); a blue car (seed 3)"


def test_a_grid_is_one_image(worker: ModelWorker) -> None:
    image, told = call(worker, "grid", prompts=["a red heart", "a blue car"], seeds=[1, 2, 3]).content
    assert image.mime_type == "image/png"
    assert opened(image).width > 3 * tiny.IMAGE_SIZE
    assert told.text == "rows: a red heart, a blue car; columns: seeds [1, 2, 3]"


@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        ("generate", {"prompt": " "}, "prompt: "),
        ("generate", {"prompt": "x", "n": 7}, "at most 6"),
        ("generate", {"prompt": "x", "size": 65}, "size 65: give 32 to 64"),
        ("generate", {"prompt": "x", "seed": -1}, "seed"),
        ("walk", {"prompts": ["x"]}, "prompts"),
        ("walk", {"prompts": ["x", "y"], "frames": 7}, "at most 12"),
        ("walk", {"prompts": ["x", "y", "z"], "seeds": [1, 2]}, "3 prompts and 2 seeds"),
        ("grid", {"prompts": ["x"], "seeds": list(range(7))}, "at most 6"),
    ],
)
def test_what_cannot_be_done_is_said(worker: ModelWorker, tool: str, arguments: dict[str, Any], message: str) -> None:
    result = call(worker, tool, **arguments)
    assert result.is_error
    assert message in result.content[0].text


def test_the_command_speaks_over_its_standard_streams(folder: Path) -> None:
    async def ask() -> Any:
        words = ["-m", "galip", "mcp", "--model", str(folder), "--engine", "torch", "--device", "cpu"]
        async with Client(StdioServerParameters(command=sys.executable, args=words, env=dict(os.environ))) as client:
            return await client.call_tool("generate", {"prompt": "a red heart", "seed": 5})

    result = asyncio.run(ask())
    assert opened(result.content[0]).size == (tiny.IMAGE_SIZE, tiny.IMAGE_SIZE)
