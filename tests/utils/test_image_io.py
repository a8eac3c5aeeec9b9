"""File names that are safe and unique, PNG files that are whole."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from galip.utils.image_io import image_name, save_image

SETTINGS = {"weights": "0123456789abcdef", "truncation": 1.0}


def square(colour: str = "red", side: int = 64) -> Image.Image:
    return Image.new("RGB", (side, side), colour)


@pytest.mark.parametrize(
    ("caption", "beginning"),
    [
        ("a red heart", "a-red-heart-s7-"),
        ("  ../../etc/passwd\0\n", "etc-passwd-s7-"),
        ("Ünïcödé Café", "unicode-cafe-s7-"),
        ("猫", "caption-s7-"),
        ("🙂🙂", "caption-s7-"),
        ("con", "con-s7-"),
        ("-rf *", "rf-s7-"),
        ("word " * 2000, "word-word-word-word-word-word-word-word-s7-"),
        ("x" * 10000, "x" * 40 + "-s7-"),
        ("\ud800 half a pair", "half-a-pair-s7-"),
    ],
)
def test_names_are_safe_for_any_caption(caption: str, beginning: str) -> None:
    name = image_name(caption, 7, SETTINGS)
    assert name.startswith(beginning)
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]*-s7-[0-9a-f]{12}\.png", name)
    assert len(name) <= 100


def test_names_are_the_same_for_the_same_and_differ_otherwise() -> None:
    assert image_name("a cat", 1, SETTINGS) == image_name("a cat", 1, dict(reversed(SETTINGS.items())))
    others = [
        image_name("a cat", 1, SETTINGS),
        image_name("A cat", 1, SETTINGS),  # the same slug
        image_name("a cat!", 1, SETTINGS),
        image_name("a cat", 2, SETTINGS),
        image_name("a cat", 1, SETTINGS | {"weights": "other"}),
        image_name("a cat", 1, SETTINGS | {"truncation": 0.5}),
        image_name("é", 1, SETTINGS),
        image_name("e\u0301", 1, SETTINGS),  # the same to the eye, another text
        image_name("x" * 9999, 1, SETTINGS),
        image_name("x" * 10000, 1, SETTINGS),
    ]
    assert len({name.lower() for name in others}) == len(others)
    assert len(image_name("x", 2**63 - 1, SETTINGS)) < 100


def test_a_png_keeps_its_pixels_and_its_texts(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    texts = {"prompt": "eine Katze 猫 " + "x" * 10000, "seed": "7"}
    save_image(Image.fromarray(pixels), tmp_path / "a.png", texts)
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.asarray(image), pixels)
        assert image.text == texts
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_png_that_cannot_be_finished_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    save_image(square("red"), tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    broken = square("blue")
    broken.close()
    with pytest.raises(ValueError, match="closed"):
        save_image(broken, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_png_that_cannot_take_its_place_leaves_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    with pytest.raises(OSError, match=r"a\.png"):
        save_image(square(), tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
