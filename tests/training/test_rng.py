"""The random inputs of a sample are functions of its number, whoever asks, and a step does not mind who asked."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from training import toy
from training.toy import open_run

from galip.training.augment import random_shifts
from galip.training.config import TrainConfig
from galip.training.rng import RandomInputs, SampleRNG, sample_noise

SECTIONS = {"loss": {"paired": 1.0}, "augmentation": {"shift": 0.25, "colour": 0.5, "cutout": 0.25}}


def configured(toy_data: Path, toy_clip: Path, **sections: object) -> TrainConfig:
    return toy.config(toy_data, toy_clip, **SECTIONS, **sections)


def same(a: RandomInputs, b: RandomInputs) -> bool:
    pairs = zip(a.tensors(), b.tensors(), strict=True)
    return all(x is y is None or (x is not None and y is not None and torch.equal(x, y)) for x, y in pairs)


def test_a_part_is_what_a_smaller_batch_gets(toy_data: Path, toy_clip: Path) -> None:
    sample_rng = SampleRNG(configured(toy_data, toy_clip), 6, 32)
    whole = sample_rng([4, 5, 6, 7])
    assert len([tensor for tensor in whole.tensors() if tensor is not None]) == 8
    assert same(whole[1:3], sample_rng([5, 6])) and not same(whole[1:3], sample_rng([5, 7]))
    assert whole.other_z is not None and not torch.equal(whole.z, whole.other_z)
    plain = SampleRNG(toy.config(toy_data, toy_clip), 6, 32)([4, 5])
    assert plain.other_z is None and torch.equal(plain.z, whole.z[:2])


def test_another_process_gets_the_same(toy_data: Path, toy_clip: Path) -> None:
    sample_rng = SampleRNG(configured(toy_data, toy_clip), 6, 32)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert same(pool.apply(sample_rng, ([1, 2],)), sample_rng([1, 2]))


@pytest.mark.parametrize("micro", [None, 2])
def test_a_step_does_not_mind_who_asked(toy_data: Path, toy_clip: Path, tmp_path: Path, micro: int | None) -> None:
    config = configured(toy_data, toy_clip, performance={"micro_batch": micro})
    rows = []
    for brought in (True, False):
        trainer = open_run(config, tmp_path)
        vectors, taken = toy.caption_vectors(trainer), []
        for batch in islice(toy.batches(trainer), 2):
            assert isinstance(batch.extra, RandomInputs)
            given = batch if brought else replace(batch, extra=None)
            taken.append(trainer.state.step(given, vectors(batch.captions)))
        rows.append(taken)
    assert rows[0] == rows[1]


def test_noise_and_shifts_belong_to_the_sample() -> None:
    together = sample_noise(1, [3, 4, 5], 6)
    assert torch.equal(together[1], sample_noise(1, [4], 6)[0])
    assert not torch.equal(together[0], together[1]) and not torch.equal(together, sample_noise(2, [3, 4, 5], 6))
    shifts = random_shifts(1, list(range(50)), 4)
    assert shifts.shape == (2, 50, 2) and shifts.min() == -4 and shifts.max() == 4
    assert np.array_equal(shifts[:, 7], random_shifts(1, [7], 4)[:, 0])
    many = sample_noise(0, list(range(2000)), 8)
    assert abs(many.mean()) < 0.03 and abs(many.std() - 1) < 0.03
