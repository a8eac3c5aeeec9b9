"""GALIPPipeline: what a call means, which pictures must be equal, what it refuses, saving and loading."""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from galip.errors import GalipError, InputError
from galip.generation.noise import noise
from galip.generation.output import GALIPPipelineOutput, to_pil
from galip.models.text import CLIPSentenceEncoder, T5SentenceEncoder
from galip.torch_backend.pipeline import GALIPPipeline

CAPTIONS = ["a red heart", "a sleepy cat in the rain", "two birds"]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def pipe() -> GALIPPipeline:
    return tiny.pipeline()


class Noises:
    """Records the noise that reaches the generator."""

    def __init__(self, pipe: GALIPPipeline) -> None:
        self.seen: list[torch.Tensor] = []
        self.hook = pipe.generator.register_forward_pre_hook(lambda _module, inputs: self.seen.extend(inputs[0]))

    def __enter__(self) -> Noises:
        return self

    def __exit__(self, *_: object) -> None:
        self.hook.remove()


def pixels(pipe: GALIPPipeline, *args: object, **kwargs: object) -> np.ndarray:
    return pipe(*args, output_type="np", **kwargs).images


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Equal as far as the pipeline promises it: kernels differ with the batch and with where memory lies."""
    return one.shape == other.shape and float(np.abs(one - other).max()) <= 1e-5


# ---- the call


def test_the_signature_is_the_promised_one() -> None:
    parameters = inspect.signature(GALIPPipeline.__call__).parameters
    assert list(parameters)[1:] == [
        "prompt",
        "num_images_per_prompt",
        "seed",
        "generator",
        "latents",
        "prompt_embeds",
        "truncation",
        "batch_size",
        "output_type",
        "return_dict",
        "background",
        "progress",
        "height",
        "width",
        "others",  # diffusers' arguments that a GAN has no use for
    ]
    assert parameters["truncation"].default == 1.0
    assert parameters["output_type"].default == "pil"
    assert parameters["return_dict"].default is True


def test_output_types_hold_the_same_pictures(pipe: GALIPPipeline) -> None:
    as_pil, as_np, as_pt = (pipe(CAPTIONS, 2, seed=5, output_type=kind) for kind in ("pil", "np", "pt"))
    assert isinstance(as_pil, GALIPPipelineOutput)
    assert all(isinstance(image, Image.Image) and image.size == (32, 32) for image in as_pil.images)
    assert as_np.images.shape == (6, 32, 32, 3)
    assert as_np.images.dtype == np.float32
    assert as_pt.images.shape == (6, 3, 32, 32)
    assert as_pt.images.dtype == torch.float32
    assert as_pt.images.min() >= 0
    assert as_pt.images.max() <= 1
    assert np.array_equal(as_pt.images.permute(0, 2, 3, 1).numpy(), as_np.images)
    assert [i.tobytes() for i in to_pil(as_np.images)] == [i.tobytes() for i in as_pil.images]


def test_a_picture_is_the_generators_mapped_and_clamped(pipe: GALIPPipeline) -> None:
    z, e = torch.from_numpy(noise([5], tiny.Z_DIM)), pipe.encode_prompt("a red heart")
    with torch.no_grad():
        raw = pipe.generator(z, e, pipe.vision)
    drawn = pipe("a red heart", seed=5, output_type="pt").images
    assert raw.abs().max() > 1  # so that the clamp has something to do
    torch.testing.assert_close(drawn, ((raw + 1) / 2).clamp(0, 1))


def test_return_dict_false_gives_the_pair(pipe: GALIPPipeline) -> None:
    images, seeds = pipe("a cat", seed=1, return_dict=False)
    assert len(images) == 1
    assert seeds == [1]


def test_the_caption_and_the_seed_both_matter(pipe: GALIPPipeline) -> None:
    heart, cat = pixels(pipe, ["a red heart", "a sleepy cat"], seed=0)
    other = pixels(pipe, "a red heart", seed=1)[0]
    assert np.abs(heart - cat).max() > 0.05
    assert np.abs(heart - other).max() > 0.05


def test_captions_are_cleaned(pipe: GALIPPipeline) -> None:
    assert same(pixels(pipe, "  a  red\theart ", seed=0), pixels(pipe, "a red heart", seed=0))


def test_a_caption_that_is_too_long_is_drawn_with_one_warning(pipe: GALIPPipeline) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert len(pipe("cat " * 2500, 3, seed=0).images) == 3
    assert ["truncated" in str(w.message) for w in caught] == [True]


# ---- seeds and noise


def test_a_seed_counts_up_for_every_prompt(pipe: GALIPPipeline) -> None:
    assert pipe(CAPTIONS[:2], 3, seed=7).seeds == [7, 8, 9, 7, 8, 9]


def test_pictures_come_in_the_order_of_the_prompts_all_of_one_together(pipe: GALIPPipeline) -> None:
    for batch_size in (16, 4):
        drawn = pixels(pipe, CAPTIONS, 2, seed=7, batch_size=batch_size)
        one_by_one = [pixels(pipe, caption, seed=seed)[0] for caption in CAPTIONS for seed in (7, 8)]
        assert same(drawn, np.stack(one_by_one))


def test_a_list_is_one_seed_for_each_picture(pipe: GALIPPipeline) -> None:
    out = pipe(CAPTIONS[:2], 2, seed=[4, 0, 0, np.int64(9)], output_type="np")
    assert out.seeds == [4, 0, 0, 9]
    assert same(out.images, pixels(pipe, CAPTIONS[:2], 2, seed=np.array([4, 0, 0, 9])))


def test_without_a_seed_fresh_ones_are_told_and_make_the_pictures_again(pipe: GALIPPipeline) -> None:
    out = pipe(CAPTIONS, 2, output_type="np")
    assert len(set(out.seeds)) == 6
    assert out.seeds != pipe(CAPTIONS, 2, output_type="np").seeds
    assert same(pixels(pipe, CAPTIONS, 2, seed=out.seeds), out.images)


def test_fresh_seeds_do_not_come_from_torchs_or_numpys_state(pipe: GALIPPipeline) -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    first = pipe("a cat").seeds
    torch.manual_seed(0)
    np.random.seed(0)
    assert pipe("a cat").seeds != first


def test_latents_are_the_noise_itself(pipe: GALIPPipeline) -> None:
    z = noise([3, 4], tiny.Z_DIM)
    for latents in (z, torch.from_numpy(z), z.astype(np.float64)):
        out = pipe("a cat", 2, latents=latents, output_type="np")
        assert out.seeds is None
        assert same(out.images, pixels(pipe, "a cat", 2, seed=3))


def test_torchs_generator_is_used_only_when_it_is_passed(pipe: GALIPPipeline) -> None:
    def one(seed: int) -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    out = pipe("a cat", 3, generator=one(0), output_type="np")
    assert out.seeds is None
    assert same(out.images, pixels(pipe, "a cat", 3, generator=one(0), batch_size=1))
    each = pixels(pipe, "a cat", 3, generator=[one(0), one(1), one(0)])
    assert same(each[0], each[2])
    assert not same(each[0], each[1])


def test_truncation_multiplies_the_noise(pipe: GALIPPipeline) -> None:
    with Noises(pipe) as noises:
        halved = pixels(pipe, "a cat", seed=3, truncation=0.5)
        pipe("a cat", seed=3, truncation=0)
    z = torch.from_numpy(noise([3], tiny.Z_DIM))[0]
    assert torch.equal(noises.seen[0], z * 0.5)
    assert torch.equal(noises.seen[1], torch.zeros(tiny.Z_DIM))
    assert same(halved, pixels(pipe, "a cat", latents=(z * 0.5)[None]))


# ---- a picture depends on weights, prompt and seed alone


def test_alone_in_a_batch_of_seven_and_in_another_order(pipe: GALIPPipeline) -> None:
    prompts = ["two birds", "a red heart", "a sleepy cat in the rain", "kitten", "cat", "a red cat", "a heart"]
    seeds = [3, 2**40, 0, 5, 9, 1, 1]
    order = [4, 1, 6, 0, 5, 3, 2]
    with Noises(pipe) as noises:
        batch = pixels(pipe, prompts, seed=seeds)
        alone = [pixels(pipe, prompts[i], seed=seeds[i])[0] for i in range(7)]
        shuffled = pixels(pipe, [prompts[i] for i in order], seed=[seeds[i] for i in order])
        chunked = pixels(pipe, prompts, seed=seeds, batch_size=3)
    z = torch.stack(noises.seen)
    assert torch.equal(z[:7], z[7:14])
    assert torch.equal(z[:7][order], z[14:21])
    assert torch.equal(z[:7], z[21:])
    assert same(batch, np.stack(alone))
    assert same(batch[order], shuffled)
    assert same(batch, chunked)


def test_more_pictures_of_a_prompt_leave_the_first_as_they_were(pipe: GALIPPipeline) -> None:
    assert same(pixels(pipe, "a cat", 9, seed=2)[:2], pixels(pipe, "a cat", 2, seed=2))


def test_the_number_of_threads_changes_nothing(pipe: GALIPPipeline) -> None:
    one = pixels(pipe, CAPTIONS, seed=0)
    torch.set_num_threads(2)
    assert same(pixels(pipe, CAPTIONS, seed=0), one)


# ---- text


def test_each_distinct_prompt_is_encoded_once(pipe: GALIPPipeline) -> None:
    rows: list[int] = []
    hook = pipe.text_encoder.text_model.embeddings.register_forward_pre_hook(
        lambda _module, _args, kwargs: rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    try:
        pipe(["a cat", "two birds", "a cat", " a  cat"], 3, seed=0, batch_size=2)
        assert sum(rows) == 2
        rows.clear()
        stream = pipe.stream([f"cat {i}" for i in range(600)], seed=0, batch_size=4)
        assert rows == []
        next(stream)
        assert 4 <= sum(rows) <= 256  # the first picture does not wait for the last caption
    finally:
        hook.remove()


def test_embeddings_can_take_the_prompts_place(pipe: GALIPPipeline) -> None:
    e = pipe.encode_prompt(CAPTIONS)
    assert e.shape == (3, tiny.COND_DIM)
    assert e.dtype == torch.float32
    assert torch.equal(pipe.encode_prompt("two birds"), pipe.encode_prompt(["two birds"]))
    drawn = pixels(pipe, CAPTIONS, 2, seed=1)
    assert same(pixels(pipe, num_images_per_prompt=2, prompt_embeds=e, seed=1), drawn)
    stages = e[:, None].expand(-1, pipe.generator.num_stages, -1)
    assert same(pixels(pipe, num_images_per_prompt=2, prompt_embeds=stages, seed=1), drawn)


def test_the_encoder_is_chosen_by_the_text_encoders_class(pipe: GALIPPipeline) -> None:
    assert isinstance(pipe.sentence_encoder, CLIPSentenceEncoder)
    t5 = tiny.pipeline(text="t5")
    assert isinstance(t5.sentence_encoder, T5SentenceEncoder)
    assert t5.sentence_encoder.scale == t5.config.text_scale == 2.0
    assert len(t5("a cat", 2, seed=0).images) == 2


# ---- parts


def test_views_follow_parts_that_are_replaced() -> None:
    pipe, other = tiny.pipeline(0), tiny.pipeline(1)
    vision, sentences = pipe.vision, pipe.sentence_encoder
    assert pipe.vision is vision
    assert pipe.sentence_encoder is sentences
    pipe.vision_encoder, pipe.text_encoder, pipe.generator = other.vision_encoder, other.text_encoder, other.generator
    assert pipe.vision.model is other.vision_encoder
    assert pipe.sentence_encoder.model is other.text_encoder
    assert same(pixels(pipe, "a cat", seed=0), pixels(other, "a cat", seed=0))


def test_the_vision_has_the_generators_input_mapping() -> None:
    pipe = tiny.pipeline()
    pipe.generator.register_to_config(clip_input="released")
    assert pipe.vision.clip_input == "released"


def test_parts_that_do_not_fit_are_refused(pipe: GALIPPipeline) -> None:
    parts = pipe.components
    with pytest.raises(InputError, match="width 32 and a grid of 4.*width 16 and grid 4"):
        GALIPPipeline(**parts | {"generator": tiny.parts.generator(vision_width=16)})
    with pytest.raises(InputError, match="vectors of length 24, but the generator was built for 30"):
        GALIPPipeline(**parts | {"generator": tiny.parts.generator(cond_dim=30)})
    with pytest.raises(InputError, match=r"text_scale is 2\.0, but it is for a T5"):
        GALIPPipeline(**parts, text_scale=2.0)
    with pytest.raises(InputError, match="give text_scale"):
        GALIPPipeline(**tiny.pipeline(text="t5").components)
    with pytest.raises(InputError, match="text_encoder is a CLIPVisionModelWithProjection"):
        GALIPPipeline(**parts | {"text_encoder": pipe.vision_encoder})


def test_drawing_takes_no_gradient_and_leaves_the_generators_flags(pipe: GALIPPipeline) -> None:
    assert not pipe("a cat", seed=0, output_type="pt").images.requires_grad
    assert all(p.requires_grad for p in pipe.generator.parameters())
    assert not any(p.requires_grad for p in pipe.text_encoder.parameters())


def test_bfloat16_draws_nearly_the_same() -> None:
    pipe = tiny.pipeline()
    exact = pixels(pipe, CAPTIONS, seed=0)
    rough = pipe.to(torch.bfloat16)(CAPTIONS, seed=0, output_type="np").images
    assert rough.dtype == np.float32
    assert 0 < np.abs(rough - exact).mean() < 0.05


# ---- streaming


def test_a_stream_is_the_call_in_batches(pipe: GALIPPipeline) -> None:
    parts = list(pipe.stream(CAPTIONS, 3, seed=4, batch_size=4, output_type="np"))
    assert [len(part.images) for part in parts] == [4, 4, 1]
    whole = pipe(CAPTIONS, 3, seed=4, batch_size=4, output_type="np")
    assert [seed for part in parts for seed in part.seeds] == whole.seeds
    assert same(np.concatenate([part.images for part in parts]), whole.images)


def test_a_stream_checks_its_arguments_at_once(pipe: GALIPPipeline) -> None:
    with pytest.raises(InputError, match="truncation"):
        pipe.stream("a cat", truncation=float("inf"))


def test_a_progress_bar_only_for_more_than_one_batch(capsys: pytest.CaptureFixture[str]) -> None:
    pipe = tiny.pipeline()
    pipe.set_progress_bar_config(disable=False)
    pipe("a cat", 4, seed=0, batch_size=4)
    assert capsys.readouterr().err == ""
    pipe("a cat", 5, seed=0, batch_size=4)
    assert "5/5" in capsys.readouterr().err


# ---- what it refuses


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give either prompt or prompt_embeds"),
        ({"prompt": "a cat", "prompt_embeds": torch.zeros(1, 24)}, "not both"),
        ({"prompt": []}, "empty list"),
        ({"prompt": ""}, "empty"),
        ({"prompt": 3}, "prompt is a int: give a prompt or a list"),
        ({"prompt": b"cat"}, "prompt is a bytes"),
        ({"prompt": ["a cat", None]}, "prompt 1 is None: a prompt is a string"),
        ({"prompt": "a cat", "num_images_per_prompt": 0}, "num_images_per_prompt is 0: give at least 1"),
        ({"prompt": "a cat", "num_images_per_prompt": 1.5}, "num_images_per_prompt is 1.5: give a whole number"),
        ({"prompt": "a cat", "num_images_per_prompt": True}, "num_images_per_prompt is True"),
        ({"prompt": "a cat", "batch_size": 0}, "batch_size is 0"),
        ({"prompt": "a cat", "output_type": "jpg"}, "output_type 'jpg': use one of 'pil', 'np', 'pt'"),
        ({"prompt": "a cat", "truncation": float("nan")}, "truncation is nan"),
        ({"prompt": "a cat", "truncation": "1"}, "truncation is '1'"),
        ({"prompt": ["a", "b"], "num_images_per_prompt": 2, "seed": [1, 2, 3]}, "list of 3: .* each of the 4 images"),
        ({"prompt": "a cat", "seed": "7"}, "a seed is an integer, not str"),
        ({"prompt": "a cat", "seed": 1.0}, "a seed is an integer, not float"),
        ({"prompt": "a cat", "seed": -1}, "a seed must lie between"),
        ({"prompt": "a cat", "seed": 2**63 - 1, "num_images_per_prompt": 2}, "a seed must lie between"),
        ({"prompt": "a cat", "seed": np.array([1, 2])}, "list of 2: .* each of the 1 images"),
        ({"prompt": "a cat", "seed": np.array([[1]])}, "list of 1|a seed is an integer"),
        ({"prompt": "a cat", "seed": [None]}, "a seed is an integer, not NoneType"),
        ({"prompt": "a cat", "seed": 1, "latents": torch.zeros(1, 8)}, "seed and latents are given"),
        ({"prompt": "a cat", "seed": 1, "generator": torch.Generator()}, "seed and generator are given"),
        ({"prompt": "a cat", "latents": torch.zeros(2, 8)}, r"latents has shape \[2, 8\]: .* \[1, 8\]"),
        ({"prompt": "a cat", "latents": torch.zeros(1, 8, dtype=torch.long)}, "floating-point"),
        ({"prompt": "a cat", "latents": torch.full((1, 8), torch.inf)}, "finite"),
        ({"prompt": "a cat", "latents": [0.0] * 8}, "latents is a list"),
        ({"prompt": "a cat", "generator": 3}, "generator 3: give a torch.Generator .* a number is a `seed`"),
        ({"prompt": "a cat", "generator": [torch.Generator()] * 2}, "list of 2: give one for each of the 1 images"),
        ({"prompt_embeds": torch.zeros(2, 25)}, r"shape \[2, 25\]: .* \[P, 24\], or .* \[P, 5, 24\]"),
        ({"prompt_embeds": torch.zeros(0, 24)}, "prompt_embeds has shape"),
        ({"prompt_embeds": torch.zeros(())}, "prompt_embeds has shape"),
        ({"prompt_embeds": torch.zeros(1, 24) / 0}, "not finite"),
        ({"prompt_embeds": [[0.0] * 24]}, "prompt_embeds is a list"),
    ],
)
def test_bad_arguments_are_refused(pipe: GALIPPipeline, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        pipe(**arguments)


def test_pixels_that_are_not_finite_are_an_error_with_the_seed_and_a_remedy() -> None:
    pipe = tiny.pipeline()
    z = torch.from_numpy(noise([5, 6], tiny.Z_DIM))
    with torch.no_grad():
        # Only a picture whose noise has a large first number overflows.
        pipe.generator.bridge_predictor.linear.weight[:, 0] = 3e38
    overflowing = int((z[:, 0].abs() > z[:, 0].abs().min()).nonzero()[0])
    z[1 - overflowing, 0] = 0
    with pytest.raises(GalipError, match=f"image {overflowing} holds numbers that are not finite; the weights are"):
        pipe("a cat", 2, latents=z)
    with pytest.raises(GalipError, match=r"image 0 \(seed 5\) holds numbers that are not finite"):
        pipe("a cat", 2, seed=5)
    with pytest.raises(GalipError, match=r"load the model with dtype=torch\.float32"):
        pipe.to(torch.bfloat16)("a cat", seed=5)


# ---- saving and loading


def test_save_and_load_draw_the_same(pipe: GALIPPipeline, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path, graphs=False)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["_class_name"] == "GALIPPipeline"
    assert index["generator"] == ["galip.models.generator", "MateGenerator"]
    weights = sorted(p.name for p in tmp_path.glob("*/*") if p.suffix not in (".json", ".txt"))
    assert weights == ["diffusion_pytorch_model.safetensors", "model.safetensors", "model.safetensors"]
    loaded = GALIPPipeline.from_pretrained(tmp_path)
    assert same(pixels(loaded, CAPTIONS, seed=0), pixels(pipe, CAPTIONS, seed=0))


def test_all_parts_load_in_one_dtype_fp32_by_default(tmp_path: Path) -> None:
    tiny.pipeline().to(torch.float16).save_pretrained(tmp_path, graphs=False)

    def dtypes(pipe: GALIPPipeline) -> set[torch.dtype]:
        parts = (pipe.text_encoder, pipe.vision_encoder, pipe.generator)
        return {p.dtype for part in parts for p in part.parameters()}

    assert dtypes(GALIPPipeline.from_pretrained(tmp_path)) == {torch.float32}
    assert dtypes(GALIPPipeline.from_pretrained(tmp_path, dtype=torch.bfloat16)) == {torch.bfloat16}


def test_t5_comes_back_with_its_scale(tmp_path: Path) -> None:
    pipe = tiny.pipeline(text="t5")
    pipe.save_pretrained(tmp_path, graphs=False)
    loaded = GALIPPipeline.from_pretrained(tmp_path)
    assert loaded.config.text_scale == 2.0
    torch.testing.assert_close(loaded.encode_prompt(CAPTIONS), pipe.encode_prompt(CAPTIONS))


def test_without_a_text_encoder_embeddings_can_be_drawn(pipe: GALIPPipeline, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path / "whole", graphs=False)
    textless = GALIPPipeline.from_pretrained(tmp_path / "whole", tokenizer=None, text_encoder=None)
    textless.save_pretrained(tmp_path / "textless", graphs=False)
    textless = GALIPPipeline.from_pretrained(tmp_path / "textless")
    e = pipe.encode_prompt(CAPTIONS)
    assert same(pixels(textless, prompt_embeds=e, seed=0), pixels(pipe, CAPTIONS, seed=0))
    with pytest.raises(InputError, match="no text encoder"):
        textless("a cat")
