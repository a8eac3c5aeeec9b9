"""The batches of a run, from any source, for one process of several, read by workers or not."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, get_worker_info

from galip.data.images import MAX_SIDE, decode_image
from galip.data.protocol import BrokenRecordError, ImageSource
from galip.data.samples import Batch, Sample, Samples, View, ViewKind, collate, give_up_on, mirrored
from galip.data.streaming import StreamedRecord, StreamedShards
from galip.errors import GalipError, InputError

# A share of broken records means something from so many on.
_ENOUGH = 100
_NAMED = 100


class Loader:
    """Batches for ever: iterating starts at sample number `start`.

    Of each global batch, process `rank` of `world` takes every `world`-th sample number from `rank` on. What a sample
    looks like is a function of (run seed, number); of indexed sources which image it is, too, so that neither the
    number of processes nor of workers nor a restart changes anything. Of streamed shards the image is whichever comes
    next; a restart draws a new order (see `StreamedShards`).

    Broken records are counted and another one is taken in their place; broken shards are named. Both belong to this
    process alone, workers included.

    Args:
        source: as `open_source` opens it.
        run_seed: seed of the run.
        size: side of the square images in pixels.
        shorter_side: to this the shorter side is scaled before a random `size` square is cut; at least `size`.
        flip: mirror half of the images, except where the caption says left or right.
        batch: samples of this process in one step.
        start: the first sample number of the run that is still to come.
        rank: which process this is.
        world: of how many.
        workers: processes that read ahead for this one; 0 reads here.
        cache_bytes: keep decoded images in memory up to this many bytes, over all workers; used for images that
            need no resizing.
        shuffle_buffer: records held for shuffling, in each worker; streamed shards only.
        max_broken: the run ends when more than this share of the images that were visited is broken (judged from a
            hundred visits on).
        max_broken_shards: the run ends when more shards than this are broken.
        channels: 3 for RGB, what is transparent laid on white; 4 for RGBA.
        weighted: draw records as often as their weights say (see `Samples`); not from streamed shards.
        canonical: share of the samples that take their record's first caption.
        view: how images are cut; "released" knows its own `shorter_side`.
        extra: asked about the sample numbers of every batch, where the batch is made; its answer is `Batch.extra`.

    Attributes:
        broken: name -> what is wrong, of the first hundred broken records.
        broken_count: how often a broken record was met.
        broken_shards: shard -> what is wrong.
        visited: images that were visited, broken ones included.

    Raises:
        InputError: a size or share cannot be, or streamed shards are to be weighted.
        GalipError: too few streamed shards for the processes and workers, or too many shards that are broken already.
            While iterating: too much was found to be broken, or nothing can be read.
    """

    def __init__(
        self,
        source: ImageSource | StreamedShards,
        *,
        run_seed: int,
        size: int,
        shorter_side: int,
        flip: bool,
        batch: int,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        cache_bytes: int = 0,
        shuffle_buffer: int = 1000,
        max_broken: float = 0.01,
        max_broken_shards: int = 1,
        channels: int = 3,
        weighted: bool = False,
        canonical: float = 0.0,
        view: ViewKind = "usual",
        extra: Callable[[list[int]], Any] | None = None,
    ) -> None:
        if channels not in (3, 4):
            raise InputError(f"data.channels={channels}: images are read with 3 channels (RGB) or 4 (RGBA)")
        if view == "usual" and shorter_side < size:
            raise InputError(
                f"the shorter side is to become {shorter_side} pixels, but squares of {size} are cut from it; "
                f"set data.shorter_side to {size} or more"
            )
        if shorter_side > MAX_SIDE:
            raise InputError(f"data.shorter_side={shorter_side}: at most {MAX_SIDE:,} pixels")
        if batch < 1 or not 0 <= rank < world:
            raise InputError(f"batch {batch} of process {rank} of {world}: there is no such share")
        self.workers = workers
        self.max_broken, self.max_broken_shards = max_broken, max_broken_shards
        self.broken: dict[str, str] = {}
        self.broken_count = self.visited = 0
        self.broken_shards = dict(source.broken_shards)
        check_shards(self.broken_shards, max_broken_shards)
        numbers = _Numbers(start, batch, rank, world)
        self._data: Dataset[Batch | _Failure]
        if isinstance(source, StreamedShards):
            if weighted:
                raise InputError(
                    f"data.weighted: the records of {source.pattern} are streamed, and their weights not known "
                    "beforehand; leave it out, or use shards on a local disk"
                )
            _check_shares(source, world, max(1, workers))
            looks = View(run_seed, size, shorter_side, flip, canonical, view)
            self._data = _StreamedBatches(source, looks, numbers, shuffle_buffer, max_broken_shards, channels, extra)
        else:
            share = cache_bytes // max(1, workers)
            samples = Samples(source, run_seed, size, shorter_side, flip, share, channels, weighted, canonical, view)
            self._data = _IndexedBatches(samples, numbers, extra)

    def __iter__(self) -> Iterator[Batch]:
        batches: Iterable[Batch | _Failure] = DataLoader(
            self._data,
            batch_size=None,
            sampler=None if isinstance(self._data, IterableDataset) else _Endless(),
            num_workers=self.workers,
            worker_init_fn=_outlive_a_signal,
            # Its own, so that starting workers does not move the process's random state.
            generator=torch.Generator(),
        )
        for batch in batches:
            if isinstance(batch, _Failure):
                raise GalipError(batch.why)
            self._count(batch)
            yield batch

    def _count(self, batch: Batch) -> None:
        self.visited += len(batch.indices) + len(batch.broken)
        self.broken_count += len(batch.broken)
        for name, why in batch.broken[: _NAMED - len(self.broken)]:
            self.broken[name] = why
        self.broken_shards.update(batch.broken_shards)
        check_shards(self.broken_shards, self.max_broken_shards)
        if self.visited >= _ENOUGH and self.broken_count > self.max_broken * self.visited:
            raise GalipError(
                f"{self.broken_count} of {self.visited} images are broken, more than data.max_broken="
                f"{self.max_broken} allows; {_examples(self.broken)}; repair or remove them, or allow more"
            )


def check_shards(broken: dict[str, str], max_broken: int) -> None:
    """Stop where more shards than `max_broken` are broken.

    Raises:
        GalipError: they are; the message names some.
    """
    if len(broken) > max_broken:
        raise GalipError(
            f"{len(broken)} shards are broken, more than data.max_broken_shards={max_broken} allows; "
            f"{_examples(broken)}"
        )


def _check_shares(source: StreamedShards, world: int, workers: int) -> None:
    shards = len(source.urls)
    if shards < world * workers:
        fewer = f"set data.workers to {shards // world}" if shards >= world else f"start at most {shards} processes"
        raise GalipError(
            f"{source.pattern}: {shards} shards cannot be shared by {world} processes with {workers} workers each; "
            f"{fewer}, or write the data in at least {world * workers} shards"
        )


@dataclass(frozen=True)
class _Numbers:
    """Sample numbers of one process's batches."""

    start: int
    batch: int
    rank: int
    world: int

    def of(self, batch_number: int) -> list[int]:
        first = self.start + batch_number * self.batch * self.world + self.rank
        return [first + self.world * place for place in range(self.batch)]


