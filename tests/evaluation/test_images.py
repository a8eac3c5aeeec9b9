"""Evaluated and real images, of one size, 8-bit exactly once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from evaluation import small
from numpy.typing import NDArray
from PIL import Image

from galip.data.folder import CaptionedFolder
from galip.data.protocol import BrokenRecordError
from galip.errors import GalipError
from galip.evaluation.evaluated import EvaluatedImages, EvaluatedModel
from galip.evaluation.images import at_resolution, real_images
from galip.evaluation.planning import make_plan, plan_of_images
from galip.torch_backend.pipeline import GALIPPipeline

pytestmark = pytest.mark.usefixtures("one_thread")


def by_pillow(images: torch.Tensor, side: int) -> NDArray[np.float32]:
    """Floats [B, 3, S, S] resized by another library: Pillow's antialiased bicubic, on floats."""
    out = [
        [np.asarray(Image.fromarray(channel.numpy()).resize((side, side), Image.Resampling.BICUBIC)) for channel in one]
        for one in images
    ]
    return np.clip(np.array(out, dtype=np.float32), 0, 1)


@pytest.mark.parametrize(("side", "wanted"), [(224, 256), (64, 48), (256, 64)])
def test_another_size_is_reached_by_antialiased_bicubic_before_quantising(side: int, wanted: int) -> None:
    generated = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    expected = by_pillow(generated, wanted)
    floats = at_resolution(generated, wanted, quantise=False)
    assert floats.dtype == torch.float32 and floats.shape == (2, 3, wanted, wanted)
    np.testing.assert_allclose(floats.numpy(), expected, atol=2e-5)
    # Were it quantised before, thousands of values would be off by one.
    quantised = at_resolution(generated, wanted, quantise=True)
    assert quantised.dtype == torch.uint8 and quantised.is_contiguous()
    away = np.abs(quantised.numpy() - expected * 255)
    assert away.max() < 0.5 + 255 * 2e-5


def test_at_its_own_size_a_image_is_quantised_by_rounding_and_nothing_else() -> None:
    values = torch.tensor([0.0, 0.4, 0.6, 127.49, 127.51, 254.6, 255.0]) / 255
    generated = values[:, None, None, None].expand(-1, 3, 8, 8)
    found = at_resolution(generated, 8, quantise=True)
    assert found[:, 0, 0, 0].tolist() == [0, 0, 1, 127, 128, 255, 255]
    assert torch.equal(at_resolution(found, 8, quantise=True), found)


def test_un_quantised_a_image_of_the_right_size_is_the_models_own() -> None:
    generated = torch.rand(2, 3, 8, 8)
    assert torch.equal(at_resolution(generated, 8, quantise=False), generated)
    as_bytes = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    assert torch.equal(at_resolution(as_bytes, 8, quantise=False), as_bytes.float() / 255)


def test_bytes_of_another_size_are_resized_too() -> None:
    as_bytes = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    expected = at_resolution(as_bytes.float() / 255, 48, quantise=True)
    assert torch.equal(at_resolution(as_bytes, 48, quantise=True), expected)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("quantise", [True, False])
@pytest.mark.parametrize("resolution", [8, 16])
def test_numbers_that_are_not_finite_are_an_error(value: float, quantise: bool, resolution: int) -> None:
    generated = torch.rand(2, 3, 8, 8)
    generated[1, 2, 3, 4] = value
    with pytest.raises(GalipError, match="not finite"):
        at_resolution(generated, resolution, quantise)


@pytest.fixture
def odd(tmp_path: Path) -> CaptionedFolder:
    """A wide, a tall, a small grey and a transparent image."""
    random = np.random.default_rng(0)
    sizes = {"a.png": (61, 40), "b.png": (40, 61), "c.png": (9, 9), "d.png": (30, 30)}
    rows = []
    for name, (width, height) in sizes.items():
        image = Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))
        if name == "c.png":
            image = image.convert("L")
        if name == "d.png":
            image.putalpha(0)
        image.save(tmp_path / name)
        rows.append({"file_name": name, "captions": [name]})
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return CaptionedFolder(tmp_path)


