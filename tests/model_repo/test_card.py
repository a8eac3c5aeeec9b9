"""Cards are read within bounds."""

from __future__ import annotations

import time
from pathlib import Path

from galip.model_repo.card import about, licence_of, read_card, trained_on

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(12)
)


def card(path: Path, text: str) -> dict[str, object]:
    (path / "README.md").write_text(f"---\n{text}\n---\n# A model\n")
    return read_card(path / "README.md")


def test_the_first_sentence_says_what_a_model_generates(tmp_path: Path) -> None:
    file = tmp_path / "README.md"
    for text, sentence in (
        (
            "---\na: 1\n---\n# cats-64\n\nDraws cats of 64 x 64\npixels. Nothing else.\n",
            "Draws cats of 64 x 64 pixels.",
        ),
        ("# cats\nDraws cats.\n\nMore.", "Draws cats."),
        ("# cats\r\n\r\n![a cat](x.png)\r\n\r\nCats\r\n", "Cats"),
        ("---\na: 1\n---\n", ""),
        ("x" * 1000, ""),
    ):
        file.write_text(text, newline="")
        assert about(file) == sentence
    assert about(tmp_path / "none.md") == ""


def test_an_alias_bomb_is_no_card_and_takes_no_time(tmp_path: Path) -> None:
    began = time.monotonic()
    assert card(tmp_path, BOMB + "datasets: *m\nlicense: *m") == {}
    assert time.monotonic() - began < 5


def test_aliases_of_ordinary_size_are_read(tmp_path: Path) -> None:
    found = card(tmp_path, "datasets: &d [noto, twemoji]\nlicense: *d")
    assert licence_of(found) == "noto, twemoji"


def test_values_that_hold_themselves_depth_and_odd_types(tmp_path: Path) -> None:
    for text in ("license: &l [*l]", "license: " + "[" * 2000 + "]" * 2000, "license: 2024-99-99", "? [a]\n: b"):
        assert card(tmp_path, text) == {}
    found = card(tmp_path, "license: {a: b}\ndatasets: [1, {x: y}, noto, null]")
    assert (licence_of(found), trained_on(found, {})) == (None, ("1", "noto"))
