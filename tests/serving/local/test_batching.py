"""The queue of images: order, bounds, and places that are given back."""

from __future__ import annotations

import asyncio

import pytest

from galip.errors import GalipError, InputError
from galip.serving.local.batching import PendingImage, RequestQueue
from galip.serving.pool import EncodedImage, ImageRequest, QueueFullError, UnavailableError, WeightedPrompt


def request(seed: int) -> ImageRequest:
    return ImageRequest((WeightedPrompt("a heart", seed),))


def generated(each: PendingImage) -> EncodedImage:
    return EncodedImage(str(each.request.prompts[0].seed).encode(), "png", 8, 8)


async def waiting(queue: RequestQueue, *seeds: int) -> asyncio.Task[list[EncodedImage]]:
    task = asyncio.create_task(queue.generate([request(seed) for seed in seeds]))
    await asyncio.sleep(0)
    return task


def seeds(pending: list[PendingImage]) -> list[int]:
    return [each.request.prompts[0].seed for each in pending]


def test_images_of_several_requests_are_taken_together_and_each_gets_its_own() -> None:
    async def check() -> None:
        queue = RequestQueue(10)
        first, second = await waiting(queue, 1, 2), await waiting(queue, 3)
        pending = await queue.take(16)
        assert seeds(pending) == [1, 2, 3]
        queue.done(pending, [generated(each) for each in pending], 0.1)
        assert [image.data for image in await first] == [b"1", b"2"]
        assert [image.data for image in await second] == [b"3"]

    asyncio.run(check())


def test_a_batch_takes_the_oldest_and_leaves_the_rest() -> None:
    async def check() -> None:
        queue = RequestQueue(10)
        task = await waiting(queue, 1, 2, 3)
        assert seeds(await queue.take(2)) == [1, 2]
        assert len(queue) == 1
        task.cancel()

    asyncio.run(check())


def test_taking_waits_for_the_first_image() -> None:
    async def check() -> None:
        queue = RequestQueue(10)
        taking = asyncio.create_task(queue.take(4))
        await asyncio.sleep(0.01)
        assert not taking.done()
        task = await waiting(queue, 7)
        assert seeds(await taking) == [7]
        task.cancel()

    asyncio.run(check())


def test_what_does_not_fit_is_refused_whole() -> None:
    async def check() -> None:
        queue = RequestQueue(3)
        task = await waiting(queue, 1, 2)
        with pytest.raises(QueueFullError) as refused:
            await queue.generate([request(3), request(4)])
        assert refused.value.retry_after >= 1
        assert len(queue) == 2
        task.cancel()

    asyncio.run(check())


def test_a_request_that_is_cancelled_gives_its_places_back() -> None:
    async def check() -> None:
        queue = RequestQueue(4)
        gone, staying = await waiting(queue, 1, 2), await waiting(queue, 3)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert len(queue) == 1
        pending = await queue.take(4)
        assert seeds(pending) == [3]
        queue.done(pending, [generated(each) for each in pending], 0.1)
        assert len(await staying) == 1

    asyncio.run(check())


def test_a_result_for_somebody_who_has_gone_hurts_nobody() -> None:
    async def check() -> None:
        queue = RequestQueue(4)
        gone, staying = await waiting(queue, 1), await waiting(queue, 2)
        pending = await queue.take(4)
        gone.cancel()
        await asyncio.sleep(0)
        queue.done(pending, [generated(each) for each in pending], 0.1)
        assert [image.data for image in await staying] == [b"2"]

    asyncio.run(check())


def test_an_error_belongs_to_its_request_alone_and_frees_the_rest_of_it() -> None:
    async def check() -> None:
        queue = RequestQueue(8)
        bad, good = await waiting(queue, 1, 2, 3), await waiting(queue, 4)
        pending = await queue.take(1)
        queue.done(pending, [InputError("no such thing")], 0.1)
        with pytest.raises(InputError, match="no such thing"):
            await bad
        pending = await queue.take(8)
        assert seeds(pending) == [4]
        queue.failed(pending, GalipError("lost"))
        with pytest.raises(GalipError, match="lost"):
            await good

    asyncio.run(check())


def test_retry_after_is_what_the_queue_needs_at_the_rate_of_late() -> None:
    async def check() -> None:
        queue = RequestQueue(100)
        task = await waiting(queue, *range(2))
        pending = await queue.take(2)
        queue.done(pending, [generated(each) for each in pending], 1.0)  # two a second
        await task
        task = await waiting(queue, *range(21))
        assert queue.retry_after() == 11
        task.cancel()

    asyncio.run(check())


def test_closing_sends_everybody_away() -> None:
    async def check() -> None:
        queue = RequestQueue(4)
        task = await waiting(queue, 1)
        queue.close()
        with pytest.raises(UnavailableError):
            await task
        with pytest.raises(UnavailableError):
            await queue.generate([request(2)])
        assert len(queue) == 0

    asyncio.run(check())
