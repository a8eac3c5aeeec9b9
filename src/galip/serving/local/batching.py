"""Requests of many clients in one bounded queue, taken from it a batch at a time.

There is no waiting for a batch to fill: a worker takes all that is there as soon as it is free, so a lone image is
generated at once, and under load the batches grow by themselves while the one before is being generated.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from galip.errors import GalipError
from galip.serving.local.rates import Rate
from galip.serving.pool import EncodedImage, ImageRequest, QueueFullError, UnavailableError


@dataclass(eq=False)
class PendingImage:
    """An image that a client waits for.

    Attributes:
        request: what to generate.
        future: where it goes; done or cancelled when nobody waits any more.
    """

    request: ImageRequest
    future: asyncio.Future[EncodedImage]


class RequestQueue:
    """The images that wait to be generated.

    Args:
        limit: how many may.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pending: deque[PendingImage] = deque()
        self._arrived = asyncio.Event()
        self._rate = Rate()
        self._closed = False

    def __len__(self) -> int:
        return len(self._pending)

    async def generate(self, requests: Sequence[ImageRequest]) -> list[EncodedImage]:
        """Wait in line until all images are generated. Whoever is cancelled gives the places back at once.

        Raises:
            QueueFullError: there is no room for all of them.
            UnavailableError: the queue has been closed.
            GalipError: what `done` was told for one of them.
        """
        if self._closed:
            raise UnavailableError("the service is closing")
        if len(self) + len(requests) > self._limit:
            raise QueueFullError(self.retry_after())
        loop = asyncio.get_running_loop()
        pending = [PendingImage(request, loop.create_future()) for request in requests]
        self._pending.extend(pending)
        self._arrived.set()
        try:
            return list(await asyncio.gather(*(each.future for each in pending)))
        finally:
            for each in pending:
                each.future.cancel()  # of no effect where there is a result
            self._drop_abandoned()

    async def take(self, limit: int) -> list[PendingImage]:
        """Up to `limit` images, the oldest first, as soon as there is one."""
        while not self._pending:
            self._arrived.clear()
            await self._arrived.wait()
        return [self._pending.popleft() for _ in range(min(limit, len(self._pending)))]

    def done(
        self, pending: Sequence[PendingImage], results: Sequence[EncodedImage | GalipError], seconds: float
    ) -> None:
        """Hand out what has been generated.

        Args:
            pending: what `take` gave.
            results: an image or an error for each.
            seconds: how long the batch took.
        """
        self._rate.add(len(pending), seconds)
        for each, result in zip(pending, results, strict=True):
            if each.future.done():
                continue
            if isinstance(result, GalipError):
                each.future.set_exception(result)
            else:
                each.future.set_result(result)

    def failed(self, pending: Sequence[PendingImage], error: GalipError) -> None:
        """Tell everybody who waits for these what went wrong."""
        for each in pending:
            if not each.future.done():
                each.future.set_exception(error)

    def retry_after(self) -> int:
        """Seconds after which what waits now will have been generated, at the rate of late."""
        return self._rate.retry_after(len(self))

    def close(self, reason: str = "the service is closing") -> None:
        """Let nobody in any more, and send away whoever waits."""
        self._closed = True
        self.send_away(reason)

    def send_away(self, reason: str) -> None:
        """Tell everybody who waits that nothing will be generated."""
        waiting, self._pending = list(self._pending), deque()
        self.failed(waiting, UnavailableError(reason))

    def _drop_abandoned(self) -> None:
        if any(each.future.done() for each in self._pending):
            self._pending = deque(each for each in self._pending if not each.future.done())
