"""A command whose extra is not installed says so in one line before it does anything."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from galip.cli import COMMANDS

HIDE = """
import json, sys
hidden = set(json.loads(sys.argv.pop(1)))
class Hider:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hider)
from galip.cli import main
main(sys.argv[1:])
"""
TORCH = ("torch", "transformers", "diffusers", "accelerate", "torchvision")
SERVE = ("fastapi", "uvicorn")

CALLS = [
    ("invert", "torch", TORCH, ["invert", "a.png", "-o", "out"]),
    ("convert", "torch", TORCH, ["convert", "a.pth", "out"]),
    ("export", "torch", TORCH, ["export", "emoji-64", "out"]),
    ("train", "train", TORCH, ["train", "run.yaml", "--data", "images"]),
    ("finetune", "train", TORCH, ["finetune", "emoji-64", "images"]),
    ("evaluate", "eval", TORCH, ["evaluate", "emoji-64", "--protocol", "emoji64", "-o", "result.json"]),
    ("serve", "serve", SERVE, ["serve"]),
    ("mcp", "mcp", ("mcp",), ["mcp"]),
    ("serve", "cluster", ("ray",), ["serve", "--cluster", "ray"]),
    ("bulk", "cluster", ("ray",), ["bulk", "prompts.txt", "out", "--cluster", "ray"]),
    ("data", "hub", ("datasets",), ["data", "prepare", "hub", "someone/images", "out"]),
]


def without(hidden: tuple[str, ...], folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """`galip ARGV...` in a folder, in a process that does not find these modules."""
    command = [sys.executable, "-c", HIDE, json.dumps(hidden), *argv]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_every_command_with_an_extra_is_tried() -> None:
    assert {(name, command.extra) for name, command in COMMANDS.items() if command.extra} <= {
        (name, extra) for name, extra, *_ in CALLS
    }


@pytest.mark.parametrize(("name", "extra", "hidden", "argv"), CALLS)
def test_the_extra_is_named_in_one_line(
    name: str, extra: str, hidden: tuple[str, ...], argv: list[str], tmp_path: Path
) -> None:
    ended = without(hidden, tmp_path, *argv)
    assert ended.returncode == 2
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith("Error: ") and f"pip install '.[{extra}]'" in line
    assert hidden[0] in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_help_needs_no_extra(name: str, tmp_path: Path) -> None:
    everything = (*TORCH, *SERVE, "ray", "datasets", "av", "onnx", "openvino")
    ended = without(everything, tmp_path, name, "--help")
    assert ended.returncode == 0
    assert f"Usage: galip {name}" in ended.stdout


def test_results_are_listed_and_compared_without_torch(tmp_path: Path) -> None:
    assert "fid30k_coco256" in without(TORCH, tmp_path, "evaluate", "--list").stdout
    assert "no-such.json" in without(TORCH, tmp_path, "evaluate", "--compare", "no-such.json").stderr
