"""The arguments of a pipeline's call, checked without torch; test_pipeline.py meets them through a pipeline."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from galip.errors import InputError
from galip.generation import inputs
from galip.generation.inputs import GenerationPlan, PromptVectors, Seeds
from galip.generation.noise import noise


def test_seeds() -> None:
    assert inputs.seeds_of(7, total=6, per_prompt=3) == [7, 8, 9, 7, 8, 9]
    assert inputs.seeds_of([5, 5, 1], total=3, per_prompt=1) == [5, 5, 1]
    assert inputs.seeds_of(np.array([5, 6]), total=2, per_prompt=2) == [5, 6]
    random = inputs.seeds_of(None, total=50, per_prompt=1)
    assert len(set(random)) > 45
    assert all(0 <= seed < 2**32 for seed in random)
    for wrong in ([1, 2], "7", 2**63 - 1, 1.5):
        with pytest.raises(InputError):
            inputs.seeds_of(wrong, total=3, per_prompt=3)


def test_each_different_caption_is_encoded_once_and_only_when_it_is_needed() -> None:
    asked: list[list[str]] = []

    def encode(captions: list[str]) -> np.ndarray:
        asked.append(captions)
        return np.array([[float(len(caption))] for caption in captions])

    captions = [f"cat {i}" for i in range(300)]
    sentences = PromptVectors(encode, ["a", "bb", "a", *captions])
    assert sentences([0, 2, 1]).tolist() == [[1.0], [1.0], [2.0]]
    assert [len(captions) for captions in asked] == [256]
    assert sentences([302]).tolist() == [[7.0]]
    assert [len(captions) for captions in asked] == [256, 46]


def test_batches_follow_the_prompts() -> None:
    plan = GenerationPlan(5, 2, np.array, Seeds(7, 5, 2), 3, 0.5, 3)
    batches = list(plan.batches())
    assert [(batch.start, batch.e.tolist(), batch.seeds) for batch in batches] == [
        (0, [0, 0, 1], [7, 8, 7]),
        (3, [1, 2], [8, 7]),
    ]
    assert np.array_equal(batches[1].z, noise([8, 7], 3) * np.float32(0.5))


def test_a_long_call_begins_at_once() -> None:
    plan = GenerationPlan(10**12, 10**12, np.array, Seeds(7, 10**12, 10**12), 3, 1.0, 2)
    assert next(plan.batches()).seeds == [7, 8]
    assert len(Seeds(None, 10**12, 1).of(range(3))) == 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: inputs.check_output_type("jpg"), "output_type 'jpg': use one of 'pil', 'np', 'pt'"),
        (lambda: inputs.check_one_of_prompt_and_embeds("a", [1]), "not both"),
        (lambda: inputs.check_one_source_of_noise(seed=1, latents=2), "seed and latents are given"),
        (lambda: inputs.check_output_type("pt", ("pil", "np")), "output_type 'pt' needs torch"),
        (lambda: inputs.check_embeds(np.zeros((0, 4)), 3, 4), r"shape \[0, 4\]"),
        (lambda: inputs.check_embeds(np.zeros((1, 2, 4)), 3, 4), r"\[P, 4\].*\[P, 3, 4\]"),
        (lambda: inputs.check_embeds([[0.0] * 4], 3, 4), "prompt_embeds is a list"),
        (lambda: inputs.check_embeds(np.full((1, 4), np.nan), 3, 4), "not finite"),
        (lambda: inputs.check_latents(np.zeros((2, 4)), 3, 4), r"\[3, 4\]"),
        (lambda: inputs.check_latents(np.zeros((3, 4), int), 3, 4), "floating-point"),
        (lambda: inputs.seeds_of(10**5000, 1, 1), "seed of about 5,000 digits: a seed must lie between"),
        (lambda: inputs.positive_int("n", -(10**5000)), "n is of about 5,000 digits"),
        (lambda: inputs.finite("t", 10**5000), "t is of about 5,000 digits"),
        (lambda: inputs.truncation_factor(1e38), r"truncation is 1e\+38: give about 0 to 1"),
        (lambda: inputs.clean_prompts(3), "prompt is a int"),
        (lambda: inputs.clean_prompts([]), "empty list"),
        (lambda: inputs.clean_prompts(["a", None]), "prompt 1 is None"),
        (lambda: inputs.positive_int("n", 0), "n is 0: give at least 1"),
        (lambda: inputs.positive_int("n", True), "n is True: give a whole number"),
        (lambda: inputs.finite("t", "1"), "t is '1': give a finite number"),
    ],
)
def test_what_is_refused(call: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def test_numpy_is_enough() -> None:
    heavy = ("torch", "transformers", "diffusers")
    code = f"import sys, galip.generation.inputs; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
