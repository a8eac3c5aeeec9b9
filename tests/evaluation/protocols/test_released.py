"""The protocols of the release, exactly as large as they are."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from galip.errors import InputError
from galip.evaluation.planning import make_plan
from galip.evaluation.protocols import get_protocol


class Records:
    """So many captioned images, none of which is ever read."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def captions_at(self, number: int) -> tuple[str, ...]:
        return tuple(f"caption {number} {place}" for place in range(5))


@pytest.mark.parametrize(
    ("name", "records", "images"),
    [("released_coco", 40_504, 40_448), ("released_cc12m_coco", 40_504, 40_448), ("released_cub", 2_933, 34_560)],
)
def test_n_is_part_of_the_protocol(name: str, records: int, images: int) -> None:
    protocol = get_protocol(name)
    source: Any = Records(records)
    plan = make_plan(protocol, source)
    assert len(plan.samples) == len(plan.compared) == images == protocol.expected_images
    assert plan.deviations == [] and plan.reference == []
    assert len({sample.seed for sample in plan.samples}) == images
    for occasion in range(protocol.passes):
        one = plan.samples[images // protocol.passes * occasion : images // protocol.passes * (occasion + 1)]
        assert len({sample.record for sample in one}) == records // 64 * 64  # no record twice in a pass
    fewer: Any = Records(records - 64)
    with pytest.raises(InputError, match=rf"{name} is of exactly {images:,} images, but this data gives"):
        make_plan(protocol, fewer)


def test_what_is_left_out_is_not_always_the_same() -> None:
    source: Any = Records(2_933)
    plan = make_plan(get_protocol("released_cub"), source)
    used = Counter(sample.record for sample in plan.samples)
    assert len(used) == 2_933 and set(used.values()) <= {9, 10, 11, 12}
    chosen = {(sample.record, sample.caption) for sample in plan.samples}
    assert len(chosen) > 2_933 * 4  # a caption is chosen anew each time


def test_less_than_a_batch_is_nothing() -> None:
    source: Any = Records(63)
    with pytest.raises(InputError, match="released_coco takes whole batches of 64; there are 63 images"):
        make_plan(get_protocol("released_coco").changed(expected_images=0, records=0), source)


def test_they_are_the_same_but_for_the_data() -> None:
    coco, cc12m, cub = (get_protocol(f"released_{name}") for name in ("coco", "cc12m_coco", "cub"))
    assert coco.digest == cc12m.digest != cub.digest
    changes = {"name": "x", "about": "", "split": "", "records": 0, "passes": 1, "expected_images": 0}
    assert cub.changed(**changes) == coco.changed(**changes)
    assert not coco.quantise and coco.reference == "statistics" and coco.resolution == 224
    assert coco.metrics == ("fid_released", "clip_score_released")
