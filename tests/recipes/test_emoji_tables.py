"""The figures on the pages are those of the committed result, and the result is of the committed model and protocol."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

import galip
from galip.evaluation import Evaluation, get_protocol, read_result
from galip.evaluation.evaluated import digest_of_model

RECIPE = Path(__file__).parents[2] / "recipes" / "emoji"


@pytest.fixture(scope="module")
def recipe() -> ModuleType:
    sys.path.insert(0, str(RECIPE))
    try:
        import tables
    finally:
        sys.path.remove(str(RECIPE))
    return tables


def test_the_pages_hold_the_committed_result(recipe: ModuleType) -> None:
    for path, content in recipe.tables(read_result(recipe.RESULT)).items():
        page = path.read_text(encoding="utf-8")
        assert recipe.filled(page, content) == page, f"{path}: run recipes/emoji/tables.py"


def test_the_result_is_of_the_bundled_model_by_the_present_protocol(recipe: ModuleType) -> None:
    result = read_result(recipe.RESULT)
    assert result.model_digest == digest_of_model(galip.load("emoji-64", engine="torch", device="cpu"))
    evaluation = Evaluation(get_protocol("emoji64"))
    assert result.settings == evaluation.settings
    assert result.n_generated == len(evaluation.plan.compared) == result.n_reference == 1920
    assert not [flag for flag in result.flags if flag.level != "note"]
