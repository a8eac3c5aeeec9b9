"""Runs the command line inside the test's process."""

from __future__ import annotations

from dataclasses import dataclass

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
