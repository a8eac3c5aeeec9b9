"""Inversion with a tiny real pipeline: a drawn picture comes back; pictures of any kind are taken; edits; files."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from galip.errors import GalipError, InputError
from galip.generation.noise import noise
from galip.latent.editing import edit, variations
from galip.latent.inversion import PSNR_LIMIT, Inversion, invert, psnr
from galip.latent.inversion_folder import FACTS, LATENTS, is_inversion, read_inversion, write_inversion
from galip.latent.targets import as_target
from galip.torch_backend.pipeline import GALIPPipeline

QUICK: dict[str, Any] = {"steps": 3, "restarts": 2, "starts": 4}


@pytest.fixture(scope="module")
def pipe() -> GALIPPipeline:
    return tiny.pipeline()


@pytest.fixture(scope="module")
def drawn(pipe: GALIPPipeline) -> Image.Image:
    """A picture whose noise is none of the starts."""
    return pipe("a red heart", seed=1000, truncation=1.2).images[0]


@pytest.fixture(scope="module")
def quick(pipe: GALIPPipeline, drawn: Image.Image) -> Inversion:
    return invert(pipe, drawn, prompt="two birds", seed=5, **QUICK)


# ---- it comes back


def test_a_drawn_picture_comes_back(pipe: GALIPPipeline, drawn: Image.Image) -> None:
    found = invert(pipe, drawn, steps=250)
    assert found.psnr > 32
    assert found.psnr > found.start_psnr + 10
    assert found.loss < found.start_loss / 10
    assert found.similarity > 0.99
    assert found.psnr == pytest.approx(psnr(np.asarray(found.image), np.asarray(drawn)))
    assert abs(np.linalg.norm(found.z) - math.sqrt(tiny.Z_DIM)) < 3 * math.sqrt(0.5) + 1e-3


def test_with_its_caption_the_noise_is_found_too(pipe: GALIPPipeline) -> None:
    # e is then right from the start, and there is little but z to be found.
    picture = pipe("a red heart", seed=1000).images[0]
    found = invert(pipe, picture, prompt="a red heart", steps=250)
    true, e = noise([1000], tiny.Z_DIM)[0], pipe.encode_prompt("a red heart")[0].numpy()
    assert found.psnr > 32
    assert np.corrcoef(found.z, true)[0, 1] > 0.9
    assert np.corrcoef(found.e, e)[0, 1] > 0.9


def test_z_and_e_draw_the_result(pipe: GALIPPipeline, drawn: Image.Image) -> None:
    for per_stage in (False, True):
        found = invert(pipe, drawn, per_stage=per_stage, **QUICK)
        assert found.e.shape == ((pipe.generator.num_stages, tiny.COND_DIM) if per_stage else (tiny.COND_DIM,))
        redrawn = pipe(prompt_embeds=torch.from_numpy(found.e)[None], latents=found.z[None]).images[0]
        assert np.abs(np.asarray(found.image, int) - np.asarray(redrawn, int)).max() <= 1


def test_a_vector_for_each_stage_comes_nearer(pipe: GALIPPipeline) -> None:
    picture = Image.radial_gradient("L")
    one, many = (invert(pipe, picture, steps=60, per_stage=flag) for flag in (False, True))
    assert many.loss < one.loss


def test_the_clip_term_pulls_towards_what_clip_sees(pipe: GALIPPipeline) -> None:
    picture = Image.radial_gradient("L")
    without, with_it = (invert(pipe, picture, steps=60, clip_weight=weight) for weight in (0.0, 3.0))
    assert with_it.similarity > without.similarity
    assert with_it.psnr < without.psnr


def test_the_best_point_is_kept_and_the_same_call_finds_it_again(pipe: GALIPPipeline, drawn: Image.Image) -> None:
    told: list[tuple[str, int, int]] = []
    first = invert(pipe, drawn, **QUICK, progress=lambda *step: told.append(step))
    second = invert(pipe, drawn, **QUICK)
    np.testing.assert_array_equal(first.z, second.z)
    assert told == [("inverting", 1, 3), ("inverting", 2, 3), ("inverting", 3, 3)]
    shorter = invert(pipe, drawn, **QUICK | {"steps": 1})
    assert shorter.start_loss == first.start_loss
    assert first.loss <= first.start_loss


def test_more_starts_begin_nearer(pipe: GALIPPipeline, drawn: Image.Image) -> None:
    few, many = (invert(pipe, drawn, steps=1, restarts=1, starts=count) for count in (1, 40))
    assert many.start_loss < few.start_loss


def test_psnr() -> None:
    black, white = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)
    assert psnr(black, white) == 0
    assert psnr(black, black) == PSNR_LIMIT
    assert psnr(black, black + np.uint8(25)) == pytest.approx(20 * math.log10(255 / 25))


# ---- any picture


def test_pictures_of_any_mode_and_size() -> None:
    square = np.zeros((40, 40, 4), np.uint8)
    square[..., 0], square[:, :20, 3] = 255, 255  # the left half red, the right half transparent
    seen = np.asarray(as_target(Image.fromarray(square), 8))
    assert seen.shape == (8, 8, 3)
    assert seen[4, 0].tolist() == [255, 0, 0]
    assert seen[4, 7].tolist() == [255, 255, 255]
    for mode in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr", "HSV", "LAB", "I", "I;16", "F"):
        image = Image.new("RGB", (31, 7), "white").convert("L" if mode in ("I;16", "LAB") else mode)
        image = Image.new(mode, (31, 7)) if mode in ("I;16", "LAB") else image
        assert as_target(image, 16).size == (16, 16)
    for size in ((1, 1), (3, 500), (500, 3)):
        assert as_target(Image.new("RGB", size, "red"), 8).getpixel((4, 4)) == (255, 0, 0)


def test_a_picture_that_is_not_square_is_cropped_or_padded() -> None:
    wide = Image.new("RGB", (30, 10), "blue")
    wide.paste("red", (10, 0, 20, 10))
    assert np.asarray(as_target(wide, 10)).reshape(-1, 3).tolist() == [[255, 0, 0]] * 100
    padded = np.asarray(as_target(wide, 30, "pad"))
    assert padded[0, 15].tolist() == [255, 255, 255]
    assert padded[15, 0].tolist() == [0, 0, 255]


def test_the_rotation_that_a_camera_noted_is_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (16, 16), "white")
    image.paste("black", (0, 0, 16, 8))  # the upper half
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise: the upper half comes to the right
    image.save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as opened:
        for picture in (tmp_path / "turned.png", str(tmp_path / "turned.png"), opened):
            seen = as_target(picture, 16)
            assert seen.getpixel((1, 8)) == (255, 255, 255)
            assert seen.getpixel((14, 8)) == (0, 0, 0)


def test_what_is_no_picture_is_refused(pipe: GALIPPipeline, tmp_path: Path) -> None:
    text = tmp_path / "picture.png"
    text.write_text("no picture")
    with pytest.raises(GalipError, match=r"picture\.png: not a readable image \(unknown format\); give a PNG"):
        invert(pipe, text)
    with pytest.raises(InputError, match=r"nothing\.png: there is no such file"):
        invert(pipe, tmp_path / "nothing.png")
    with pytest.raises(InputError, match="the image is a ndarray"):
        invert(pipe, np.zeros((8, 8, 3)))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="fit 'stretch'"):
        invert(pipe, Image.new("RGB", (8, 8)), fit="stretch")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"restarts": 0}, "restarts is 0"),
        ({"starts": True}, "starts is True"),
        ({"clip_weight": -1}, "clip_weight is -1"),
        ({"seed": -1}, "seed -1"),
        ({"prompt": " "}, "caption"),
    ],
)
def test_bad_arguments_are_refused(pipe: GALIPPipeline, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        invert(pipe, Image.new("RGB", (8, 8)), **options)


def test_a_t5_model_needs_a_caption_and_a_clip(drawn: Image.Image, tmp_path: Path) -> None:
    pipe, clip = tiny.pipeline(text="t5"), tiny.save(tmp_path / "clip")
    with pytest.raises(InputError, match="name a CLIP"):
        invert(pipe, drawn, **QUICK)
    with pytest.raises(InputError, match="must begin with a prompt"):
        invert(pipe, drawn, clip=clip, **QUICK)
    assert invert(pipe, drawn, clip=clip, prompt="a cat", **QUICK).e.shape == (32,)


# ---- edits and variations


def test_an_edit_adds_the_difference_of_two_captions(pipe: GALIPPipeline, quick: Inversion) -> None:
    before, after = pipe.encode_prompt(["a heart", "a red heart"]).numpy()
    moved = edit(pipe, quick.e, "a red heart", "a heart", 0.5)
    expected = quick.e + 0.5 * (after - before)
    np.testing.assert_allclose(moved, expected * np.linalg.norm(quick.e) / np.linalg.norm(expected), atol=1e-5)
    np.testing.assert_array_equal(edit(pipe, quick.e, "a red heart", "a heart", 0), quick.e)
    stages = np.stack([quick.e, 2 * quick.e])
    for row, whole in zip(edit(pipe, stages, "a red heart", "a heart", 2.0), stages, strict=True):
        assert np.linalg.norm(row) == pytest.approx(np.linalg.norm(whole), rel=1e-5)


def test_without_a_source_it_becomes_the_captions(pipe: GALIPPipeline, quick: Inversion) -> None:
    wanted = pipe.encode_prompt("a sleepy cat").numpy()[0]
    np.testing.assert_allclose(edit(pipe, quick.e, "a sleepy cat"), wanted, atol=1e-5)
    distances = [np.linalg.norm(edit(pipe, quick.e, "a sleepy cat", strength=s) - wanted) for s in (0, 0.3, 0.7)]
    assert distances == sorted(distances, reverse=True)
    stages = np.stack([quick.e, -quick.e + 1])
    assert edit(pipe, stages, "a sleepy cat", strength=0.5).shape == stages.shape
    with pytest.raises(InputError, match="strength is 1.5: give 0 to 1, or the prompt that the image begins with"):
        edit(pipe, quick.e, "a sleepy cat", strength=1.5)
    with pytest.raises(InputError, match="strength is -1"):
        edit(pipe, quick.e, "a sleepy cat", "a cat", strength=-1)


def test_variations_are_near_and_as_long(quick: Inversion) -> None:
    length = np.linalg.norm(quick.z)
    near, far = (variations(quick.z, 5, amount, seed=3) for amount in (0.1, 0.6))
    for z in (near, far):
        assert z.shape == (5, tiny.Z_DIM)
        assert z.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(z, axis=1), length, rtol=1e-4)
    assert (np.linalg.norm(near - quick.z, axis=1) < np.linalg.norm(far - quick.z, axis=1)).all()
    np.testing.assert_allclose(variations(quick.z, 2, 0.0), np.stack([quick.z] * 2), rtol=1e-5, atol=1e-6)
    whole = variations(quick.z, 1, 1.0, seed=8)[0]
    assert np.corrcoef(whole, noise([8], tiny.Z_DIM)[0])[0, 1] > 0.999
    np.testing.assert_array_equal(variations(quick.z, 3, 0.6, seed=4)[0], far[1])
    for bad in ({"count": 0}, {"count": 1, "amount": 1.1}, {"count": 1, "seed": -1}):
        with pytest.raises(InputError):
            variations(quick.z, **bad)  # type: ignore[arg-type]


# ---- files


def test_a_stored_inversion_is_the_inversion(quick: Inversion, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    write_inversion(folder, quick, {"weights": "abc", "model": "tiny"})
    assert sorted(path.name for path in folder.iterdir()) == [FACTS, LATENTS]
    for path in (folder, folder / FACTS, folder / LATENTS):
        assert is_inversion(path)
        stored = read_inversion(path)
        np.testing.assert_array_equal(stored.z, quick.z)
        np.testing.assert_array_equal(stored.e, quick.e)
        assert (stored.prompt, stored.weights, stored.facts["model"]) == ("two birds", "abc", "tiny")
        assert stored.facts["psnr_db"] == round(quick.psnr, 2)
        assert stored.facts["seed"] == 5


def test_what_is_not_whole_is_refused(quick: Inversion, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no inversion"):
        read_inversion(tmp_path)
    write_inversion(tmp_path, quick, {"weights": "abc"})
    whole = (tmp_path / LATENTS).read_bytes()
    (tmp_path / LATENTS).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(GalipError, match="the inversion is not whole"):
        read_inversion(tmp_path)
    with (tmp_path / LATENTS).open("wb") as file:
        np.savez(file, z=quick.z, e=np.full_like(quick.e, np.nan))
    with pytest.raises(GalipError, match="it does not hold z and e"):
        read_inversion(tmp_path)
    with (tmp_path / LATENTS).open("wb") as file:  # a pickle can run code
        np.savez(file, z=np.array([{}]), e=quick.e)
    with pytest.raises(GalipError, match="not whole"):
        read_inversion(tmp_path)
    (tmp_path / LATENTS).write_bytes(whole)
    (tmp_path / FACTS).write_text(json.dumps({"format": 99, "weights": ""}))
    with pytest.raises(GalipError, match=r"inversion\.json: it is not an inversion of format 1"):
        read_inversion(tmp_path)
