"""docs/control.md shows what `benchmarks/control.py` measured, with the model that is bundled."""

from __future__ import annotations

import json
from types import ModuleType

import pytest
from benchmarks.scripts import script

from galip.model_repo.resolve import weights_of


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return script("control_tables", monkeypatch)


def test_the_tables_are_those_of_the_result(tables: ModuleType) -> None:
    found = json.loads((tables.RESULTS / "control.json").read_text(encoding="utf-8"))
    page = tables.PAGE.read_text(encoding="utf-8")
    assert tables.filled(page, found) == page


def test_the_result_is_the_bundled_models(tables: ModuleType) -> None:
    found = json.loads((tables.RESULTS / "control.json").read_text(encoding="utf-8"))
    assert found["model"] == "emoji-64" and found["weights"] == weights_of("emoji-64")


def test_another_result_changes_every_table(tables: ModuleType) -> None:
    found = json.loads((tables.RESULTS / "control.json").read_text(encoding="utf-8"))
    page = tables.PAGE.read_text(encoding="utf-8")
    found["reranking"]["rows"][1]["gain"]["value"] = 0.123
    found["refinement"]["before"]["judge"]["low"] = -7.0
    found["inversion"]["rows"][0]["psnr"]["high"] = 99.0
    found["smoothness"]["rows"][1]["median"] = 77.0
    changed = tables.filled(page, found)
    for shown in ("| 0.123 (", "(-7.000 to", "to 99.0) |", "| 77.00 |"):
        assert shown in changed and shown not in page
    with pytest.raises(SystemExit, match="no table below the command with --only inversion"):
        tables.filled(page.replace("control.py --only inversion", ""), found)
