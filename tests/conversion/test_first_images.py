"""What the first images of a converted model tell of its weights."""

from __future__ import annotations

import numpy as np
import pytest

from galip.conversion.first_images import faults

RANDOM = np.random.default_rng(0).uniform(0.1, 0.9, (4, 8, 8, 3)).astype(np.float32)


def test_images_as_they_should_be() -> None:
    assert faults(RANDOM) is None
    one_white = RANDOM.copy()
    one_white[0] = 1
    assert faults(one_white) is None


@pytest.mark.parametrize(
    ("images", "complaint"),
    [
        (np.ones_like(RANDOM), "are blank, of mean brightness 1.00"),
        (np.broadcast_to(np.linspace(0, 1, 4)[:, None, None, None], RANDOM.shape), "are blank"),
        (np.repeat(RANDOM[:1], 4, axis=0), "are all equal, whatever the prompt and the seed"),
        ((RANDOM > 0.5).astype(np.float32), "are saturated"),
        (np.full_like(RANDOM, np.nan), "hold numbers that are not finite"),
    ],
)
def test_what_is_wrong_is_told_with_its_causes(images: np.ndarray, complaint: str) -> None:
    found = faults(images)
    assert found is not None and complaint in found and "likely causes" in found and "docs/convert.md" in found
