"""Where a number comes from: versions and machine."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import torch

_PACKAGES = (
    "galip",
    "torch",
    "torchvision",
    "torch-fidelity",
    "transformers",
    "diffusers",
    "accelerate",
    "numpy",
    "pillow",
)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that have a part in the numbers, as far as they are installed."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine(device: torch.device, processes: int, engine: str = "torch") -> dict[str, str | int | float]:
    """What computed: none of it should change a number by more than rounding.

    Args:
        device: of the feature networks, and of torch where it draws.
        processes: that shared the work.
        engine: what drew; empty where the pictures were there already.
    """
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    found: dict[str, str | int | float] = {
        "system": platform.platform(),
        "device": f"{device.type} ({name})",
        "processes": processes,
        "threads": torch.get_num_threads(),
    }
    return found | {"engine": engine} if engine else found
