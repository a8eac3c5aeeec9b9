"""Whoever generates needs no torch: images, videos, grids and what is told of a model, from the bundled model."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from light.commands import galip
from PIL import Image

HEAVY = ("torch", "transformers", "diffusers", "accelerate", "onnx")


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def written_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", HEAVY)
def test_this_installation_has_none_of_them(name: str) -> None:
    assert find_spec(name) is None


def test_a_prompt_becomes_an_image_and_nothing_else_is_written(tmp_path: Path) -> None:
    ended = galip(tmp_path, "generate", "a red heart", "a green apple", "--seed", 7)
    paths = [tmp_path / line for line in ended.stdout.splitlines()]
    assert [pixels(path).shape for path in paths] == [(64, 64, 3)] * 2
    red, green = (pixels(path)[24:40, 24:40].mean(axis=(0, 1)) for path in paths)
    assert red[0] > red[1] + 60 and green[1] > green[0] + 30
    assert {Path(name).parts[0] for name in written_in(tmp_path)} <= {"out", "home"}
    assert all(name.startswith("home/.cache/galip") for name in written_in(tmp_path) if name.startswith("home"))
    again = galip(tmp_path, "generate", "a red heart", "--seed", 7, "-o", "again", "--threads", 1, "--no-sheet")
    assert np.abs(pixels(tmp_path / again.stdout.strip()) - pixels(paths[0])).max() <= 1


def test_python_has_the_same_call(tmp_path: Path) -> None:
    import galip as package

    pipe = package.load()
    images, seeds = pipe("a red heart", num_images_per_prompt=2, seed=7)
    assert seeds == [7, 8]
    ended = galip(tmp_path, "generate", "a red heart", "--seed", 7, "--no-sheet")
    assert np.abs(pixels(tmp_path / ended.stdout.strip()) - np.asarray(images[0]).astype(int)).max() <= 1


def test_its_own_clip_chooses(tmp_path: Path) -> None:
    ended = galip(tmp_path, "generate", "a red heart", "--seed", 0, "--best-of", 4, "--json")
    (best,) = map(json.loads, ended.stdout.splitlines())
    assert 0 <= best["seed"] < 4 and 0 < best["clip_score"] <= 1


@pytest.mark.parametrize("speed", ["even", "clip"])
def test_a_walk_becomes_a_video(tmp_path: Path, speed: str) -> None:
    galip(tmp_path, "walk", "a red heart", "a green apple", "--seed", 7, "--frames", 6, "--speed", speed)
    with Image.open(tmp_path / "walk.webp") as video:
        assert (video.n_frames, video.size) == (7, (64, 64))


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--steps", 3),
        ("--direction", "a book", "a blue book", "--strengths", "0,1", "--seed", 0),
        ("--fine", "a blue book"),
    ],
)
def test_a_grid_becomes_a_sheet(tmp_path: Path, options: tuple[object, ...]) -> None:
    ended = galip(tmp_path, "grid", "a red heart", "a green apple", *options)
    assert ended.stdout == "grid.png\n"
    assert pixels(tmp_path / "grid.png").std() > 10


def test_a_model_tells_what_it_is_and_what_runs_it(tmp_path: Path) -> None:
    table = " ".join(galip(tmp_path, "info").stdout.split())
    assert "64 x 64 pixels" in table and "onnxruntime" in table and "cc-by-4.0" in table
    assert json.loads(galip(tmp_path, "info", "--json").stdout)["image_size"] == 64
    assert "emoji-64" in galip(tmp_path, "models").stdout


@pytest.mark.parametrize(
    ("argv", "extra"),
    [
        (("generate", "a cat", "--engine", "torch"), "torch"),
        (("generate", "a cat", "--refine", 2), "torch"),
        (("generate", "a cat", "--engine", "openvino"), "openvino"),
        (("walk", "a cat", "a dog", "--engine", "compile"), "torch"),
        (("invert", "a.png"), "torch"),
        (("export", "emoji-64", "out"), "torch"),
        (("convert", "a.pth", "out"), "torch"),
        (("train", "own.yaml"), "train"),
        (("evaluate", "emoji-64", "--protocol", "emoji64"), "eval"),
    ],
)
def test_what_needs_more_says_so_in_one_line_and_leaves_nothing(
    tmp_path: Path, argv: tuple[object, ...], extra: str
) -> None:
    ended = galip(tmp_path, *argv, code=2)
    (line,) = ended.stderr.splitlines()
    assert line.startswith("Error: ") and f"pip install '.[{extra}]'" in line
    assert written_in(tmp_path) == []
    assert {path.name for path in tmp_path.iterdir()} == {"home"}
