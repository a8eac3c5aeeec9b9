"""Feature networks: images to vectors."""

from __future__ import annotations

from typing import Any

from galip import _deprecated


def __getattr__(name: str) -> Any:
    return _deprecated.renamed(__name__, name)
