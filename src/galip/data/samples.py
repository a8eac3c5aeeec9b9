"""The samples of a run: which picture, crop, flip and caption come at which place, whoever asks and whenever.

Sample i of a run is a function of (run seed, i) alone. Ranks and workers take their share of the numbers, a resumed run
goes on at the next number, and nothing needs to be replayed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from galip.data.folder import CaptionedFolder, as_array, read_rgb, resize_and_crop

# A mirrored picture would contradict these words.
_SIDED = re.compile(r"\b(left|right)(ward|wards|most|-?hand(ed)?)?\b", re.IGNORECASE)

# Independent streams of one sample's randomness.
_CROP, _NOISE, _SHIFT = range(3)


def sample_rng(run_seed: int, index: int, stream: int) -> np.random.Generator:
    """The random numbers of one sample for one purpose: counter-based, so that they need no history."""
    return np.random.Generator(np.random.Philox(key=[run_seed, index * 8 + stream]))


def sample_noise(run_seed: int, indices: list[int], z_dim: int) -> Tensor:
    """Noise z ~ N(0, I) of the samples with these numbers, float32 [B, z_dim]."""
    rows = [sample_rng(run_seed, index, _NOISE).standard_normal(z_dim, dtype=np.float32) for index in indices]
    return torch.from_numpy(np.stack(rows))


def sample_shifts(run_seed: int, indices: list[int], largest: int) -> NDArray[np.int64]:
    """Translations in pixels for differentiable augmentation, one for the real and one for the drawn picture.

    Returns:
        [2, B, 2] integers from -largest to largest.
    """
    rows = [sample_rng(run_seed, index, _SHIFT).integers(-largest, largest, (2, 2), endpoint=True) for index in indices]
    return np.stack(rows, axis=1)


@dataclass(frozen=True)
class Batch:
    """Samples that stand together in one step.

    Attributes:
        images: uint8 [B, 3, S, S].
        captions: B captions.
        indices: B sample numbers in the whole run.
    """

    images: Tensor
    captions: list[str]
    indices: list[int]


class Samples(Dataset[tuple[NDArray[np.uint8], str, int]]):
    """Endless, addressable samples of a folder: `samples[i]` is the run's i-th.

    Every epoch is a permutation of the pictures, drawn from (run seed, epoch).

    Args:
        source: the captioned pictures.
        run_seed: seed of the run.
        size: side of the square pictures in pixels.
        shorter_side: to this the shorter side is scaled before a random `size` square is cut.
        flip: mirror half of the pictures, except where the caption says left or right.
        cache_bytes: keep decoded pictures in memory up to this many bytes; used for pictures that need no resizing.
    """

    def __init__(
        self, source: CaptionedFolder, run_seed: int, size: int, shorter_side: int, flip: bool, cache_bytes: int = 0
    ) -> None:
        self.source = source
        self.run_seed = run_seed
        self.size = size
        self.shorter_side = shorter_side
        self.flip = flip
        self._order: tuple[int, NDArray[np.int64]] | None = None
        self._cache: dict[int, NDArray[np.uint8]] = {}
        self._cache_places = cache_bytes // (3 * size * size)

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], str, int]:
        epoch, place = divmod(index, len(self.source))
        if self._order is None or self._order[0] != epoch:
            order = np.random.Generator(np.random.Philox(key=[self.run_seed, epoch * 8 + 7])).permutation(
                len(self.source)
            )
            self._order = (epoch, order)
        picture_number = int(self._order[1][place])
        record = self.source.records[picture_number]
        rng = sample_rng(self.run_seed, index, _CROP)
        caption = record.captions[int(rng.integers(len(record.captions)))]
        where, mirror = (float(rng.random()), float(rng.random())), bool(rng.random() < 0.5)
        pixels = self._cache.get(picture_number)
        if pixels is None:
            picture = read_rgb(record.path)
            as_it_is = picture.size == (self.size, self.size) and self.shorter_side == self.size
            pixels = as_array(resize_and_crop(picture, self.shorter_side, self.size, where))
            if as_it_is and len(self._cache) < self._cache_places:
                self._cache[picture_number] = pixels
        if self.flip and mirror and not _SIDED.search(caption):
            pixels = np.ascontiguousarray(pixels[:, :, ::-1])
        return pixels, caption, index


class RunSampler(Sampler[list[int]]):
    """Sample numbers of the batches of one rank: of each global batch, rank r of W takes every W-th from r on.

    Args:
        start: the first sample number of the run that is still to come.
        batch: samples of this rank in one step.
        rank, world: which process this is, and of how many.
    """

    def __init__(self, start: int, batch: int, rank: int = 0, world: int = 1) -> None:
        self.start, self.batch, self.rank, self.world = start, batch, rank, world

    def __iter__(self) -> Iterator[list[int]]:
        first = self.start
        while True:
            yield [first + self.rank + self.world * place for place in range(self.batch)]
            first += self.batch * self.world


def collate(samples: list[tuple[NDArray[np.uint8], str, int]]) -> Batch:
    """Samples -> one batch."""
    images, captions, indices = zip(*samples, strict=True)
    return Batch(torch.from_numpy(np.stack(images)), list(captions), list(indices))


def batches(
    samples: Samples, start: int, batch: int, workers: int = 0, rank: int = 0, world: int = 1
) -> Iterator[Batch]:
    """The run's batches from sample number `start` on, for ever."""
    loader = DataLoader(
        samples,
        batch_sampler=RunSampler(start, batch, rank, world),
        collate_fn=collate,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    return iter(loader)
