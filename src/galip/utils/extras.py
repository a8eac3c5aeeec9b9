"""Packages beyond the core: which extra brings them, and the one sentence where they are missing."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from galip.errors import GalipError

EXTRAS: dict[str, tuple[str, ...]] = {
    "torch": ("torch", "transformers", "diffusers", "accelerate"),
    "export": ("torch", "transformers", "diffusers", "accelerate", "onnx", "onnxscript"),
    "train": ("torch", "transformers", "diffusers", "accelerate"),
    "eval": ("torch", "transformers", "diffusers", "accelerate"),
    "serve": ("fastapi", "uvicorn", "httptools", "prometheus_client", "fastapi_offline", "python_multipart"),
    "mcp": ("mcp",),
    "openvino": ("openvino",),
    "cluster": ("fastapi", "uvicorn", "httptools", "prometheus_client", "fastapi_offline", "python_multipart", "ray"),
    "video": ("av",),
    "hub": ("datasets",),
}
"""Extra of `pyproject.toml` -> modules without which nothing of it works.

An extra brings more than these: what only some options need is asked for where it is used, by `require` with a module.
"""


def is_installed(module: str) -> bool:
    """Whether a module can be imported, found out without importing it."""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # the parent of a dotted name is missing, or somebody has blocked it
        return False


def remedy(extra: str) -> str:
    """What to type to get an extra."""
    return f"pip install '.[{extra}]' in galip's checkout"


def require(what: str, extra: str, modules: Sequence[str] | None = None) -> None:
    """Make sure that packages are installed, before anything expensive begins.

    Args:
        what: what needs them, for the message: "galip train", "engine openvino".
        extra: the extra that brings them.
        modules: their modules; None: those of the extra in `EXTRAS`.

    Raises:
        GalipError: one is not installed. The message is one line with the remedy.
    """
    missing = [name for name in (EXTRAS[extra] if modules is None else modules) if not is_installed(name)]
    if missing:
        *others, last = missing
        names = f"{', '.join(others)} and {last}, which are" if others else f"{last}, which is"
        raise GalipError(f"{what} needs {names} not installed: {remedy(extra)}")
