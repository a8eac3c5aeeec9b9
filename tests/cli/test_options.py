"""Option values that more than one command reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from galip.cli.options import one_out, parse_seeds
from galip.errors import InputError


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("7", [7]),
        ("0-3", [0, 1, 2, 3]),
        ("0-3,7", [0, 1, 2, 3, 7]),
        ("9, 2-2", [9, 2]),
        (str(2**63 - 1), [2**63 - 1]),
    ],
)
def test_seeds(text: str, seeds: list[int]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "not a seed"),
        ("a", "'a' is not a seed"),
        ("1,,2", "'' is not a seed"),
        ("-1", "'-1' is not a seed"),
        ("1.5", "not a seed"),
        ("٣", "not a seed"),
        ("3-0", "3-0 runs backwards"),
        ("0-3,2", "2 is there twice"),
        ("0-99999999999", "more than 1,000,000"),
        (str(2**63), "between 0 and"),
    ],
)
def test_bad_seeds_are_named(text: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        parse_seeds(text)


def test_what_is_written_is_named_once() -> None:
    assert one_out(Path("a"), None, "a folder") == Path("a")
    with pytest.warns(DeprecationWarning, match="name a folder with -o"):
        assert one_out(None, Path("b"), "a folder") == Path("b")
    with pytest.raises(InputError, match="-o is missing: name a folder"):
        one_out(None, None, "a folder")
    with pytest.raises(InputError, match="named twice; leave b out"):
        one_out(Path("a"), Path("b"), "a folder")
