"""Learning rates over images seen."""

from __future__ import annotations

import pytest

from galip.training.config import ScheduleConfig
from galip.training.schedule import lr_multiplier


def factors(*seen: int, **options: object) -> list[float]:
    schedule = ScheduleConfig.model_validate({"images": 1000} | options)
    return [lr_multiplier(schedule, images) for images in seen]


def test_the_paper_keeps_its_rates() -> None:
    assert factors(0, 500, 1000) == [1, 1, 1]


def test_warm_up_rises_and_wastes_no_step() -> None:
    start, middle, end = factors(0, 49, 100, warmup=100)
    assert 0 < start == pytest.approx(0.01) and middle == pytest.approx(0.5) and end == 1


@pytest.mark.parametrize(("decay", "half"), [("linear", 0.55), ("cosine", 0.55)])
def test_decay_ends_where_it_is_told(decay: str, half: float) -> None:
    assert factors(0, 500, 1000, 2000, decay=decay, decay_to=0.1) == pytest.approx([1, half, 0.1, 0.1])
