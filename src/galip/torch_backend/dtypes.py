"""Types of weights by name."""

from __future__ import annotations

from typing import Any

import torch

from galip.errors import InputError

DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in ("float32", "float16", "bfloat16", "float64")}


def as_dtype(dtype: Any) -> torch.dtype:
    """A type of torch's, which may be given by its name, with or without "torch.".

    Raises:
        InputError: there is no such type, or no weights are of it.
    """
    kind: Any = DTYPES.get(dtype.removeprefix("torch.")) if isinstance(dtype, str) else dtype
    if kind not in DTYPES.values():
        raise InputError(f"dtype {dtype!r}: use one of {', '.join(DTYPES)}")
    return kind  # type: ignore[no-any-return]
