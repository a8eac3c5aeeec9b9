"""Collapse is noticed by numbers, not by one bad row."""

from __future__ import annotations

import pytest

from galip.training.config import GuardConfig
from galip.training.guards import CollapseWatch, NotFiniteError, check_finite

SOUND = {"diversity": 0.8, "similarity": 0.5, "score_real": 1.0, "score_fake": -1.0}


def watch(**options: object) -> CollapseWatch:
    return CollapseWatch(GuardConfig.model_validate({"patience": 2} | options))


def test_broken_terms_are_named() -> None:
    check_finite({"a": 1.0})
    with pytest.raises(NotFiniteError, match="^b, c became nan$"):
        check_finite({"a": 1.0, "b": float("nan"), "c": float("inf")})


@pytest.mark.parametrize(
    ("sign", "message"),
    [
        ({"diversity": 0.3}, "diversity 0.300, less than 0.4 of its best, 0.800"),
        ({"similarity": 0.2}, "similarity 0.200, less than 0.5 of its best, 0.500"),
        ({"score_real": 9.0, "score_fake": -9.0}, "D's margin 18.0, more than 12"),
    ],
)
def test_patience_rows_in_a_row_are_a_collapse(sign: dict[str, float], message: str) -> None:
    looking = watch()
    assert looking.look(10, SOUND) is None
    assert looking.look(20, SOUND | sign) is None  # one bad row
    assert looking.look(30, SOUND) is None  # it recovered
    assert looking.look(40, SOUND | sign) is None
    wrong = looking.look(50, SOUND | sign)
    assert wrong is not None and message in wrong and "since 30 images" in wrong


def test_off_says_nothing() -> None:
    looking = watch(collapse="off")
    looking.look(10, SOUND)
    assert all(looking.look(20 + i, SOUND | {"diversity": 0.0}) is None for i in range(5))


def test_it_goes_on_where_a_checkpoint_left_it() -> None:
    looking, resumed = watch(), watch()
    looking.look(10, SOUND)
    looking.look(20, SOUND | {"diversity": 0.1})
    resumed.load_state(looking.state())
    assert "diversity 0.100" in (resumed.look(30, SOUND | {"diversity": 0.1}) or "")
