"""What a run learns from: captioned images in batches, and the vectors of their captions."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Sized
from contextlib import suppress
from pathlib import Path

from galip.data.loader import Loader
from galip.data.open import open_source
from galip.data.protocol import BrokenRecordError, ImageSource
from galip.data.streaming import StreamedShards
from galip.distributed import Distributed
from galip.errors import InputError
from galip.training.config import TrainConfig
from galip.training.networks import Networks
from galip.training.rng import SampleRNG
from galip.training.text_vectors import CaptionVectors

logger = logging.getLogger(__name__)


class TrainData:
    """The data of a run, opened.

    Args:
        config: the run.
        distributed: its processes.
        source: the captioned images; None: those that the configuration names.

    Attributes:
        source: the captioned images.

    Raises:
        GalipError: the data cannot be read.
    """

    def __init__(self, config: TrainConfig, distributed: Distributed, source: ImageSource | None = None) -> None:
        self.config, self.distributed = config, distributed
        self.source = open_source(config.data.source) if source is None else source

    def sized(self) -> ImageSource:
        """The source, where its records have numbers.

        Raises:
            InputError: it is streamed.
        """
        if isinstance(self.source, StreamedShards):
            raise InputError(f"{self.config.data.source} is streamed; use a folder, or shards on a local disk")
        return self.source

    @property
    def records(self) -> int | None:
        """Captioned images; None if they are streamed."""
        return len(self.source) if isinstance(self.source, Sized) else None

    def loader(self, sample_rng: SampleRNG, start: int) -> Loader:
        """This process's batches.

        Args:
            sample_rng: of the present stage; gives the samples' random inputs, which the batches bring along.
            start: number of the first sample.
        """
        config, distributed = sample_rng.config, self.distributed
        data = config.data
        if data.channels not in (None, sample_rng.channels):
            raise InputError(
                f"data.channels is {data.channels}, but the generator makes images of {sample_rng.channels} channels "
                f"(generator.image_channels); leave data.channels out"
            )
        return Loader(
            self.source,
            run_seed=config.seed,
            size=sample_rng.size,
            shorter_side=data.shorter_side or sample_rng.size,
            flip=data.flip,
            batch=config.schedule.batch // distributed.world,
            start=start,
            rank=distributed.rank,
            world=distributed.world,
            workers=data.workers,
            cache_bytes=data.cache_mb << 20,
            shuffle_buffer=data.shuffle_buffer,
            channels=sample_rng.channels,
            weighted=data.weighted,
            canonical=data.canonical,
            view=data.view,
            max_broken=data.max_broken,
            max_broken_shards=data.max_broken_shards,
            extra=sample_rng,
        )

    def captions(self, count: int, other: str = "") -> list[str]:
        """Captions spread over the data, or over another source; the same on every process, whatever a stream gives.

        Args:
            count: how many at most.
            other: another source.

        Raises:
            InputError: there are fewer than two different ones.
        """
        source = open_source(other) if other else self.source
        captions: list[str] = self.distributed.from_main(lambda: source.some_captions(count))
        if len(set(captions)) < 2:
            raise InputError(
                f"{other or self.config.data.source}: fewer than 2 different captions can be read from it, and a "
                "caption is learnt against the others"
            )
        return captions

    def caption_vectors(self, networks: Networks, config: TrainConfig, cached: bool = True) -> CaptionVectors:
        """The vectors of the data's captions.

        Args:
            networks: those that encode.
            config: of the present stage.
            cached: make a table of all captions where they are few enough (`performance.text_cache`).
        """
        options, store = self.config.performance, None
        captions = self.source.distinct_captions(options.text_cache) if cached else None
        if captions is None and cached and options.text_store:
            captions, store = self.source.distinct_captions(sys.maxsize), Path(options.text_store)
        open_captions = self._open_captions() if config.loss.noise == "open" else None
        return CaptionVectors(networks, captions, self.distributed, open_captions, store)

    def _open_captions(self) -> set[str]:
        """The captions that several records have, so that they leave something to the noise."""
        if not isinstance(self.source, Sized):
            raise InputError(
                f"loss.noise is open, but the records of {self.config.data.source} are streamed, and which captions "
                "several of them share is not known beforehand; use shards on a local disk"
            )
        counts: Counter[str] = Counter()
        for number in range(len(self.source)):
            with suppress(BrokenRecordError):
                counts.update(set(self.source.captions_at(number)))
        return {caption for caption, count in counts.items() if count > 1}

    def tell_skipped(self) -> None:
        """Say what of the data is left out, if anything is."""
        for line in self.source.skipped.described() if self.distributed.is_main else ():
            logger.warning("%s: left out, %s", self.config.data.source, line)
