"""torch's pipeline and the engines' seen alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from galip.errors import InputError
from galip.export.exporting import Source, export
from galip.generation.noise import noise
from galip.latent import mix
from galip.torch_backend.pipeline import GALIPPipeline


@pytest.fixture(scope="module")
def pipe() -> GALIPPipeline:
    return tiny.pipeline()


def test_torch(pipe: GALIPPipeline) -> None:
    size = pipe.sizes
    assert (size.z_dim, size.cond_dim, size.num_stages, size.image_size) == (8, 24, 5, 32)
    e = pipe.embed(["a cat", "two birds"])
    assert e.dtype == np.float32
    assert torch.equal(torch.from_numpy(e), pipe.encode_prompt(["a cat", "two birds"]))
    expected = pipe(["a cat", "two birds"], seed=[3, 4], truncation=0.5, output_type="np").images
    z = noise([3, 4], size.z_dim)
    assert np.abs(pipe.generate(z, e, truncation=0.5, output_type="np") - expected).max() < 1e-6
    pictures = pipe.generate(z, e, truncation=0.5, batch_size=1)
    assert [picture.size for picture in pictures] == [(32, 32)] * 2
    assert np.abs(np.asarray(pictures[1]) / 255 - expected[1]).max() < 0.003


def test_one_by_one(pipe: GALIPPipeline) -> None:
    z, e = noise(range(5), 8), pipe.embed(["a cat"] * 5)
    together = pipe.generate(z, e, output_type="np")
    singly = np.stack(list(pipe.generate_each(zip(z, e, strict=True), batch_size=2, output_type="np")))
    assert np.abs(singly - together).max() < 1e-5


def test_shapes_that_do_not_fit(pipe: GALIPPipeline) -> None:
    with pytest.raises(InputError, match="latents has shape"):
        pipe.generate(np.zeros((1, 3), np.float32), pipe.embed("a cat"))
    with pytest.raises(InputError, match="prompt_embeds has shape"):
        pipe.generate(noise([1], 8), np.zeros((1, 3), np.float32))


@pytest.mark.engines
def test_an_engine_is_seen_alike(pipe: GALIPPipeline, tmp_path: Path) -> None:
    from galip.generation.onnx_backend import ONNXBackend
    from galip.generation.pipeline import TextToImage

    export(pipe, Source("tiny-32", tiny.save(tmp_path / "tiny-32")), tmp_path / "exported", "onnx")
    engine = TextToImage(ONNXBackend(tmp_path / "exported", threads=1))
    assert engine.sizes == pipe.sizes
    assert np.abs(engine.embed("two birds") - pipe.embed("two birds")).max() < 1e-5
    z = noise([1, 2], 8)
    for e in (pipe.embed(["a cat", "two birds"]), np.stack([mix(pipe, "a cat", "two birds")] * 2)):
        ours, theirs = (one.generate(z, e, batch_size=1, output_type="np") for one in (engine, pipe))
        assert np.abs(ours - theirs).max() < 1e-4
