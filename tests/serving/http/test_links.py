"""Images behind links: bounded in time and in memory."""

from __future__ import annotations

from galip.serving.http.links import ImageLinks
from galip.serving.pool import EncodedImage


class Clock:
    time = 0.0

    def __call__(self) -> float:
        return self.time


def image(size: int) -> EncodedImage:
    return EncodedImage(b"x" * size, "png", 8, 8)


def test_a_image_is_there_until_its_time_is_up() -> None:
    clock = Clock()
    links = ImageLinks(10.0, 1000, clock)
    name = links.add(image(10))
    assert name.endswith(".png")
    clock.time = 9.9
    assert links.get(name) == image(10)
    clock.time = 10.0
    assert links.get(name) is None


def test_the_oldest_go_when_there_is_no_room() -> None:
    links = ImageLinks(10.0, 100, Clock())
    names = [links.add(image(40)) for _ in range(3)]
    assert [links.get(name) is not None for name in names] == [False, True, True]


def test_room_that_has_been_freed_is_used_again() -> None:
    clock = Clock()
    links = ImageLinks(10.0, 100, clock)
    for clock.time in range(0, 100, 20):
        first, second = links.add(image(50)), links.add(image(50))
        assert links.get(first) and links.get(second)


def test_names_cannot_be_guessed_and_nothing_else_is_found() -> None:
    links = ImageLinks(10.0, 1000, Clock())
    names = {links.add(image(1)) for _ in range(50)}
    assert len(names) == 50
    assert min(map(len, names)) > 30
    for name in ("", "../../etc/passwd", "x.png"):
        assert links.get(name) is None
