"""Sample i of a run is a function of (run seed, i) alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from galip.data.folder import CaptionedFolder
from galip.data.samples import Sample, Samples, collate
from galip.errors import GalipError


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


def same(a: Sample, b: Sample) -> bool:
    return np.array_equal(a.pixels, b.pixels) and (a.caption, a.index) == (b.caption, b.index)


def test_any_order_gives_the_same_samples(folder: CaptionedFolder) -> None:
    samples, again = make(folder), make(folder)
    forward = [samples[i] for i in range(25)]
    for i in reversed(range(25)):
        assert same(again[i], forward[i])
    assert not all(same(a, b) for a, b in zip(forward, (make(folder, run_seed=6)[i] for i in range(25)), strict=True))


def test_every_epoch_shows_each_picture_once_in_another_order(folder: CaptionedFolder) -> None:
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


def test_the_next_of_the_epoch_stands_in_for_a_broken_picture(tmp_path: Path) -> None:
    for number in range(6):
        Image.new("RGB", (8, 8), (40 * number, 0, 0)).save(tmp_path / f"{number}.png")
        (tmp_path / f"{number}.txt").write_text(str(number))
    whole = make(CaptionedFolder(tmp_path), shorter_side=8)
    order = [int(whole[i].caption) for i in range(12)]
    for broken in (order[2], order[3], order[5]):
        (tmp_path / f"{broken}.png").write_bytes(b"no picture")
    samples = make(CaptionedFolder(tmp_path), shorter_side=8)
    assert [int(samples[i].caption) for i in range(6)] == [*order[:2], order[4], order[4], order[4], order[0]]
    assert [len(samples[i].broken) for i in range(6)] == [0, 0, 2, 1, 0, 1]
    batch = collate([samples[i] for i in range(6)])
    assert [Path(name).stem for name, _ in batch.broken] == [str(order[place]) for place in (2, 3, 3, 5)]
    assert "not a readable picture" in batch.broken[0][1] and batch.broken_shards == ()
    backwards = make(CaptionedFolder(tmp_path), shorter_side=8)
    assert all(same(backwards[i], samples[i]) for i in reversed(range(12)))


def test_a_source_without_a_readable_picture_is_an_error(folder: CaptionedFolder, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("a")
    samples = make(CaptionedFolder(tmp_path))
    (tmp_path / "a.png").unlink()
    with pytest.raises(GalipError, match=r"none of the 1 pictures can be read; the first is .*a\.png"):
        samples[0]
