"""The samples of a run: which image, crop, flip and caption come at which place, whoever asks and whenever.

Sample i of a run is a function of (run seed, i) alone. Ranks and workers take their share of the numbers, a resumed run
goes on at the next number, and nothing needs to be replayed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from galip.data.images import RELEASED_SIDE, as_array, released_view, resize_and_crop
from galip.data.protocol import BrokenRecordError, ImageSource
from galip.data.rng import Stream, sample_rng
from galip.errors import GalipError

# A mirrored image would contradict these words.
_SIDED = re.compile(r"\b(left|right)(ward|wards|most|-?hand(ed)?)?\b", re.IGNORECASE)

_HOPELESS = 1000

ViewKind = Literal["usual", "released"]
"""How training images are cut: as this project does it, or as GALIP's authors do (`released_view`)."""


class View:
    """How an image is looked at: the crop, the flip and the caption of a sample.

    Args:
        run_seed: seed of the run.
        size: side of the square images in pixels.
        shorter_side: to this the shorter side is scaled before a random `size` square is cut.
        flip: mirror half of the images, except where the caption says left or right; the released view mirrors them
            whatever it says.
        canonical: share of the samples that take the record's first caption, the others any of them.
        kind: "released" cuts as `released_view` does, and knows its own `shorter_side`.
    """

    def __init__(
        self,
        run_seed: int,
        size: int,
        shorter_side: int,
        flip: bool,
        canonical: float = 0.0,
        kind: ViewKind = "usual",
    ) -> None:
        self.run_seed, self.size, self.flip, self.canonical, self.kind = run_seed, size, flip, canonical, kind
        self.shorter_side = RELEASED_SIDE if kind == "released" else shorter_side

    def choose(self, index: int, captions: Sequence[str]) -> tuple[str, tuple[float, float], bool]:
        """Caption, place of the crop, and whether to mirror, of the sample with this number."""
        rng = sample_rng(self.run_seed, index, Stream.VIEW)
        caption = captions[int(rng.integers(len(captions)))]
        where, mirror = (float(rng.random()), float(rng.random())), bool(rng.random() < 0.5)
        if self.canonical and rng.random() < self.canonical:
            caption = captions[0]
        may_mirror = self.kind == "released" or not _SIDED.search(caption)
        return caption, where, self.flip and mirror and may_mirror

    def cut(self, image: Image.Image, where: tuple[float, float]) -> NDArray[np.uint8]:
        """Pixels of the crop, uint8 [C, S, S]."""
        if self.kind == "released":
            return as_array(released_view(image, self.size, where))
        return as_array(resize_and_crop(image, self.shorter_side, self.size, where))

    def fits(self, image: Image.Image) -> bool:
        """Whether the crop is the image itself, wherever it is cut."""
        return image.size == (self.size, self.size) and self.shorter_side == self.size and self.kind == "usual"