def test_real_images_shorter_side_and_centre(odd: CaptionedFolder) -> None:
    found = real_images(odd, [1, 0, 2, 3], 20)
    assert found.dtype == torch.uint8 and found.shape == (4, 3, 20, 20)
    pixels = found.permute(0, 2, 3, 1).numpy()
    with Image.open(odd.folder / "a.png") as wide, Image.open(odd.folder / "b.png") as tall:
        # 61 x 40 -> 30 x 20 (30.5 rounds to the even), and 5 pixels go on either side.
        expected = wide.resize((30, 20), Image.Resampling.BICUBIC).crop((5, 0, 25, 20))
        assert np.array_equal(pixels[1], np.asarray(expected))
        expected = tall.resize((20, 30), Image.Resampling.BICUBIC).crop((0, 5, 20, 25))
        assert np.array_equal(pixels[0], np.asarray(expected))
    assert (pixels[2][..., 0] == pixels[2][..., 1]).all()
    assert (pixels[3] == 255).all()  # white under transparency


def test_a_broken_real_image_is_an_error_that_names_it(odd: CaptionedFolder) -> None:
    (odd.folder / "c.png").write_bytes(b"no image")
    with pytest.raises(BrokenRecordError, match="c.png"):
        real_images(odd, [0, 1, 2, 3], 20)


def _evaluated(pipe: GALIPPipeline, **how: Any) -> EvaluatedModel:
    return EvaluatedModel(pipe, "tiny", pipe, **how)


@pytest.fixture(scope="module")
def generated() -> EvaluatedModel:
    return _evaluated(tiny.pipeline(), batch_size=3)


def test_a_models_images_are_its_pipelines_un_quantised(generated: EvaluatedModel, small_data: Path) -> None:
    rows = make_plan(small.rules("fid"), CaptionedFolder(small_data)).samples[5:12]
    found = generated.images(rows)
    assert found.shape == (7, 3, 32, 32) and generated.size == 32
    expected = generated.pipe([row.caption for row in rows], seed=[row.seed for row in rows], output_type="pt").images
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert found.min() >= 0 and found.max() <= 1
    assert ((found * 255) % 1 > 0.01).float().mean() > 0.5


def test_a_image_depends_on_its_caption_and_seed_alone(generated: EvaluatedModel, small_data: Path) -> None:
    rows = make_plan(small.rules("fid"), CaptionedFolder(small_data)).samples[:7]
    found = generated.images(rows)
    other = _evaluated(tiny.pipeline(), batch_size=16)
    torch.testing.assert_close(other.images(rows[::-1]).flip(0), found, atol=1e-5, rtol=0)
    torch.testing.assert_close(generated.images(rows[3:4])[0], found[3], atol=1e-5, rtol=0)
    half = _evaluated(tiny.pipeline(), truncation=0.5)
    assert (half.images(rows) - found).abs().max() > 1e-3


def test_a_broken_model_names_the_image(small_data: Path) -> None:
    pipe = tiny.pipeline()
    with torch.no_grad():
        pipe.generator.image_generator.to_rgb.weight[0, 0, 0, 0] = float("nan")
    rows = make_plan(small.rules("fid", seed=40), CaptionedFolder(small_data)).samples[:2]
    with pytest.raises(GalipError, match=r"0 \(seed 40\) holds numbers that are not finite; the weights"):
        _evaluated(pipe).images(rows)


def test_images_generated_earlier_come_as_they_are(tmp_path: Path) -> None:
    source = CaptionedFolder(small.images(tmp_path / "generated", 5))
    earlier = EvaluatedImages(source, "generated", 20)
    rows = plan_of_images(small.rules("fid", captions="choose"), source, source).samples
    records = [row.earlier for row in rows]
    assert sorted(records) == [0, 1, 2, 3, 4]
    assert torch.equal(earlier.images(rows[1:4]), real_images(source, records[1:4], 20))
    assert earlier.digest == source.state[:16] and earlier.size == 20
