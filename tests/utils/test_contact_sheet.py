"""Contact sheets and labelled grids that can be read."""

from __future__ import annotations

import weakref
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from galip.utils.contact_sheet import SHEET_LIMIT, contact_sheet, labelled_grid, sheet_side
from galip.utils.image_io import resized


def square(colour: str = "red", side: int = 64) -> Image.Image:
    return Image.new("RGB", (side, side), colour)


@pytest.mark.parametrize(
    ("count", "per_row", "columns"), [(1, None, 1), (12, None, 4), (8, 4, 4), (60, 3, 9), (7, 7, 3)]
)
def test_a_sheet_is_about_square_in_whole_groups(count: int, per_row: int | None, columns: int) -> None:
    sheet = contact_sheet(((square(), "a cat", "seed 0") for _ in range(count)), per_row)
    assert (sheet.width - 8) // 136 == columns
    assert sheet.height >= -(-count // columns) * 128


def test_a_sheet_shows_pictures_captions_and_notes() -> None:
    blank = np.asarray(contact_sheet([(square("white"), "", "")]))
    assert (blank == 255).all()
    sheet = np.asarray(contact_sheet([(square("red"), "a red square", "seed 0")]))
    assert (sheet[8:136, 8:136] == (255, 0, 0)).all()
    assert (sheet[140:157] < 128).any()  # black letters
    assert (sheet[157:174] < 160).any()  # grey ones below


def test_a_sheet_holds_a_hundred_pictures_of_any_size_and_caption() -> None:
    pictures = [
        (square(side=side), caption, "seed 1") for side in (1, 32, 256) for caption in ("", "x" * 10000, "猫 " * 99)
    ]
    sheet = contact_sheet((pictures * 20), None)
    assert sheet.width == 10 * 264 + 8
    assert SHEET_LIMIT == 100
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([])


def test_long_captions_end_in_dots_within_three_lines() -> None:
    short = contact_sheet([(square(), "a cat", "seed 0")])
    long = contact_sheet([(square(), "a cat " * 1000, "seed 0")])
    assert long.height - short.height == 2 * 17
    assert long.width == short.width
    beyond = np.asarray(long)[140:, 136:]
    assert (beyond == 255).all()  # no letter leaves its cell


# ---- grids


def inked(part: np.ndarray) -> bool:
    return bool((part < 128).any())


def test_a_grid_has_its_pictures_row_by_row() -> None:
    colours = ["red", "lime", "blue", "black", "yellow", "cyan"]
    sheet = labelled_grid((square(colour, 32) for colour in colours), ["", "", ""], ["", ""], side=32)
    assert sheet.size == (8 + 3 * 36 + 8, 8 + 2 * 36 + 8)
    for number, colour in enumerate(colours):
        x, y = 8 + number % 3 * 36, 8 + number // 3 * 36
        assert np.array_equal(np.asarray(sheet)[y : y + 32, x : x + 32], np.asarray(square(colour, 32)))
    assert (np.asarray(sheet)[:8] == 255).all()


def test_labels_stand_over_columns_and_before_rows() -> None:
    sheet = np.asarray(labelled_grid([square("white")] * 4, ["a cat", "two birds"], ["seed 1", ""], side=128))
    left, top = sheet.shape[1] - 2 * 132 - 8, sheet.shape[0] - 2 * 132 - 8
    assert inked(sheet[:top, left : left + 128]) and inked(sheet[:top, left + 132 :])
    assert inked(sheet[top : top + 128, :left]) and not inked(sheet[top + 132 :, :left])
    assert not inked(sheet[top:, left:])  # none on a picture
    assert 8 + 30 < left < 8 + 60  # no wider than "seed 1" needs


def test_labels_reach_over_their_empty_neighbours_and_no_further() -> None:
    long = "a very sleepy cat in the rain"
    sheet = labelled_grid([square("white", 32)] * 9, [long, *[""] * 7, long], [""], [long, *[""] * 7, long], side=32)
    pixels = np.asarray(sheet)
    top = 8 + 2 * 17  # broken into two lines, for which a single cell would be too narrow
    assert sheet.height == 2 * top + 36
    for part in (pixels[:top], pixels[-top:]):
        ink = (part < 128).any(axis=(0, 2)).nonzero()[0]
        assert ink.min() >= 8
        assert sheet.width - 8 - 4 - 8 < ink.max() < sheet.width - 8  # the last one ends with its picture
        assert (np.diff(ink) > 8).any()  # a gap between the two


def test_a_long_row_label_is_broken_within_its_row() -> None:
    sheet = np.asarray(labelled_grid([square("white")] * 2, [""], ["a sleepy cat in the rain " * 20, "b"], side=128))
    left = sheet.shape[1] - 132 - 8
    assert left <= 8 + 150 + 8
    assert inked(sheet[8 : 8 + 128, :left]) and not inked(sheet[8 + 128 : 8 + 132])


def test_pictures_of_a_grid_are_not_kept() -> None:
    alive: list[weakref.ref[Image.Image]] = []

    def pictures() -> Iterator[Image.Image]:
        for _ in range(20):
            image = square(side=32)
            alive.append(weakref.ref(image))
            yield image
            del image
            assert sum(ref() is not None for ref in alive) <= 2

    labelled_grid(pictures(), [""] * 5, [""] * 4)


def test_a_grid_counts_its_pictures() -> None:
    for count, message in ((0, "has no images"), (3, "3 images for the 4 places"), (5, "more images than the 4")):
        with pytest.raises(ValueError, match=message):
            labelled_grid([square()] * count, ["", ""], ["", ""])
    with pytest.raises(ValueError, match="has no images"):
        labelled_grid([square()], [], [""])


def test_the_side_of_a_picture_on_a_grid() -> None:
    assert [sheet_side(side, 4, 4) for side in (32, 64, 224, 512)] == [128, 128, 224, 256]
    assert sheet_side(64, 13, 2) == 64
    assert labelled_grid([square()], [""], [""]).size == (8 + 132 + 8, 8 + 132 + 8)


def test_resizing() -> None:
    image = Image.effect_noise((16, 16), 80).convert("RGB")
    assert resized(image, None).tobytes() == image.tobytes()
    assert resized(image, 16).tobytes() == image.tobytes()
    nearest = np.asarray(resized(image, 32, "nearest"))
    assert (nearest[::2, ::2] == np.asarray(image)).all() and (nearest[1::2, 1::2] == np.asarray(image)).all()
    assert not np.array_equal(np.asarray(resized(image, 32)), nearest)
