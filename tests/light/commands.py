"""Runs `galip` in a process of its own, in a home of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def environment(home: Path) -> dict[str, str]:
    """The process's environment with a home that nothing has been written to."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "GALIP_", "HF_"))}
    return kept | {"HOME": str(home), "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def galip(folder: Path, *argv: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """`galip ARGV...` in a folder, with `folder/home` as its home."""
    (folder / "home").mkdir(exist_ok=True)
    command = [sys.executable, "-m", "galip", *map(str, argv)]
    ended = subprocess.run(
        command, cwd=folder, env=environment(folder / "home"), capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended
