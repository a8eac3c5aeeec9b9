"""The loader: every record once, whoever reads; what is broken comes back from the workers; limits."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from data.tars import image_bytes, number_in, record, write_index, write_shards, write_tar
from PIL import Image

from galip.data.loader import Loader
from galip.data.open import open_source
from galip.data.protocol import ImageSource
from galip.data.samples import Batch
from galip.data.streaming import StreamedShards
from galip.errors import GalipError, InputError


def make(source: ImageSource | StreamedShards | Path | str, **options: object) -> Loader:
    arguments = {"run_seed": 5, "size": 8, "shorter_side": 8, "flip": True, "batch": 1} | options
    opened = open_source(str(source)) if isinstance(source, str | Path) else source
    return Loader(opened, **arguments)  # type: ignore[arg-type]


def numbers(batches: Iterator[Batch] | list[Batch]) -> list[int]:
    return [number_in(caption) for batch in batches for caption in batch.captions]


def same(a: Batch, b: Batch) -> bool:
    return torch.equal(a.images, b.images) and (a.captions, a.indices) == (b.captions, b.indices)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four indexed shards of five records each."""
    folder = tmp_path_factory.mktemp("shards")
    write_shards(folder, [5] * 4)
    write_index(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same twenty records as plain files."""
    path = tmp_path_factory.mktemp("folder")
    for number in range(20):
        (path / f"{number:05d}.png").write_bytes(image_bytes(number))
        (path / f"{number:05d}.txt").write_text(f"image {number}\nnumber {number}")
    return path


def one_rank(source: str, rank: int, steps: int, answers: multiprocessing.SimpleQueue[list[int]]) -> None:
    answers.put(numbers(islice(make(source, rank=rank, world=2, workers=2), steps)))


@pytest.mark.parametrize("how", ["{}", "file:{}/shard-{{00000..00003}}.tar", "pipe:cat {}/shard-{{00000..00003}}.tar"])
def test_two_processes_times_two_workers_see_each_record_once_in_an_epoch(shards: Path, how: str) -> None:
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    ranks = [context.Process(target=one_rank, args=(how.format(shards), rank, 20, answers)) for rank in range(2)]
    for rank in ranks:
        rank.start()
    parts = [answers.get(), answers.get()]
    for rank in ranks:
        rank.join()
    for epoch in (slice(0, 10), slice(10, 20)):
        assert sorted(parts[0][epoch] + parts[1][epoch]) == list(range(20))


def test_a_folder_and_its_shards_give_the_same_samples(folder: Path, shards: Path) -> None:
    a, b, c = (list(islice(make(source, batch=4), 10)) for source in (folder, shards, f"{shards}/*.tar"))
    assert all(same(x, y) and same(y, z) for x, y, z in zip(a, b, c, strict=True))
    assert sorted(numbers(a)) == sorted(list(range(20)) * 2)


@pytest.mark.parametrize("workers", [0, 2])
def test_neither_ranks_nor_workers_nor_a_restart_change_a_sample(shards: Path, workers: int) -> None:
    alone = list(islice(make(shards, batch=6), 4))
    captions = dict(zip([i for b in alone for i in b.indices], [c for b in alone for c in b.captions], strict=True))
    assert list(captions) == list(range(24))
    for rank in range(2):
        for start in (0, 12):
            for batch in islice(make(shards, batch=3, start=start, rank=rank, world=2, workers=workers), 2):
                assert [captions[index] for index in batch.indices] == batch.captions
                assert all(index % 2 == rank and index >= start for index in batch.indices)


def test_resuming_reads_nothing_of_what_came_before(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(str(shards))
    whole = list(islice(make(shards, batch=5), 5))
    read, reading = [], source.read
    monkeypatch.setattr(source, "read", lambda *arguments: read.append(arguments) or reading(*arguments))
    assert same(next(iter(make(source, batch=5, start=20))), whole[4]) and len(read) == 5


def test_the_order_depends_on_seed_and_epoch(shards: Path) -> None:
    orders = [numbers(islice(make(shards, run_seed=seed, start=start), 20)) for seed in (5, 6) for start in (0, 20)]
    assert all(sorted(order) == list(range(20)) for order in orders)
    assert len(set(map(tuple, orders))) == 4


def test_streams_are_numbered_by_place_and_shuffled_anew_on_resume(shards: Path) -> None:
    pattern = f"file:{shards}/shard-{{00000..00003}}.tar"
    alone = list(islice(make(pattern, batch=3, start=30, rank=1, world=2, workers=2), 5))
    assert [batch.indices for batch in alone] == [[first + n for n in (1, 3, 5)] for first in range(30, 60, 6)]
    assert all(map(same, alone, islice(make(pattern, batch=3, start=30, rank=1, world=2, workers=2), 5)))
    assert numbers(alone) != numbers(islice(make(pattern, batch=3, start=36, rank=1, world=2, workers=2), 5))


def test_captions_crops_and_flips_of_streams_follow_the_sample_number(tmp_path: Path) -> None:
    wide = Image.new("RGB", (16, 8))
    wide.paste((255, 255, 255), (8, 0, 16, 8))
    wide.save(tmp_path / "x.png")
    tar = write_tar(
        tmp_path / "x.tar", [("x.png", (tmp_path / "x.png").read_bytes()), ("x.txt", b"one 1\ntwo 2\nto the left 3")]
    )
    streamed, indexed = (next(iter(make(source, batch=40))) for source in (f"file:{tar}", tar))
    assert same(streamed, indexed)
    assert len(set(indexed.captions)) == 3 and len(np.unique(indexed.images.numpy(), axis=0)) > 10
    for caption, image in zip(indexed.captions, indexed.images.float(), strict=True):
        if "left" in caption:
            assert image[:, :, 0].mean() <= image[:, :, -1].mean()  # never mirrored
    assert any(image[:, :, 0].mean() > image[:, :, -1].mean() for image in indexed.images.float())


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("how", ["{}", "file:{}"])
def test_broken_records_are_replaced_and_counted(tmp_path: Path, how: str, workers: int) -> None:
    for shard in range(2):
        records = [member for number in range(10 * shard, 10 * shard + 9) for member in record(number)]
        bad = [(f"bad{shard}.png", b"no image"), (f"bad{shard}.txt", b"never seen 999")]
        write_tar(tmp_path / f"{shard}.tar", [*records[:6], *bad, *records[6:]])
    pattern = how.format(tmp_path / "{0..1}.tar")
    loader = make(pattern, batch=4, workers=workers, max_broken=0.2)
    found = numbers(islice(loader, 15))
    assert set(found) == {*range(9), *range(10, 19)}
    assert loader.broken_count >= 4 and loader.visited == 60 + loader.broken_count
    assert sorted(name.split(":")[-1] for name in loader.broken) == ["bad0", "bad1"]
    assert all("not a readable image" in why for why in loader.broken.values())
    with pytest.raises(GalipError, match=r"of \d+ images are broken, more than data.max_broken=0.05 .*bad\d: not a"):
        list(islice(make(pattern, batch=4, workers=workers, max_broken=0.05), 200))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("how", ["{}/*.tar", "file:{}/{{0..3}}.tar"])
def test_a_broken_shard_is_named_and_the_run_goes_on_up_to_the_limit(tmp_path: Path, how: str, workers: int) -> None:
    for shard in range(4):
        write_tar(tmp_path / f"{shard}.tar", [m for n in range(5 * shard, 5 * shard + 5) for m in record(n)])
    write_index(tmp_path)
    pattern = how.format(tmp_path)
    for shard in (1, 2):
        (tmp_path / f"{shard}.tar").write_bytes(b"")
        if shard == 1:
            loader = make(pattern, batch=5, workers=workers)
            found = Counter(numbers(islice(loader, 24)))
            assert set(found) == {*range(5), *range(10, 20)}
            assert [Path(name).name for name in loader.broken_shards] == ["1.tar"] and loader.broken_count == 0
    with pytest.raises(GalipError, match=r"2 shards are broken, more than data.max_broken_shards=1 .*[12]\.tar: "):
        list(islice(make(pattern, batch=5, workers=workers), 100))
    list(islice(make(pattern, batch=5, workers=workers, max_broken_shards=2), 10))


def test_a_shard_that_breaks_on_the_way_comes_back_from_a_worker(tmp_path: Path) -> None:
    tars = write_shards(tmp_path, [5, 5])
    write_index(tmp_path)
    loader = make(tmp_path, batch=5, workers=2)
    tars[0].write_bytes(b"")
    assert set(numbers(islice(loader, 8))) == set(range(5, 10))
    assert list(loader.broken_shards) == [str(tars[0])]
    assert "ends before its end" in loader.broken_shards[str(tars[0])]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize(
    ("world", "workers", "remedy"), [(2, 3, "set data.workers to 2"), (5, 0, "at most 4 processes")]
)
def test_fewer_streamed_shards_than_workers_is_an_error(shards: Path, world: int, workers: int, remedy: str) -> None:
    with pytest.raises(GalipError, match=f"4 shards cannot be shared .*{remedy}, or write the data in at least"):
        make(f"file:{shards}/shard-{{00000..00003}}.tar", rank=0, world=world, workers=workers)
    assert len(numbers(islice(make(shards, world=world, workers=workers), 5))) == 5


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("how", ["{}", "file:{}"])
def test_nothing_readable_is_an_error_not_a_hang(tmp_path: Path, how: str, workers: int) -> None:
    tar = write_tar(tmp_path / "x.tar", [m for n in range(3) for m in [(f"{n}.png", b""), (f"{n}.txt", b"a")]])
    with pytest.raises(GalipError, match="can be read|cannot be read"):
        next(iter(make(how.format(tar), workers=workers, max_broken=1.0)))


def test_a_process_that_is_through_its_shards_first_goes_on(tmp_path: Path) -> None:
    write_shards(tmp_path, [1, 9])
    pattern = f"file:{tmp_path}/shard-{{00000..00001}}.tar"
    parts = [numbers(islice(make(pattern, rank=rank, world=2), 30)) for rank in range(2)]
    assert all(len(part) == 30 for part in parts)


def test_workers_outlive_one_signal(shards: Path) -> None:
    before = multiprocessing.active_children()
    batches = iter(make(shards, batch=2, workers=2))
    found = numbers([next(batches), next(batches)])  # one of each worker: both have started
    workers = [child for child in multiprocessing.active_children() if child not in before]
    assert len(workers) == 2
    for worker in workers:
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(worker.pid, number)
    found += numbers(islice(batches, 8))
    assert sorted(found) == list(range(20))
    batches.close()
    assert not any(worker.is_alive() for worker in workers)


def test_a_worker_that_does_not_end_is_ended_by_the_second_signal(shards: Path) -> None:
    before = multiprocessing.active_children()
    batches = iter(make(shards, workers=1))
    next(batches)
    (worker,) = (child for child in multiprocessing.active_children() if child not in before)
    for _ in range(50):  # signals that come quickly one after the other may count as one
        os.kill(worker.pid, signal.SIGTERM)
        worker.join(0.2)
        if not worker.is_alive():
            break
    assert worker.exitcode == 0


def test_workers_leave_the_random_state_alone(shards: Path) -> None:
    state = torch.get_rng_state()
    for workers in (0, 1):
        list(islice(make(shards, workers=workers), 2))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("workers", [0, 2])
def test_weighted_records_whoever_reads_and_wherever_begun(tmp_path: Path, workers: int) -> None:
    members = []
    for number in range(8):
        fields = {"captions": [f"image {number}"]} | ({"weight": 5} if number == 3 else {})
        members += [(f"{number}.png", image_bytes(number)), (f"{number}.json", json.dumps(fields).encode())]
    write_tar(tmp_path / "a.tar", members)
    alone = numbers(islice(make(tmp_path, weighted=True), 24))
    assert 10 <= Counter(alone)[3] == max(Counter(alone).values())
    for start in (0, 8):
        parts = [
            numbers(islice(make(tmp_path, weighted=True, start=start, rank=rank, world=2, workers=workers), 6))
            for rank in range(2)
        ]
        assert [number for pair in zip(*parts, strict=True) for number in pair] == alone[start : start + 12]


def test_streams_with_alpha_and_without_weights(tmp_path: Path) -> None:
    write_shards(tmp_path, [3])
    pattern = f"file:{tmp_path}/shard-{{00000..00000}}.tar"
    assert next(iter(make(pattern, channels=4))).images.shape == (1, 4, 8, 8)
    with pytest.raises(InputError, match="data.weighted: the records of .* are streamed"):
        make(pattern, weighted=True)
    with pytest.raises(InputError, match="data.channels=2"):
        make(pattern, channels=2)


def test_what_cannot_be_asked_for(shards: Path) -> None:
    with pytest.raises(InputError, match="set data.shorter_side to 8 or more"):
        make(shards, shorter_side=7)
    with pytest.raises(InputError, match="process 2 of 2"):
        make(shards, rank=2, world=2)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("streamed", [False, True])
def test_what_else_is_asked_about_samples_comes_with_them(shards: Path, workers: int, streamed: bool) -> None:
    source = str(shards / "shard-{00000..00003}.tar") if streamed else shards
    for batch in islice(make(source, batch=3, workers=workers, extra=sum), 4):
        assert batch.extra == sum(batch.indices)
    assert next(iter(make(source, batch=3))).extra is None
