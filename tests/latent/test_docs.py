"""What docs/control.md shows can be done."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from galip.cli import COMMANDS, app
from galip.generation.load import load

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "control.md").read_text(encoding="utf-8")
LINES = re.findall(r"^\$ galip (.+)$", GUIDE, re.MULTILINE)


def test_there_is_an_example_of_each_command() -> None:
    assert {line.split()[0] for line in LINES} == {"walk", "grid", "generate", "invert"} <= set(COMMANDS)


@pytest.mark.parametrize("line", LINES)
def test_a_command_has_the_options_that_are_shown(line: str) -> None:
    root: Any = typer.main.get_command(app)
    name, *words = shlex.split(line)
    context = root.make_context("galip", [name])
    command = root.resolve_command(context, [name])[1]
    command.make_context(name, words)  # unknown options, missing values and values of a wrong kind are errors


@pytest.mark.slow
def test_the_python_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    load("emoji-64", engine="torch", device="cpu")("a red heart", seed=11).images[0].save("heart.png")
    names: dict[str, Any] = {}
    shorter = {"pairs=250": "pairs=4", "frames=48": "frames=8", 'prompt="a red heart")': 'prompt="a heart", steps=3)'}
    for block in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL):
        for long, short in {**shorter, 'engine="auto"': 'engine="torch"'}.items():
            block = block.replace(long, short)
        exec(block, names)
    assert Path("walk.webp").is_file()
    assert names["image"].size == names["blue"].size == (64, 64)
    assert len(names["others"]) == 4
    assert len(names["frames"]) == 25
    assert names["found"].pairs == 4
