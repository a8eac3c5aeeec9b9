"""Pictures of many requests in one bounded queue, taken from it a batch at a time.

There is no waiting for a batch to fill: whatever draws takes all that is there as soon as it is free, so a lone picture
is drawn at once, and under load the batches grow by themselves while the one before is drawn.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from galip.errors import GalipError
from galip.serving.backend import EncodedImage, Picture, QueueFullError, UnavailableError
from galip.serving.local.rates import Rate


@dataclass(eq=False)
class Job:
    """A picture that somebody waits for.

    Attributes:
        picture: what to draw.
        future: where it goes; done or cancelled when nobody waits any more.
    """

    picture: Picture
    future: asyncio.Future[EncodedImage]


class Queue:
    """The pictures that wait.

    Args:
        limit: how many may.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._jobs: deque[Job] = deque()
        self._arrived = asyncio.Event()
        self._rate = Rate()
        self._closed = False

    def __len__(self) -> int:
        return len(self._jobs)

    async def draw(self, pictures: Sequence[Picture]) -> list[EncodedImage]:
        """Wait in line until all pictures are drawn. Whoever is cancelled gives the places back at once.

        Raises:
            QueueFullError: there is no room for all of them.
            UnavailableError: the queue has been closed.
            GalipError: what `done` was told for one of them.
        """
        if self._closed:
            raise UnavailableError("the service is closing")
        if len(self) + len(pictures) > self._limit:
            raise QueueFullError(self.retry_after())
        loop = asyncio.get_running_loop()
        jobs = [Job(picture, loop.create_future()) for picture in pictures]
        self._jobs.extend(jobs)
        self._arrived.set()
        try:
            return list(await asyncio.gather(*(job.future for job in jobs)))
        finally:
            for job in jobs:
                job.future.cancel()  # of no effect where there is a result
            self._drop_abandoned()

    async def take(self, most: int) -> list[Job]:
        """Up to `most` jobs, the oldest first, as soon as there is one."""
        while not self._jobs:
            self._arrived.clear()
            await self._arrived.wait()
        return [self._jobs.popleft() for _ in range(min(most, len(self._jobs)))]

    def done(self, jobs: Sequence[Job], results: Sequence[EncodedImage | GalipError], seconds: float) -> None:
        """Hand out what has been drawn.

        Args:
            jobs: what `take` gave.
            results: a picture or an error for each.
            seconds: how long the batch took.
        """
        self._rate.drawn(len(jobs), seconds)
        for job, result in zip(jobs, results, strict=True):
            if job.future.done():
                continue
            if isinstance(result, GalipError):
                job.future.set_exception(result)
            else:
                job.future.set_result(result)

    def failed(self, jobs: Sequence[Job], error: GalipError) -> None:
        """Tell everybody who waits for these what went wrong."""
        for job in jobs:
            if not job.future.done():
                job.future.set_exception(error)

    def retry_after(self) -> int:
        """Seconds after which what waits now will have been drawn, at the rate of late."""
        return self._rate.retry_after(len(self))

    def close(self, reason: str = "the service is closing") -> None:
        """Let nobody in any more, and send away whoever waits."""
        self._closed = True
        self.send_away(reason)

    def send_away(self, reason: str) -> None:
        """Tell everybody who waits that nothing will be drawn."""
        waiting, self._jobs = list(self._jobs), deque()
        self.failed(waiting, UnavailableError(reason))

    def _drop_abandoned(self) -> None:
        if any(job.future.done() for job in self._jobs):
            self._jobs = deque(job for job in self._jobs if not job.future.done())
