"""Training: the objective as formulas, one typed configuration, the loop, checkpoints that lose nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from galip.training.api import train as train

__all__ = ["train"]


def __getattr__(name: str) -> Any:
    if name == "train":  # brings torch, which a configuration does not need
        from galip.training.api import train

        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
