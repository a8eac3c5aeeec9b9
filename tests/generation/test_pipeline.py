"""The call over a backend of a few matrices: what it hands to the backend, and what it makes of the answer."""

from __future__ import annotations

import numpy as np
import pytest
from generation.linear_backend import LinearBackend
from PIL import Image

from galip.errors import GalipError, InputError
from galip.generation.noise import noise
from galip.generation.pipeline import TextToImage

PROMPTS = ["a red heart", "two birds"]


@pytest.fixture
def backend() -> LinearBackend:
    return LinearBackend()


@pytest.fixture
def pipe(backend: LinearBackend) -> TextToImage:
    return TextToImage(backend)


def test_an_image_is_the_backends_mapped_clamped_and_channels_last(pipe: TextToImage, backend: LinearBackend) -> None:
    raw = backend.generate(noise([7], 6) * np.float32(2), backend.encode(["a red heart"]))
    assert np.abs(raw).max() > 1  # so that the clamp has something to do
    [image] = pipe("a red heart", seed=7, truncation=2, output_type="np").images
    np.testing.assert_array_equal(image, np.clip(raw[0] / 2 + 0.5, 0, 1).transpose(1, 2, 0))
    [as_pil] = pipe("a red heart", seed=7, truncation=2).images
    assert isinstance(as_pil, Image.Image) and as_pil.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(as_pil), np.rint(image * 255))


def test_batches_order_and_batch_size_change_no_image(pipe: TextToImage, backend: LinearBackend) -> None:
    usual = pipe(PROMPTS, 3, seed=5, output_type="np")
    assert usual.seeds == [5, 6, 7] * 2
    backend.batches.clear()
    small = pipe(PROMPTS, 3, seed=5, output_type="np", batch_size=4)
    assert backend.batches == [4, 2]
    np.testing.assert_array_equal(small.images, usual.images)
    np.testing.assert_array_equal(pipe(PROMPTS[1], seed=6, output_type="np").images[0], usual.images[4])


def test_each_prompt_is_encoded_once(pipe: TextToImage, backend: LinearBackend) -> None:
    pipe(["a cat", "a  cat ", "two birds"], 5, seed=0, batch_size=2)
    assert backend.encoded == ["a cat", "two birds"]


def test_generate_takes_noise_and_sentence_vectors(pipe: TextToImage) -> None:
    z, e = noise([5, 6], 6), pipe.embed(PROMPTS)
    assert e.dtype == np.float32 and e.shape == (2, 5)
    expected = pipe(PROMPTS, seed=[5, 6], output_type="np").images
    np.testing.assert_array_equal(pipe.generate(z, e, output_type="np"), expected)
    stages = np.repeat(e[:, None], 3, axis=1)
    np.testing.assert_array_equal(pipe.generate(z, stages, output_type="np"), expected)
    one_by_one = list(pipe.generate_each(zip(z, e, strict=True), batch_size=1, output_type="np"))
    np.testing.assert_array_equal(np.stack(one_by_one), expected)


def test_a_listener_is_told_of_each_batch(pipe: TextToImage, capsys: pytest.CaptureFixture[str]) -> None:
    told: list[tuple[str, int, int]] = []
    pipe(PROMPTS, 3, batch_size=4, progress=lambda *step: told.append(step))
    assert told == [("generate", 4, 6), ("generate", 6, 6)]
    assert capsys.readouterr().err == ""


def test_a_stream_of_any_length_begins_at_once(pipe: TextToImage) -> None:
    first = next(pipe.stream("a cat", 10**10, seed=3, batch_size=2))
    assert first.seeds == [3, 4]
    with pytest.raises(InputError, match="truncation"):
        pipe.stream("a cat", truncation=1e38)


def test_what_only_torch_can_is_refused_in_words(pipe: TextToImage) -> None:
    with pytest.raises(InputError, match="generator is torch's, and this engine runs without torch"):
        pipe("a cat", generator=object())
    with pytest.raises(InputError, match="output_type 'pt' needs torch: load the model with engine='torch'"):
        pipe("a cat", output_type="pt")
    for name in ("latents", "prompt_embeds"):
        with pytest.raises(InputError, match=f"{name} is a list: give .* array"):
            pipe(None if name == "prompt_embeds" else "a cat", **{name: [[0.0]]})


def test_a_model_without_a_text_encoder_says_so() -> None:
    pipe = TextToImage(LinearBackend(text_encoder=None))
    for use in (pipe, pipe.embed, pipe.stream):
        with pytest.raises(InputError, match="this model has no text encoder: give prompt_embeds"):
            use("a cat")
    assert len(pipe(prompt_embeds=np.zeros((2, 5)), num_images_per_prompt=3).images) == 6


def test_numbers_that_are_not_finite_name_the_image_and_the_hint(pipe: TextToImage, backend: LinearBackend) -> None:
    backend.of_noise[0, 3] = np.inf
    with pytest.raises(GalipError, match=r"image 0 \(seed 9\) holds numbers that are not finite; mend the matrices"):
        pipe("a cat", seed=9)
    backend.of_noise[0, 3] = np.nan
    z = np.zeros((2, 6), np.float32)
    with pytest.raises(GalipError, match="image 0 holds"):
        pipe("a cat", 2, latents=z)


def test_alpha_is_laid_on_white_unless_it_is_asked_for() -> None:
    backend = LinearBackend(channels=4)
    pipe = TextToImage(backend)
    raw = np.clip(backend.generate(noise([1], 6), backend.encode(["a cat"]))[0] / 2 + 0.5, 0, 1).transpose(1, 2, 0)
    [clear] = pipe("a cat", seed=1, output_type="np", background="transparent").images
    np.testing.assert_array_equal(clear, raw)
    [white] = pipe("a cat", seed=1, output_type="np").images
    np.testing.assert_allclose(white, raw[..., :3] * raw[..., 3:] + 1 - raw[..., 3:], atol=1e-6)
    [as_pil] = pipe("a cat", seed=1, background="transparent").images
    assert as_pil.mode == "RGBA"
    assert next(pipe.stream("a cat", seed=1)).images[0].mode == "RGB"
    for wrong, model, message in (
        ("transparent", LinearBackend(), "no alpha channel; use 'white'"),
        ("blue", backend, "background 'blue': use one of white, transparent"),
    ):
        with pytest.raises(InputError, match=message):
            TextToImage(model)("a cat", background=wrong)
