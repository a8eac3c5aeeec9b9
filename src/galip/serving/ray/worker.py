"""The deployment that draws: an artist per replica, and Ray Serve's batching before it."""

from __future__ import annotations

import asyncio
import math
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ray import serve

from galip.errors import GalipError
from galip.serving.backend import EncodedImage, Facts, Picture
from galip.serving.model_worker import Artist, Order
from galip.serving.ray.connection import listen_on_loopback


@dataclass(frozen=True)
class Drawn:
    """A replica's answer.

    Attributes:
        result: the picture, or why it cannot be drawn.
        batch: pictures of its batch, told with the first of them; 0 with the others.
        seconds: that the batch took.
    """

    result: EncodedImage | GalipError
    batch: int
    seconds: float


class ArtistReplica:
    """A model, and the pictures that wait for it.

    Serve puts a picture into a batch as soon as it comes, and goes on to the next batch while the one before is being
    drawn, so batches that wait would stay as small as they were begun. Pictures are therefore held back while the
    artist is busy, and let in together when it is free: under load batches grow by themselves, and nothing ever waits
    for a batch to fill.

    Args:
        order: what to load.
        patience: seconds that a batch may take before the replica counts as hanging and is replaced.
        loopback: whether Ray is this machine's alone.
    """

    def __init__(self, order: Order, patience: float, loopback: bool = False) -> None:
        if loopback:
            listen_on_loopback()
        # One thread for everything: what engines prepare may belong to the thread that they are prepared in.
        self._thread = ThreadPoolExecutor(1, "artist")
        self._artist = self._thread.submit(Artist, order, _say).result()
        self._patience, self._begun = patience, math.inf
        self._free = asyncio.Event()
        self._free.set()
        self._draw.set_max_batch_size(order.batch)  # type: ignore[attr-defined]

    def check_health(self) -> None:
        """What Serve asks now and then.

        Raises:
            GalipError: a batch takes too long; after several of these Serve replaces the replica.
        """
        if time.monotonic() - self._begun > self._patience:
            raise GalipError(f"a batch takes longer than {self._patience:g} s")

    async def facts(self) -> Facts:
        """What model this is."""
        return self._artist.facts

    async def draw(self, picture: Picture) -> Drawn:
        """Draw a picture together with others."""
        while not self._free.is_set():
            await self._free.wait()
        return await self._draw(picture)  # type: ignore[return-value, arg-type]

    @serve.batch(batch_wait_timeout_s=0.0)
    async def _draw(self, pictures: list[Picture]) -> list[Drawn]:
        self._free.clear()
        self._begun = begun = time.monotonic()
        try:
            results = await asyncio.get_running_loop().run_in_executor(self._thread, self._artist.draw, pictures)
        finally:
            self._begun = math.inf
            self._free.set()
        seconds = time.monotonic() - begun
        return [Drawn(result, 0 if number else len(results), seconds) for number, result in enumerate(results)]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
