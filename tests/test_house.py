"""Rules of the house that no other tool checks."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import galip

ROOT = Path(__file__).parent.parent
FOLDERS = (".ci", "benchmarks", "configs", "docs", "recipes", "src", "tests")
TEXT = {".py", ".md", ".toml", ".yaml", ".yml", ".cfg", ".sh", ".css", ".js", ".html", ".svg", ".txt", ""}
# Written in pieces, so that this file holds none of them.
HOSTS = ["py" + "pi.org", "pythonhos" + "ted.org", "npm" + "js.", "download.py" + "torch.org", "deb.deb" + "ian.org"]
PATHS = ["/wo" + "rk/", "/ro" + "ot/", "/ho" + "me/", "/op" + "t/", "/Us" + "ers/"]


def our_files() -> Iterator[Path]:
    for path in ROOT.iterdir():
        if path.is_file() and path.suffix in TEXT and path.name != ".git":  # a file in a worktree
            yield path
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            if "__pycache__" in path.parts or (ROOT / "recipes/emoji/work") in path.parents:
                continue
            if path.is_file() and path.suffix in TEXT:
                yield path


@pytest.mark.parametrize("words", [HOSTS, PATHS], ids=["registry hosts", "absolute paths"])
def test_no_file_names_a_host_or_a_machines_path(words: list[str]) -> None:
    pattern = re.compile(
        "|".join(rf"(?<![\w.]){re.escape(word)}" if word[0] == "/" else re.escape(word) for word in words)
    )
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match.group()}"
        for path in our_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if (match := pattern.search(line))
    ]
    assert found == []


def test_every_module_says_what_it_is_for() -> None:
    modules = sorted((ROOT / "src").rglob("*.py"))
    assert modules
    silent = [
        str(path.relative_to(ROOT)) for path in modules if not ast.get_docstring(ast.parse(path.read_text("utf-8")))
    ]
    assert silent == []


def test_nothing_is_left_for_later() -> None:
    later = re.compile(r"\b(" + "TO" + "DO|FIX" + r"ME|X" + r"XX)\b")
    found = [str(path.relative_to(ROOT)) for path in our_files() if later.search(path.read_text(encoding="utf-8"))]
    assert found == []


def test_the_changelog_knows_the_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "## [Unreleased]" in changelog or f"## [{galip.__version__}]" in changelog
    assert galip.__version__ in changelog


def test_the_package_is_typed() -> None:
    assert (ROOT / "src/galip/py.typed").exists()


def test_the_makefile_explains_its_commands() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.M)
    assert phony
    explained = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.M))
    assert explained == set(phony.group(1).split())
