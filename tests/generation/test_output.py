"""What a pipeline returns, and the rounding of pictures to 8 bits."""

from __future__ import annotations

import numpy as np
import pytest

from galip.errors import GalipError, InputError
from galip.generation.output import GALIPPipelineOutput, to_pil, to_uint8


def test_output_reads_like_a_pair_and_like_a_record() -> None:
    output = GALIPPipelineOutput(images=["a", "b"], seeds=[3, 4])
    images, seeds = output
    assert (images, seeds) == output.to_tuple() == (["a", "b"], [3, 4])
    assert output[0] is output["images"] is output.images
    assert output[1] is output["seeds"] is output.seeds
    assert GALIPPipelineOutput(images=[]).seeds is None
    with pytest.raises(KeyError):
        output["to_tuple"]
    with pytest.raises(IndexError):
        output[2]


def test_every_level_survives() -> None:
    levels = np.arange(256)
    for dtype in (np.float32, np.float64):
        picture = np.repeat((levels / 255).astype(dtype)[None, :, None], 3, axis=2)
        assert (to_uint8(picture)[0, :, 0] == levels).all()


def test_rounds_to_the_nearest_and_clamps() -> None:
    values = np.array([-3.0, -0.001, 0.4 / 255, 0.6 / 255, 254.4 / 255, 254.6 / 255, 1.001, 9.0], np.float32)
    picture = np.repeat(values[None, :, None], 3, axis=2)
    assert to_uint8(picture)[0, :, 1].tolist() == [0, 0, 0, 1, 254, 255, 255, 255]


def test_half_precision_is_widened_first() -> None:
    picture = np.full((1, 1, 3), 100 / 255, np.float16)
    assert to_uint8(picture).tolist() == [[[100, 100, 100]]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_broken_picture_is_not_hidden(bad: float) -> None:
    picture = np.zeros((2, 4, 4, 3), np.float32)
    picture[1, 2, 3, 0] = bad
    with pytest.raises(GalipError, match="not finite"):
        to_uint8(picture)


def test_wrong_type_or_shape_is_named() -> None:
    with pytest.raises(InputError, match="uint8"):
        to_uint8(np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(InputError, match=r"\[3, 4, 5\]"):
        to_uint8(np.zeros((3, 4, 5), np.float32))
    with pytest.raises(InputError, match=r"\[4, 3\]"):
        to_uint8(np.zeros((4, 3), np.float32))


def test_pil_pictures() -> None:
    picture = np.zeros((2, 4, 6, 3), np.float32)
    picture[1, ..., 0] = 1
    images = to_pil(picture)
    assert [(image.mode, image.size) for image in images] == [("RGB", (6, 4))] * 2
    assert images[1].getpixel((5, 3)) == (255, 0, 0)
    assert len(to_pil(picture[0])) == 1
