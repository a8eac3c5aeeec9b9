"""Which engine runs a model: what is installed, what fits the device, and what `auto` means here."""

from __future__ import annotations

import ctypes
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

from galip.errors import GalipError, InputError
from galip.generation.engines import installed
from galip.model_repo.export_folder import is_export, read_manifest

ENGINES = ("torch", "compile", "openvino", "onnxruntime")
"""What can run a model. "auto" means the fastest of them that is installed and fits."""

AUTO = "auto"
WITHOUT_TORCH = ("openvino", "onnxruntime")
"""Engines that run exported graphs, on the CPU; the faster one first."""


_CONVERTER = "onnx"  # what writes the graphs of both


@dataclass(frozen=True)
class Choice:
    """What `auto` has come to.

    Attributes:
        engine: one of `ENGINES`.
        reason: why, in a few words for people.
    """

    engine: str
    reason: str


def check_engine(engine: str | None) -> None:
    """Make sure that there is such an engine.

    Raises:
        InputError: there is none.
    """
    if engine not in (None, AUTO, *ENGINES):
        raise InputError(f"engine {engine!r}: there is no such engine, use one of {', '.join((*ENGINES, AUTO))}")


def require_engine(engine: str) -> None:
    """Make sure that an engine without torch can be used, before a model is converted for it.

    Raises:
        GalipError: a package is not installed.
    """
    missing = [package for package in (engine, _CONVERTER) if not installed(package)]
    if missing:
        raise GalipError(f"engine {engine}: {' and '.join(missing)} not installed; pip install 'galip[export]'")


def choose(folder: Path, device: str | None = None) -> Choice:
    """What `auto` means for a model on this machine. Nothing heavy is imported unless there may be a GPU.

    Args:
        folder: a model or an exported one.
        device: the device that the caller asks for; None: a GPU if there is one, else the CPU.

    Raises:
        GalipError: an exported model is not whole.
    """
    if is_export(folder):
        kind = read_manifest(folder).kind
        return Choice("openvino" if kind == "openvino" else "onnxruntime", f"the model is exported for {kind}")
    if device is not None and device != "cpu":
        return Choice("torch", f"the other engines are for a CPU, not for {device}")
    if device is None and has_gpu():
        return Choice("torch", "there is a GPU")
    if not installed(_CONVERTER):
        return Choice("torch", "for a faster engine: pip install 'galip[export]'")
    for engine in WITHOUT_TORCH:
        if installed(engine):
            return Choice(engine, "the fastest that is installed, on a CPU")
    return Choice("torch", "for a faster engine: pip install 'galip[export]'")


def has_gpu() -> bool:
    """Whether torch would find a GPU; it is asked only where something looks like one: to import it takes seconds."""
    if not _may_have_gpu():
        return False
    import torch

    return torch.cuda.is_available() or torch.backends.mps.is_available()


def _may_have_gpu() -> bool:
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    if Path("/dev/kfd").exists():  # AMD's
        return True
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        count = ctypes.c_int(0)
        return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
    except (OSError, AttributeError):
        return False
