"""What becomes of an image on its way into a shard."""

from __future__ import annotations

import io

import numpy as np
import pytest
from data.trees import encoded, noise
from PIL import Image

from galip.data_prep.encoding import ImageOptions, UnusableError, check, encode
from galip.errors import InputError


@pytest.mark.parametrize(("kind", "suffix"), [("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp")])
def test_rgb_images_keep_their_bytes(kind: str, suffix: str) -> None:
    content = noise(0, kind=kind)
    assert encode(content, ImageOptions(min_side=30)) == (content, suffix, True)


def test_other_images_become_rgb_without_loss_where_they_had_none() -> None:
    see_through = Image.new("RGBA", (9, 9), (200, 0, 0, 0))
    see_through.putpixel((0, 0), (0, 0, 255, 255))
    result = encode(encoded(see_through), ImageOptions())
    assert (result.suffix, result.kept) == ("png", False)
    shown = Image.open(io.BytesIO(result.content))
    assert shown.mode == "RGB" and shown.getpixel((0, 0)) == (0, 0, 255) and shown.getpixel((1, 1)) == (255,) * 3
    assert encode(encoded(Image.new("RGB", (9, 9)), "BMP"), ImageOptions()).suffix == "png"
    grey = encode(encoded(Image.new("L", (9, 9), 77), "JPEG"), ImageOptions())
    assert (grey.suffix, grey.kept) == ("jpg", False)
    assert Image.open(io.BytesIO(grey.content)).mode == "RGB"


def test_alpha_is_kept_where_it_is_asked_for() -> None:
    see_through = Image.new("RGBA", (9, 9), (200, 0, 0, 10))
    keep = ImageOptions(keep_alpha=True)
    assert encode(encoded(see_through), keep) == (encoded(see_through), "png", True)
    assert encode(noise(0), keep) == (noise(0), "jpg", True)
    halves = Image.merge("LA", [Image.new("L", (9, 9), 77), Image.new("L", (9, 9), 10)])
    for content in (encoded(halves), encoded(see_through, "WEBP", lossless=True)):
        shown = encode(content, ImageOptions(shorter_side=5, keep_alpha=True))
        assert (shown.suffix, shown.kept) == ("png", False)
        assert Image.open(io.BytesIO(shown.content)).convert("RGBA").getpixel((2, 2))[3] == 10
    assert Image.open(io.BytesIO(encode(encoded(halves), keep).content)).mode == "RGBA"
    assert "keep_alpha" in keep.recorded() and "keep_alpha" not in ImageOptions().recorded()


def test_a_box_is_cut_out_and_clipped_at_the_borders() -> None:
    image = Image.fromarray(np.arange(20 * 10 * 3, dtype=np.uint16).astype(np.uint8).reshape(10, 20, 3))
    result = encode(encoded(image), ImageOptions(), (-5, 4, 7, 99))
    shown = Image.open(io.BytesIO(result.content))
    assert shown.size == (7, 6) and not result.kept
    assert np.array_equal(np.asarray(shown), np.asarray(image)[4:10, 0:7])
    with pytest.raises(UnusableError, match="box outside the image"):
        encode(encoded(image), ImageOptions(), (20, 0, 30, 10))
    with pytest.raises(UnusableError, match="too small"):
        encode(encoded(image), ImageOptions(min_side=7), (-5, 4, 7, 99))


def test_scaling_is_down_only() -> None:
    content = noise(1, (400, 200))
    scaled = encode(content, ImageOptions(shorter_side=50))
    assert Image.open(io.BytesIO(scaled.content)).size == (100, 50) and not scaled.kept
    assert encode(content, ImageOptions(shorter_side=200)).kept
    assert encode(content, ImageOptions(shorter_side=300)).kept
    small = encode(content, ImageOptions(shorter_side=50, quality=20))
    assert len(small.content) < len(scaled.content) / 2


@pytest.mark.parametrize("content", [b"", b"no image", noise(2)[:-200], noise(2, kind="PNG")[:-200]])
def test_what_cannot_be_decoded_to_its_end_is_unreadable(content: bytes) -> None:
    for function in (encode, check):
        with pytest.raises(UnusableError) as caught:
            function(content, ImageOptions())
        assert caught.value.reason == "unreadable"


def test_an_animation_is_not_kept_as_it_is() -> None:
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue")]
    content = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    result = encode(content, ImageOptions())
    assert (result.suffix, result.kept) == ("jpg", False)


@pytest.mark.parametrize("options", [{"shorter_side": 0}, {"min_side": 0}, {"quality": 0}, {"quality": 101}])
def test_options_out_of_range_are_named(options: dict[str, int]) -> None:
    (name, value) = next(iter(options.items()))
    with pytest.raises(InputError, match=f"--{name.replace('_', '-')} {value}"):
        ImageOptions(**options)