@dataclass(frozen=True)
class _Failure:
    """An error that ends the run, on its way out of a worker, where an exception would drag its traceback along."""

    why: str


class _Endless(Sampler[int]):
    """0, 1, 2, ..."""

    def __iter__(self) -> Iterator[int]:
        return count()


class _IndexedBatches(Dataset[Batch | _Failure]):
    """Batches by number: any worker can make any of them."""

    def __init__(self, samples: Samples, numbers: _Numbers, extra: Callable[[list[int]], Any] | None) -> None:
        self.samples, self.numbers, self.extra = samples, numbers, extra

    def __getitem__(self, batch_number: int) -> Batch | _Failure:
        try:
            return collate([self.samples[index] for index in self.numbers.of(batch_number)], self.extra)
        except GalipError as error:
            return _Failure(str(error))


class _StreamedBatches(IterableDataset[Batch | _Failure]):
    """Batches of one stream. Worker w of W makes the batches w, w + W, ..., in which order they are collected."""

    def __init__(
        self,
        shards: StreamedShards,
        view: View,
        numbers: _Numbers,
        shuffle_buffer: int,
        max_broken_shards: int,
        channels: int,
        extra: Callable[[list[int]], Any] | None,
    ) -> None:
        self.shards, self.view, self.numbers, self.channels, self.extra = shards, view, numbers, channels, extra
        self.shuffle_buffer, self.max_broken_shards = shuffle_buffer, max_broken_shards

    def __iter__(self) -> Iterator[Batch | _Failure]:
        about = get_worker_info()
        worker, workers = (about.id, about.num_workers) if about else (0, 1)
        share = self.numbers.rank * workers + worker
        met: list[BrokenRecordError] = []
        broken_shards: dict[str, str] = {}

        def note(error: BrokenRecordError) -> None:
            met.append(error)
            if error.shard is not None:
                broken_shards[error.shard] = error.why
                # The whole run's limit, looked at here too: with every shard of its share gone, a worker would never
                # come to the end of a batch.
                check_shards(broken_shards, self.max_broken_shards)

        order = f"{self.view.run_seed}/{self.numbers.start}"
        records = self.shards.forever(order, share, self.numbers.world * workers, self.shuffle_buffer, note)
        try:
            for number in count(worker, workers):
                yield collate([self._sample(records, index, met) for index in self.numbers.of(number)], self.extra)
        except GalipError as error:
            yield _Failure(str(error))

    def _sample(self, records: Iterator[StreamedRecord], index: int, met: list[BrokenRecordError]) -> Sample:
        for record in records:
            try:
                image = decode_image(io.BytesIO(record.image), record.name, self.view.shorter_side, self.channels)
            except BrokenRecordError as error:
                met.append(error)
                give_up_on(met)
                continue
            caption, where, mirror = self.view.choose(index, record.captions)
            pixels = self.view.cut(image, where)
            broken = tuple(met)
            met.clear()
            return Sample(mirrored(pixels) if mirror else pixels, caption, index, broken)
        raise AssertionError("the stream never ends")


def _outlive_a_signal(worker: int) -> None:
    """Let a worker go on when the whole group of processes is asked to stop.

    Ctrl-C and a scheduler's SIGTERM reach workers too, and the run they work for still has to end its step and save.
    SIGTERM is also how a worker is ended that does not end by itself: the second one does it.
    """
    asked: list[int] = []

    def end(number: int, frame: object) -> None:
        if asked:
            os._exit(0)
        asked.append(number)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end)


def _examples(broken: dict[str, str]) -> str:
    return "; ".join(f"{name}: {why}" for name, why in list(broken.items())[:3])
