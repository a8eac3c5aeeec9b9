"""The toy data set and the tiny CLIP, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
from training import toy


@pytest.fixture(scope="session")
def toy_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.pictures(tmp_path_factory.mktemp("toy") / "data")


@pytest.fixture(scope="session")
def toy_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.clip(tmp_path_factory.mktemp("toy-clip") / "clip")