def mirrored(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Left and right exchanged."""
    return np.ascontiguousarray(pixels[:, :, ::-1])


@dataclass(frozen=True)
class Sample:
    """One sample, and what was found broken while it was looked for.

    Attributes:
        pixels: uint8 [C, S, S].
        caption: one of the image's captions.
        index: number of the sample in the whole run.
        broken: records that another one had to stand in for; those of a broken shard name it.
    """

    pixels: NDArray[np.uint8]
    caption: str
    index: int
    broken: tuple[BrokenRecordError, ...] = ()


@dataclass(frozen=True)
class Batch:
    """Samples that stand together in one step.

    Attributes:
        images: uint8 [B, C, S, S].
        captions: B captions.
        indices: B sample numbers in the whole run.
        broken: (name, what is wrong) of every broken record that was met; another one was taken in its place.
        broken_shards: the same of shards that are broken as a whole.
        extra: what the loader's `extra` made of the indices.
    """

    images: Tensor
    captions: list[str]
    indices: list[int]
    broken: tuple[tuple[str, str], ...] = ()
    broken_shards: tuple[tuple[str, str], ...] = ()
    extra: Any = None


def collate(samples: Sequence[Sample], extra: Callable[[list[int]], Any] | None = None) -> Batch:
    """Samples -> one batch; `extra` is asked about their numbers."""
    indices = [sample.index for sample in samples]
    errors = [error for sample in samples for error in sample.broken]
    return Batch(
        torch.from_numpy(np.stack([sample.pixels for sample in samples])),
        [sample.caption for sample in samples],
        indices,
        tuple((error.name, error.why) for error in errors if error.shard is None),
        tuple(dict.fromkeys((error.shard, error.why) for error in errors if error.shard is not None)),
        None if extra is None else extra(indices),
    )


class Samples(Dataset[Sample]):
    """Endless, addressable samples of a source: `samples[i]` is the run's i-th.

    Every epoch is a permutation of the records, drawn from (run seed, epoch). In the place of a broken one stands the
    next of the epoch that can be read.

    Weighted, an epoch has as many samples, and a record comes `len(source) * weight / sum of weights` times in it,
    rounded up or down so that the mean over epochs is exact; the order is shuffled.

    Args:
        source: the captioned images.
        run_seed, size, shorter_side, flip, canonical: see `View`.
        kind: of the view.
        cache_bytes: keep decoded images in memory up to this many bytes; used for images that need no resizing.
        channels: 3 for RGB, 4 for RGBA.
        weighted: draw records as often as their weights say; else each once in an epoch.

    Raises:
        GalipError: a weight cannot be used.
    """

    def __init__(
        self,
        source: ImageSource,
        run_seed: int,
        size: int,
        shorter_side: int,
        flip: bool,
        cache_bytes: int = 0,
        channels: int = 3,
        weighted: bool = False,
        canonical: float = 0.0,
        kind: ViewKind = "usual",
    ) -> None:
        self.source, self.channels = source, channels
        weights = source.weights() if weighted else None
        self._weights = None if weights is None or np.ptp(weights) == 0 else weights
        self.view = View(run_seed, size, shorter_side, flip, canonical, kind)
        self._order: tuple[int, NDArray[np.int64]] | None = None
        self._cache: dict[int, tuple[NDArray[np.uint8], tuple[str, ...]]] = {}
        self._cache_places = cache_bytes // (channels * size * size)

    def __getitem__(self, index: int) -> Sample:
        epoch, place = divmod(index, len(self.source))
        order = self._order_of(epoch)
        broken: list[BrokenRecordError] = []
        for number in chain(order[place:], order[:place]):
            try:
                pixels, caption = self._look(int(number), index)
            except BrokenRecordError as error:
                broken.append(error)
                give_up_on(broken)
            else:
                return Sample(pixels, caption, index, tuple(broken))
        raise GalipError(f"none of the {len(self.source)} images can be read; the first is {broken[0]}")

    def _look(self, number: int, index: int) -> tuple[NDArray[np.uint8], str]:
        if number in self._cache:
            pixels, captions = self._cache[number]
            caption, _, mirror = self.view.choose(index, captions)
        else:
            image, captions = self.source.read(number, self.view.shorter_side, self.channels)
            caption, where, mirror = self.view.choose(index, captions)
            pixels = self.view.cut(image, where)
            if self.view.fits(image) and len(self._cache) < self._cache_places:
                self._cache[number] = pixels, captions
        return mirrored(pixels) if mirror else pixels, caption

    def _order_of(self, epoch: int) -> NDArray[np.int64]:
        if self._order is None or self._order[0] != epoch:
            rng = sample_rng(self.view.run_seed, epoch, Stream.EPOCH)
            order = rng.permutation(len(self.source))
            if self._weights is not None:
                order = _as_often_as_weighted(order, self._weights, rng)
            self._order = (epoch, order)
        return self._order[1]


def _as_often_as_weighted(
    order: NDArray[np.int64], weights: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """As many record numbers, each as often as its weight says: systematic sampling along a random order."""
    ends = np.cumsum(weights[order])
    places = (np.arange(len(order)) + rng.random()) * (ends[-1] / len(order))
    # Rounding may put the last place at the very end, or on a record of weight 0.
    found = np.minimum(np.searchsorted(ends, places, side="right"), np.flatnonzero(weights[order])[-1])
    return rng.permutation(order[found])


def give_up_on(broken: Sequence[BrokenRecordError]) -> None:
    """End a search that has met nothing but broken records for too long.

    Raises:
        GalipError: there are a thousand, not counting those of broken shards.
    """
    if len(broken) >= _HOPELESS and sum(error.shard is None for error in broken) >= _HOPELESS:
        raise GalipError(f"{_HOPELESS} images one after the other cannot be read; the last is {broken[-1]}")
