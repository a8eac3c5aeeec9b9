"""Where a result comes from: versions of packages, the machine, the revision of a working directory."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "galip",
    "torch",
    "torchvision",
    "torch-fidelity",
    "transformers",
    "diffusers",
    "accelerate",
    "safetensors",
    "tokenizers",
    "openvino",
    "onnxruntime",
    "webdataset",
    "numpy",
    "pillow",
)
"""Packages that have a part in results or in speed."""

_REVISION = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_REF = re.compile(r"refs/[\w./+@-]+")
_MAX_BYTES = 4_000_000
"""The most that is read of one of git's files: packed-refs of a large repository has some hundred thousand bytes."""


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Version of each of these packages that is installed."""
    found = {}
    for name in packages:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def machine() -> dict[str, Any]:
    """What numbers of speed depend on besides the code, as JSON values.

    Returns:
        `processor` (its name), `cores`, `cores_for_us` (those this process may use), `system`, `python`, `versions`,
        and `load_before`, the system's load average now; None where the system does not tell.
    """
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "cores_for_us": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": versions(),
        "load_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def git_revision(folder: Path | None = None) -> str | None:
    """The commit that a folder's git repository has checked out, in hexadecimal; None where there is none.

    Git's files are read as text and git itself is not run: a repository's configuration names commands that git would
    start.

    Args:
        folder: a folder in the repository; the working directory by default.
    """
    start = (folder or Path.cwd()).absolute()
    for parent in (start, *start.parents):
        if (parent / ".git").exists():
            return _checked_out(parent / ".git")
    return None


def _checked_out(git: Path) -> str | None:
    if git.is_file():  # of a worktree or submodule: a line that names the folder
        word, _, place = _read(git).partition(":")
        if word != "gitdir":
            return None
        git = git.parent / place.strip()
    common = git / (_read(git / "commondir").strip() or ".")  # of a worktree: where the branches are
    head = _read(git / "HEAD").strip()
    if not head.startswith("ref:"):
        return head if _REVISION.fullmatch(head) else None
    ref = head.removeprefix("ref:").strip()
    if not _REF.fullmatch(ref) or ".." in ref:
        return None
    for folder in (git, common):
        revision = _read(folder / ref).strip()
        if _REVISION.fullmatch(revision):
            return revision
    for line in _read(common / "packed-refs").splitlines():
        revision, _, name = line.partition(" ")
        if name == ref and _REVISION.fullmatch(revision):
            return revision
    return None


def _read(path: Path) -> str:
    """A file's text; empty where there is no such regular file, or it is too large to be git's."""
    try:
        if not path.is_file() or path.stat().st_size > _MAX_BYTES:
            return ""
        return path.read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):
        return ""


def processor() -> str:
    """The processor's name."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(": ")[2]
    return platform.processor() or platform.machine()
