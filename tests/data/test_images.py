"""Decoding, scaling and cutting images."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from galip.data.images import as_array, decode_image, resize_and_crop
from galip.data.protocol import BrokenRecordError


def encoded(image: Image.Image, kind: str, **options: object) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file


def test_transparency_becomes_white_and_exif_turns(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert decode_image(tmp_path / "clear.png", "clear.png").getpixel((0, 0)) == (255, 255, 255)
    turned = Image.new("RGB", (6, 3), "blue")
    exif = turned.getexif()
    exif[0x0112] = 6  # turn a quarter
    turned.save(tmp_path / "turned.jpg", exif=exif)
    assert decode_image(tmp_path / "turned.jpg", "turned.jpg").size == (3, 6)


def test_every_kind_of_image_becomes_rgb() -> None:
    palette = Image.new("P", (4, 4))
    palette.putpalette([255, 0, 0] * 256)
    see_through = encoded(palette, "png", transparency=0)
    assert decode_image(see_through, "x").getpixel((0, 0)) == (255, 255, 255)
    assert decode_image(encoded(palette, "png"), "x").getpixel((0, 0)) == (255, 0, 0)
    assert decode_image(encoded(Image.new("L", (4, 4), 77), "png"), "x").getpixel((0, 0)) == (77, 77, 77)
    assert decode_image(encoded(Image.new("LA", (4, 4), (77, 0)), "png"), "x").getpixel((0, 0)) == (255, 255, 255)
    assert decode_image(encoded(Image.new("CMYK", (4, 4)), "jpeg"), "x").getpixel((0, 0)) == (255, 255, 255)
    deep = Image.fromarray(np.full((4, 4), 128 * 256 + 9, np.uint16))
    assert decode_image(encoded(deep, "png"), "x").getpixel((0, 0)) == (128, 128, 128)


def test_an_alpha_channel_is_kept_where_it_is_asked_for(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (4, 4), (10, 20, 30, 0))
    clear.putpixel((0, 0), (1, 2, 3, 128))
    read = decode_image(encoded(clear, "png"), "x", channels=4)
    pixels = as_array(read)
    assert read.mode == "RGBA" and pixels.shape == (4, 4, 4)
    assert pixels[:, 0, 0].tolist() == [1, 2, 3, 128]
    assert pixels[:, 1, 1].tolist() == [255, 255, 255, 0], "colour that nobody sees is not noise to learn from"
    plain = as_array(decode_image(encoded(Image.new("L", (4, 4), 77), "png"), "x", channels=4))
    assert plain[:, 0, 0].tolist() == [77, 77, 77, 255]
    palette = Image.new("P", (4, 4))
    palette.putpalette([255, 0, 0] * 256)
    assert as_array(decode_image(encoded(palette, "png", transparency=0), "x", channels=4))[3].max() == 0
    assert as_array(resize_and_crop(read, 8, 8, (0.5, 0.5))).shape == (4, 8, 8)


@pytest.mark.parametrize("cut", [0, 10, 300, 900])
@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_an_image_that_ends_early_is_broken(kind: str, cut: int) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8))
    content = encoded(noise, kind).getvalue()
    assert len(content) > cut
    with pytest.raises(BrokenRecordError, match="the name: not a readable image"):
        decode_image(io.BytesIO(content[:cut]), "the name")


def test_large_jpegs_are_decoded_small_but_never_too_small() -> None:
    ramp = np.tile(np.linspace(0, 255, 640, dtype=np.uint8)[None, :, None], (480, 1, 3))
    file = encoded(Image.fromarray(ramp), "jpeg", quality=95)
    assert decode_image(file, "x").size == (640, 480)
    assert decode_image(file, "x", needed=60).size == (160, 120)
    assert decode_image(file, "x", needed=61).size == (320, 240)
    assert decode_image(file, "x", needed=300).size == (640, 480)
    small, full = (resize_and_crop(decode_image(file, "x", needed), 60, 60, (0.5, 0.5)) for needed in (60, 0))
    assert np.abs(as_array(small).astype(int) - as_array(full)).max() <= 2


def test_resize_and_crop() -> None:
    wide = Image.new("RGB", (40, 20))
    wide.paste((255, 255, 255), (20, 0, 40, 20))
    assert resize_and_crop(wide, 10, 8, (0.0, 0.0)).size == (8, 8)
    assert np.asarray(resize_and_crop(wide, 10, 8, (0.0, 0.5))).mean() < 20
    assert np.asarray(resize_and_crop(wide, 10, 8, (1.0, 0.5))).mean() > 235
    assert resize_and_crop(Image.new("RGB", (3, 3)), 8, 8, (0.5, 0.5)).size == (8, 8)
