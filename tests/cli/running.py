"""Runs the command line inside the test's process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from galip.cli import main


@dataclass
class Ended:
    """How a command ended: its exit code and what it printed."""

    code: int
    out: str
    err: str


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> Ended:
    """`galip ARGV...` with its output caught."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        main([str(arg) for arg in argv])
    out, err = capsys.readouterr()
    return Ended(int(caught.value.code or 0), out, err)


class DrawingCommand:
    """A command that draws, run again and again with one model and one output: `galip NAME --model M ... -o OUT ...`.

    Args:
        name: of the command.
        model: its folder.
        out: where the result goes.
        capsys: pytest's.
        options: given each time.
    """

    def __init__(
        self, name: str, model: Path, out: Path, capsys: pytest.CaptureFixture[str], options: Sequence[object] = ()
    ) -> None:
        self.name, self.model, self.out, self.capsys, self.options = name, model, out, capsys, tuple(options)

    def __call__(self, *argv: object) -> Ended:
        return run(self.capsys, self.name, "--model", self.model, *self.options, "-o", self.out, *argv)
