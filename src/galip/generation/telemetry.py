"""Engines' own telemetry: off, unless the user has turned it on.

Left alone, importing them writes identifiers into the home folder and looks up hosts of their makers.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_OPENVINOS = "openvino_telemetry"


@contextmanager
def without_telemetry() -> Iterator[None]:
    """Import ONNX Runtime, OpenVINO or NNCF inside, so that they send and write nothing.

    ONNX Runtime asks the environment: `ORT_DISABLE_TELEMETRY=0` turns it on. OpenVINO and NNCF send by a package of
    their own and do without where it is not installed, which is what they are told; they send where the user has
    agreed by `opt_in_out --opt_in`.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    if _OPENVINOS in sys.modules or _agreed():
        yield
        return
    sys.modules[_OPENVINOS] = None  # type: ignore[assignment]  # importing it is then an ImportError
    try:
        yield
    finally:
        del sys.modules[_OPENVINOS]


def _agreed() -> bool:
    """Whether the user's answer to OpenVINO, which `opt_in_out` stores, is yes."""
    base = os.environ.get("LOCALAPPDATA", "") if sys.platform == "win32" else Path.home()
    folder = "Intel Corporation" if sys.platform == "win32" else "intel"
    try:
        return (Path(base) / folder / _OPENVINOS).read_text(encoding="utf-8").strip() == "1"
    except (OSError, ValueError):
        return False
