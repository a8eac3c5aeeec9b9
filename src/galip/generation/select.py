"""Which engine runs a model: what is asked for, what is installed, what fits the device, and what `auto` means here."""

from __future__ import annotations

import ctypes
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from galip.errors import InputError
from galip.model_repo.export_folder import is_export, read_manifest
from galip.utils.extras import is_installed, remedy, require

ENGINES = ("onnxruntime", "openvino", "torch", "compile")
"""What can run a model. "auto" means the fastest of them that is installed and fits."""

AUTO = "auto"
DEFAULT_ENGINE = "onnxruntime"
WITHOUT_TORCH = ("openvino", "onnxruntime")
"""Engines that run exported graphs, on the CPU; the faster one first."""


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
        InputError: there is not.
    """
    if engine not in (None, AUTO, *ENGINES):
        raise InputError(f"engine {engine!r}: there is no such engine, use one of {', '.join((*ENGINES, AUTO))}")


def engine_for(
    folder: Path, engine: str | None, device: Any = None, dtype: Any = None, precision: str | None = None
) -> str:
    """The engine that a caller means.

    Args:
        folder: a model or an exported one.
        engine: one of `ENGINES`, "auto", or None: torch where device or dtype ask for what only torch has, else ONNX
            Runtime, or what "auto" means where another precision than fp32 is asked for; an exported model's own.
        device, dtype, precision: as for `galip.load`.

    Raises:
        InputError: there is no such engine.
        GalipError: an exported model is not whole.
    """
    check_engine(engine)
    needs_torch = dtype is not None or (device is not None and str(device) != "cpu")
    if engine is None and precision not in (None, "fp32"):
        engine = AUTO
    if engine == AUTO:
        if needs_torch and not is_export(folder):
            return "torch"
        return choose(folder, None if device is None else str(device)).engine
    if engine is not None:
        return engine
    if is_export(folder):
        return choose(folder).engine
    return "torch" if needs_torch else DEFAULT_ENGINE


def check_fits(folder: Path, engine: str, device: Any = None, dtype: Any = None) -> None:
    """Refuse an engine that cannot run a model as asked, before anything is exported.

    Args:
        folder: a model or an exported one.
        engine: one of `ENGINES`.
        device: as for `galip.load`.
        dtype: as for `galip.load`.

    Raises:
        InputError: they do not fit each other.
    """
    if engine not in WITHOUT_TORCH:
        if is_export(folder):
            raise InputError(
                f"{folder}: this model is exported, which {engine} cannot run; give the one it was made from"
            )
        return
    if device is not None and str(device) != "cpu":
        raise InputError(f"device {str(device)!r}: {engine} runs on the CPU; use device cpu, or the engine torch")
    if dtype is not None:
        raise InputError(f"dtype {str(dtype)!r}: {engine} has its own; export the model with --precision, or use torch")


def require_engine(engine: str) -> None:
    """Make sure that an engine's own package is installed.

    Raises:
        GalipError: it is not.
    """
    if engine in WITHOUT_TORCH:
        require(f"engine {engine}", "openvino" if engine == "openvino" else "torch", [engine])
    else:
        require_torch(f"engine {engine}")


def require_torch(what: str) -> None:
    """Make sure that torch and what belongs to it are installed.

    Args:
        what: what needs them, for the message.

    Raises:
        GalipError: they are not.
    """
    require(what, "torch")


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
    if is_installed("openvino"):
        return Choice("openvino", "the fastest that is installed, on a CPU")
    return Choice(DEFAULT_ENGINE, f"on a CPU; openvino is faster: {remedy('openvino')}")


def has_gpu() -> bool:
    """Whether torch would find a GPU; it is asked only where something looks like one: to import it takes seconds."""
    if not _may_have_gpu() or not is_installed("torch"):
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
