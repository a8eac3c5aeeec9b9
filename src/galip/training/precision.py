"""In which floating-point formats the parts of a step are computed."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import torch

PrecisionName = Literal["fp32", "bf16", "fp16"]
MIN_SCALE, RESET_SCALE = 64.0, 16384.0
"""GALIP's authors set a loss scale that falls below the first to the second."""

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Precision:
    """Autocast of one device.

    Attributes:
        device_type: "cpu", "cuda", ...
        dtype: of what may be computed in less than fp32.
    """

    device_type: str = "cpu"
    dtype: torch.dtype = torch.float32

    def mixed(self) -> AbstractContextManager[Any]:
        """For what may be computed in `dtype`."""
        return torch.autocast(self.device_type, dtype=self.dtype, enabled=self.dtype != torch.float32)

    def full(self) -> AbstractContextManager[Any]:
        """For what must be computed in the format of its inputs."""
        return torch.autocast(self.device_type, enabled=False)


def keep_scale_up(scaler: torch.amp.GradScaler) -> None:
    """Reset a loss scale that has fallen below `MIN_SCALE`, as GALIP's authors do after each update."""
    if scaler.is_enabled() and scaler.get_scale() < MIN_SCALE:
        scaler.update(RESET_SCALE)
