"""Sample i of a run is a function of (run seed, i) alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from galip.data.folder import CaptionedFolder
from galip.data.samples import Sample, Samples, collate
from galip.errors import GalipError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> CaptionedFolder:
    path = tmp_path_factory.mktemp("images")
    for number in range(10):
        image = Image.new("RGB", (16, 12), (20 * number, 0, 0))
        image.paste((0, 255, 0), (0, 0, 4, 12))
        image.save(path / f"{number}.png")
        (path / f"{number}.txt").write_text("\n".join(f"{word} {number}" for word in ("one", "two", "looks left")))
    return CaptionedFolder(path)


def make(folder: CaptionedFolder, **options: object) -> Samples:
    arguments = {"run_seed": 5, "size": 8, "shorter_side": 10, "flip": True} | options
    return Samples(folder, **arguments)  # type: ignore[arg-type]


def same(a: Sample, b: Sample) -> bool:
    return np.array_equal(a.pixels, b.pixels) and (a.caption, a.index) == (b.caption, b.index)


def test_any_order_gives_the_same_samples(folder: CaptionedFolder) -> None:
    samples, again = make(folder), make(folder)
    forward = [samples[i] for i in range(25)]
    for i in reversed(range(25)):
        assert same(again[i], forward[i])
    assert not all(same(a, b) for a, b in zip(forward, (make(folder, run_seed=6)[i] for i in range(25)), strict=True))


def test_every_epoch_shows_each_image_once_in_another_order(folder: CaptionedFolder) -> None:
    samples = make(folder)
    epochs = [[samples[i].caption.split()[-1] for i in range(10 * e, 10 * e + 10)] for e in range(2)]
    assert all(sorted(epoch) == sorted(map(str, range(10))) for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_flips_spare_captions_that_name_a_side(folder: CaptionedFolder) -> None:
    samples = make(folder, size=12, shorter_side=12)
    mirrored = {"sided": 0, "other": 0}
    for i in range(200):
        pixels, caption = samples[i].pixels, samples[i].caption
        if pixels[1, 0, -1] == 255 and pixels[1, 0, 0] == 0:  # the green edge came out on the right
            mirrored["sided" if "left" in caption else "other"] += 1
    assert mirrored["sided"] == 0 < mirrored["other"]


def test_the_released_view_mirrors_whatever_the_caption_says(folder: CaptionedFolder) -> None:
    samples = make(folder, size=12, kind="released", cache_bytes=1 << 20)
    mirrored = {True: 0, False: 0}
    for i in range(60):
        pixels, caption = samples[i].pixels, samples[i].caption
        assert pixels.shape == (3, 12, 12)
        mirrored["left" in caption] += int(pixels[1, :, -3:].mean() > pixels[1, :, :3].mean())
    assert mirrored[True] and mirrored[False]


def test_the_cache_changes_nothing(tmp_path: Path) -> None:
    for number in range(4):
        Image.new("RGB", (8, 8), (60 * number, 0, 0)).save(tmp_path / f"{number}.png")
        (tmp_path / f"{number}.txt").write_text(str(number))
    folder = CaptionedFolder(tmp_path)
    plain = make(folder, shorter_side=8)
    cached = make(folder, shorter_side=8, cache_bytes=2 * 3 * 8 * 8)
    for i in range(12):
        assert same(plain[i], cached[i])
    assert len(cached._cache) == 2


def test_the_next_of_the_epoch_stands_in_for_a_broken_image(tmp_path: Path) -> None:
    for number in range(6):
        Image.new("RGB", (8, 8), (40 * number, 0, 0)).save(tmp_path / f"{number}.png")
        (tmp_path / f"{number}.txt").write_text(str(number))
    whole = make(CaptionedFolder(tmp_path), shorter_side=8)
    order = [int(whole[i].caption) for i in range(12)]
    for broken in (order[2], order[3], order[5]):
        (tmp_path / f"{broken}.png").write_bytes(b"no image")
    samples = make(CaptionedFolder(tmp_path), shorter_side=8)
    assert [int(samples[i].caption) for i in range(6)] == [*order[:2], order[4], order[4], order[4], order[0]]
    assert [len(samples[i].broken) for i in range(6)] == [0, 0, 2, 1, 0, 1]
    batch = collate([samples[i] for i in range(6)])
    assert [Path(name).stem for name, _ in batch.broken] == [str(order[place]) for place in (2, 3, 3, 5)]
    assert "not a readable image" in batch.broken[0][1] and batch.broken_shards == ()
    backwards = make(CaptionedFolder(tmp_path), shorter_side=8)
    assert all(same(backwards[i], samples[i]) for i in reversed(range(12)))


def test_a_source_without_a_readable_image_is_an_error(folder: CaptionedFolder, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("a")
    samples = make(CaptionedFolder(tmp_path))
    (tmp_path / "a.png").unlink()
    with pytest.raises(GalipError, match=r"none of the 1 images can be read; the first is .*a\.png"):
        samples[0]


def weighted_folder(path: Path, weights: list[object]) -> CaptionedFolder:
    rows = []
    for number, weight in enumerate(weights):
        Image.new("RGBA", (8, 8), (10 * number, 0, 0, 100)).save(path / f"{number:02d}.png")
        rows.append(json.dumps({"file_name": f"{number:02d}.png", "text": str(number), "weight": weight}))
    (path / "metadata.jsonl").write_text("\n".join(rows))
    return CaptionedFolder(path)


def test_records_come_as_often_as_their_weights_say(tmp_path: Path) -> None:
    weights = [0, 0.25, 1, 1, 2.5, 3.25, 0, 4]  # 12 in all: 8 samples an epoch, so 2/3 of the weight each
    samples = make(weighted_folder(tmp_path, weights), shorter_side=8, weighted=True)
    epochs = 300
    counts = np.zeros((epochs, 8), int)
    for epoch in range(epochs):
        for i in range(8 * epoch, 8 * epoch + 8):
            counts[epoch, int(samples[i].caption)] += 1
    wanted = np.array(weights) * 8 / 12
    assert (counts >= np.floor(wanted)).all() and (counts <= np.ceil(wanted)).all()
    assert np.abs(counts.mean(0) - wanted).max() < 0.1
    # Any order gives the same samples, and repeats do not stand together more than by chance.
    again = make(samples.source, shorter_side=8, weighted=True)
    assert all(same(again[i], samples[i]) for i in (2000, 17, 3, 2399))
    together = sum(samples[i].caption == samples[i + 1].caption for i in range(2000))
    assert together < 2000 * 0.3


def test_equal_weights_change_nothing(tmp_path: Path) -> None:
    folder = weighted_folder(tmp_path, [0.5] * 6)
    plain, weighted = (make(folder, shorter_side=8, weighted=wanted) for wanted in (False, True))
    assert all(same(plain[i], weighted[i]) for i in range(18))


@pytest.mark.parametrize("weight", ["2", None, True, -1, float("nan"), float("inf"), 1e300])
def test_a_weight_that_is_no_number_is_named(tmp_path: Path, weight: object) -> None:
    folder = weighted_folder(tmp_path, [1, weight])
    make(folder)
    with pytest.raises(GalipError, match=r"01\.png: its weight is"):
        make(folder, weighted=True)


def test_weights_that_are_all_zero(tmp_path: Path) -> None:
    with pytest.raises(GalipError, match="like every other, is 0"):
        make(weighted_folder(tmp_path, [0, 0]), weighted=True)


def test_samples_with_an_alpha_channel(tmp_path: Path) -> None:
    folder = weighted_folder(tmp_path, [1, 1, 1])
    for cache_bytes in (0, 1 << 20):
        samples = make(folder, shorter_side=8, channels=4, cache_bytes=cache_bytes)
        for i in (0, 1, 2, 3, 4, 5):
            assert samples[i].pixels[:, 0, 0].tolist() == [10 * int(samples[i].caption), 0, 0, 100]
    assert make(folder)[0].pixels.shape == (3, 8, 8)
