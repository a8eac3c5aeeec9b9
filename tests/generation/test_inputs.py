"""The arguments of a pipeline's call, checked without torch; test_pipeline.py meets them through a pipeline."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from galip.errors import InputError
from galip.generation import inputs
from galip.generation.inputs import Job, Sentences


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
    sentences: Sentences[np.ndarray] = Sentences(encode, np.stack, ["a", "bb", "a", *captions])
    assert sentences([0, 2, 1]).tolist() == [[1.0], [1.0], [2.0]]
    assert [len(captions) for captions in asked] == [256]
    assert sentences([302]).tolist() == [[7.0]]
    assert [len(captions) for captions in asked] == [256, 46]


def test_batches_follow_the_prompts() -> None:
    job = Job[np.ndarray](5, 2, np.array, [0] * 5, 1.0, 3, "np")
    assert [(start, stop, e.tolist()) for start, stop, e in job.batches()] == [(0, 3, [0, 0, 1]), (3, 5, [1, 2])]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: inputs.check_output_type("jpg"), "output_type 'jpg': use one of 'pil', 'np', 'pt'"),
        (lambda: inputs.check_one_of_prompt_and_embeds("a", [1]), "not both"),
        (lambda: inputs.check_one_source_of_noise(seed=1, latents=2), "seed and latents are given"),
        (lambda: inputs.check_embeds_shape((0, 4), 3, 4), r"shape \[0, 4\]"),
        (lambda: inputs.check_embeds_shape((1, 2, 4), 3, 4), r"\[P, 4\].*\[P, 3, 4\]"),
        (lambda: inputs.check_latents_shape((2, 4), 3, 4), r"\[3, 4\]"),
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
