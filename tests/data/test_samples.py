"""Sample i of a run is a function of (run seed, i) alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from galip.data.folder import CaptionedFolder
from galip.data.samples import Samples, batches, sample_noise, sample_shifts


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> CaptionedFolder:
    path = tmp_path_factory.mktemp("pictures")
    for number in range(10):
        picture = Image.new("RGB", (16, 12), (20 * number, 0, 0))
        picture.paste((0, 255, 0), (0, 0, 4, 12))
        picture.save(path / f"{number}.png")
        (path / f"{number}.txt").write_text("\n".join(f"{word} {number}" for word in ("one", "two", "looks left")))
    return CaptionedFolder(path)


def make(folder: CaptionedFolder, **options: object) -> Samples:
    arguments = {"run_seed": 5, "size": 8, "shorter_side": 10, "flip": True} | options
    return Samples(folder, **arguments)  # type: ignore[arg-type]


def test_any_order_gives_the_same_samples(folder: CaptionedFolder) -> None:
    samples, again = make(folder), make(folder)
    forward = [samples[i] for i in range(25)]
    for i in reversed(range(25)):
        pixels, caption, index = again[i]
        assert (caption, index) == forward[i][1:]
        assert np.array_equal(pixels, forward[i][0])
    assert any(
        not np.array_equal(a[0], b[0])
        for a, b in zip(forward, (make(folder, run_seed=6)[i] for i in range(25)), strict=True)
    )


def test_every_epoch_shows_each_picture_once_in_another_order(folder: CaptionedFolder) -> None:
    samples = make(folder)
    epochs = [[samples[i][1].split()[-1] for i in range(10 * e, 10 * e + 10)] for e in range(2)]
    assert all(sorted(epoch) == sorted(map(str, range(10))) for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_flips_spare_captions_that_name_a_side(folder: CaptionedFolder) -> None:
    samples = make(folder, size=12, shorter_side=12)
    mirrored = {"sided": 0, "other": 0}
    for i in range(200):
        pixels, caption, _ = samples[i]
        if pixels[1, 0, -1] == 255 and pixels[1, 0, 0] == 0:  # the green edge came out on the right
            mirrored["sided" if "left" in caption else "other"] += 1
    assert mirrored["sided"] == 0 < mirrored["other"]


def test_ranks_share_the_samples_without_loss(folder: CaptionedFolder) -> None:
    seen = []
    for rank in range(3):
        stream = batches(make(folder), start=12, batch=2, rank=rank, world=3)
        seen += next(stream).indices + next(stream).indices
    assert sorted(seen) == list(range(12, 24))


def test_loader_processes_change_nothing(folder: CaptionedFolder) -> None:
    alone, helped = batches(make(folder), 3, 4), batches(make(folder), 3, 4, workers=2)
    for _ in range(3):
        a, b = next(alone), next(helped)
        assert torch.equal(a.images, b.images) and (a.captions, a.indices) == (b.captions, b.indices)


def test_the_cache_changes_nothing(tmp_path: Path) -> None:
    for number in range(4):
        Image.new("RGB", (8, 8), (60 * number, 0, 0)).save(tmp_path / f"{number}.png")
        (tmp_path / f"{number}.txt").write_text(str(number))
    folder = CaptionedFolder(tmp_path)
    plain = make(folder, shorter_side=8)
    cached = make(folder, shorter_side=8, cache_bytes=2 * 3 * 8 * 8)
    for i in range(12):
        assert np.array_equal(plain[i][0], cached[i][0])
    assert len(cached._cache) == 2


def test_noise_and_shifts_belong_to_the_sample() -> None:
    together = sample_noise(1, [3, 4, 5], 6)
    assert torch.equal(together[1], sample_noise(1, [4], 6)[0])
    assert not torch.equal(together[0], together[1]) and not torch.equal(together, sample_noise(2, [3, 4, 5], 6))
    shifts = sample_shifts(1, list(range(50)), 4)
    assert shifts.shape == (2, 50, 2) and shifts.min() == -4 and shifts.max() == 4
    assert np.array_equal(shifts[:, 7], sample_shifts(1, [7], 4)[:, 0])
    many = sample_noise(0, list(range(2000)), 8)
    assert abs(many.mean()) < 0.03 and abs(many.std() - 1) < 0.03
