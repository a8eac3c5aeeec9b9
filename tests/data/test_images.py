"""Decoding, scaling and cutting images."""

from __future__ import annotations

import io
import resource
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from galip.data import images
from galip.data.images import as_array, decode_image, released_view, resize_and_crop
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


def test_the_releases_view() -> None:
    """Bilinear to 304, a square of 256, and to the model's size by torch's nearest neighbour, not Pillow's."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 255, (400, 500, 3), dtype=np.uint8))
    scaled = image.resize((380, 304), Image.Resampling.BILINEAR)
    square = torch.from_numpy(as_array(scaled.crop((31, 0, 31 + 256, 256))))
    for size in (224, 64, 37, 300):
        expected = F.interpolate(square[None].float(), (size, size), mode="nearest")[0]
        found = as_array(released_view(image, size, (0.25, 0.0)))
        np.testing.assert_array_equal(found, expected.numpy())


@pytest.mark.parametrize("mode", ["I", "F"])
@pytest.mark.parametrize("channels", [3, 4])
def test_pixels_of_32_bits_are_broken_not_black_or_white(mode: str, channels: int) -> None:
    values = np.linspace(0, 60000, 64).reshape(8, 8).astype(np.int32 if mode == "I" else np.float32)
    file = encoded(Image.fromarray(values, mode), "tiff")
    with pytest.raises(BrokenRecordError, match="32-bit pixels, whose range nothing says; save it with 8 or 16 bits"):
        decode_image(file, "x", channels=channels)


def test_pixels_of_16_bits_in_any_order() -> None:
    ramp = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
    for kind in ("png", "tiff"):
        shown = as_array(decode_image(encoded(Image.fromarray(ramp), kind), "x"))
        assert np.array_equal(shown[0], ramp >> 8), kind


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (b"zTXt", b"prompt\0\0" + zlib.compress(b"x" * (8 << 20))),
        (b"iTXt", b"prompt\0\1\0\0\0" + zlib.compress(b"x" * (8 << 20))),
        (b"iCCP", b"profile\0\0" + zlib.compress(b"x" * (8 << 20))),
        (b"tEXt", b"prompt\0" + b"x" * (70 << 20)),
    ],
)
@pytest.mark.parametrize("end", [False, True])
def test_a_png_with_long_texts_is_usable(tmp_path: Path, kind: bytes, content: bytes, end: bool) -> None:
    plain = encoded(Image.new("RGBA", (4, 4), (1, 2, 3, 255)), "png").getvalue()
    place = len(plain) - 12 if end else 33  # before IEND, or after IHDR
    (tmp_path / "a.png").write_bytes(plain[:place] + chunk(kind, content) + plain[place:])
    assert decode_image(tmp_path / "a.png", "x").getpixel((3, 3)) == (1, 2, 3)
    assert decode_image(io.BytesIO((tmp_path / "a.png").read_bytes()), "x", channels=4).getpixel((0, 0)) == (
        1,
        2,
        3,
        255,
    )


@pytest.mark.parametrize("size", [(30_000, 1), (1, 30_000), (65_535, 3)])
def test_lines_are_cut_before_they_are_scaled(size: tuple[int, int]) -> None:
    line = Image.new("RGB", size, (200, 0, 0))
    line.paste((0, 0, 200), (0, 0, max(1, size[0] // 2), max(1, size[1] // 2)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for where in ((0.0, 0.0), (0.5, 0.5), (1.0, 1.0)):
        shown = resize_and_crop(line, 256, 224, where)
        assert shown.size == (224, 224)
    assert tuple(shown.getpixel((112, 112))) == (200, 0, 0)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000, "kilobytes"


def test_what_is_cut_first_is_what_is_cut_last(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (23, 90, 3), np.uint8))
    for shorter_side, size in ((12, 10), (50, 40)):
        for where in ((0.0, 0.0), (0.3, 0.9), (1.0, 1.0)):
            whole = as_array(resize_and_crop(noise, shorter_side, size, where)).astype(int)
            monkeypatch.setattr(images, "_MAX_SCALED", 0)
            assert np.abs(as_array(resize_and_crop(noise, shorter_side, size, where)) - whole).max() <= 1
            monkeypatch.undo()


def test_an_image_of_too_many_pixels_is_broken() -> None:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 12_000, 12_000, 8, 2, 0, 0, 0))
    with pytest.raises(BrokenRecordError, match="12000 x 12000 pixels; at most 134,217,728 are read"):
        decode_image(io.BytesIO(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"")), "x")


def test_a_large_transparent_image_is_laid_on_white_as_a_small_one(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (37, 20, 4), np.uint8))
    whole = as_array(decode_image(encoded(noise, "png"), "x"))
    monkeypatch.setattr(images, "_STRIP", 70)
    assert np.array_equal(as_array(decode_image(encoded(noise, "png"), "x")), whole)
    over_white = np.asarray(noise)[..., 3] == 0
    assert (whole[:, over_white] == 255).all()


def test_no_other_program_is_started_to_read_an_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(BrokenRecordError, match="unknown format"):
        decode_image(tmp_path / "a.png", "x")
