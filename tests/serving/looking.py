"""What tests of the web app look at: pictures on the page, and what the server draws without the page."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Locator, Page, expect
from serving.browsing import Service, ask, digest, png

Pixels = np.ndarray[Any, Any]  # [H, W, 3], 0 to 255


WALK = "#walk?p=a+red+heart&s=1&p=a+green+apple&s=2&seconds=0.5&fps=10&loop=0&size=64"


def cards(page: Page) -> Locator:
    """The pictures of Draw with what belongs to them."""
    return page.locator("#draw-pictures .card")


def names(page: Page) -> list[str]:
    """What is written below the pictures of Draw."""
    return page.locator("#draw-pictures .card-name").all_inner_texts()


def drawn(page: Page, caption: str, count: int = 4) -> list[str]:
    """Wait until all cards show a caption; gives their digests."""
    pictures = page.locator(f'#draw-pictures .card:not([aria-busy]) img[alt^="{caption},"]')
    expect(pictures).to_have_count(count)
    page.wait_for_function(
        """() => [...document.querySelectorAll("#draw-pictures img")]
            .every(image => image.complete && image.naturalWidth)"""
    )
    return [digest(picture) for picture in pictures.all()]


def settled(page: Page, screen: str) -> Pixels:
    """The large picture of Morph or Explore once it shows what the hand is at."""
    page.wait_for_function(
        """selector => {
            const holder = document.querySelector(selector);
            return holder.querySelector("canvas")?.dataset.frames && !holder.hasAttribute("aria-busy");
        }""",
        arg=screen,
    )
    return array(png(page.locator(f"{screen} canvas")))


def asked_for(service: Service, prompt: str, seed: int) -> Pixels:
    """A picture that was asked for without the page."""
    return array(ask(service, "app/draw", {"points": [{"prompt": prompt, "seed": seed}]}))


def same(one: Pixels, other: Pixels) -> bool:
    """Whether pictures are the same; a batch of another size may round a colour the other way."""
    return bool(np.abs(one - other).max() <= 1)


def record_frames(page: Page, screen: str) -> None:
    """From now on keep what the large picture has shown, every frame."""
    page.evaluate(
        """selector => {
            const canvas = document.querySelector(selector + " canvas");
            window.frames_seen = [];
            new MutationObserver(() => window.frames_seen.push(canvas.toDataURL()))
                .observe(canvas, { attributeFilter: ["data-frames"] });
        }""",
        screen,
    )


def frames(page: Page) -> list[str]:
    """What has been recorded, as data URLs."""
    return page.evaluate("window.frames_seen")


def drag(page: Page, box: dict[str, float], path: list[tuple[float, float]], screen: str | None = None) -> None:
    """Press at the first place (in shares of the box), pass all others, let go.

    With a `screen` the hand waits at every third place until its picture is there: how many frames come while a hand
    moves on is a matter of speed, which is measured elsewhere.
    """
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in path]
    page.mouse.move(*places[0])
    page.mouse.down()
    for number, place in enumerate(places[1:], 1):
        page.mouse.move(*place)
        page.wait_for_timeout(25)
        if screen and number % 3 == 0:
            settled(page, screen)
    page.mouse.up()


def array(data: bytes) -> Pixels:
    """The pixels of a file."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=np.float32)
