"""In which floating-point formats the parts of a step are computed."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import torch

PrecisionName = Literal["fp32", "bf16", "fp16"]
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
