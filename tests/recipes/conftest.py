from __future__ import annotations

import sys
from pathlib import Path

import pytest

RECIPE = Path(__file__).parents[2] / "recipes" / "emoji"


@pytest.fixture(scope="module", autouse=True)
def _no_script_of_the_same_name() -> None:
    """Both benchmarks and recipe have a `common`; whichever was imported first would serve the other."""
    file = getattr(sys.modules.get("common"), "__file__", None)
    if file is not None and Path(file).parent != RECIPE:
        del sys.modules["common"]
