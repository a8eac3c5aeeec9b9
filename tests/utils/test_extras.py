"""The one sentence about missing packages, and that its table is pyproject's."""

from __future__ import annotations

import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from galip.errors import GalipError
from galip.utils.extras import EXTRAS, is_installed, remedy, require

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def brought_by(extra: str) -> set[str]:
    """Normalised names of the packages that an extra names, those of the extras in it too."""
    names = set()
    for line in PROJECT["optional-dependencies"][extra]:
        name, inner = re.match(r"([\w.-]+)(?:\[([\w,]+)\])?", line).groups()
        names |= {name} if name != "galip" else {found for part in inner.split(",") for found in brought_by(part)}
    return {re.sub(r"[-_.]+", "-", name).lower() for name in names}


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_brings_the_modules_that_are_asked_for(extra: str) -> None:
    distributions = packages_distributions()
    brought = brought_by(extra)
    for module in EXTRAS[extra]:
        owners = {re.sub(r"[-_.]+", "-", name).lower() for name in distributions.get(module, [module])}
        assert owners & brought, f"{module} is not in the extra {extra}"


def test_the_core_brings_no_torch() -> None:
    core = " ".join(PROJECT["dependencies"])
    assert not re.search("torch|transformers|diffusers|accelerate|openvino", core)


def test_what_is_missing_is_one_line_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    require("anything", "video", ["json"])
    monkeypatch.setitem(EXTRAS, "video", ("no_such_a", "json", "no_such_b"))
    with pytest.raises(GalipError) as caught:
        require("galip walk", "video")
    assert str(caught.value) == (
        "galip walk needs no_such_a and no_such_b, which are not installed: pip install '.[video]' in galip's checkout"
    )
    with pytest.raises(GalipError, match=r"needs no_such, which is not installed: pip install '\.\[hub\]'"):
        require("this", "hub", ["no_such"])


def test_a_module_is_looked_for_and_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_installed("json") and not is_installed("no_such_module") and not is_installed("no_such.part")
    monkeypatch.setitem(sys.modules, "json", None)
    assert not is_installed("json")
    assert remedy("train") == "pip install '.[train]' in galip's checkout"
