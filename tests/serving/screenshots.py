"""Makes the pictures of docs/web-app.md again: the real page in headless Chromium.

python tests/serving/screenshots.py                    # docs/images/web-*.png
python tests/serving/screenshots.py --everything DIR   # each tab and state: wide and narrow, light and dark
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, Route, sync_playwright

sys.path.insert(0, str(Path(__file__).parent.parent))
from serving.browsing import CHROMIUM, DESKTOP, PHONE, TABS, ZOOMED, Service, launch

IMAGES = Path(__file__).parent.parent.parent / "docs" / "images"
MOST_BYTES = 150_000
SIZES: dict[str, Any] = {"wide": DESKTOP, "phone": PHONE, "zoomed": ZOOMED}

ADDRESSES = {
    "draw": "#draw?prompt=a+smiling+face&seed=7&n=9",
    "draw-4": "#draw?prompt=a+smiling+face&seed=7&n=4",
    "morph": "#morph?p=a+yellow+smiling+face&s=3&p=a+green+apple&s=3&t=0.5",
    "explore": "#explore?p=a+yellow+smiling+face&s=3&p=a+red+heart&s=8&p=a+blue+square&s=5&p=a+green+leaf&s=12"
    "&x=0.35&y=0.3",
    "walk": "#walk?p=a+yellow+smiling+face&s=3&p=an+orange+pumpkin&s=11&p=a+red+apple&s=4&fps=10&format=webp",
    "grid": "#grid?p=a+red+heart&p=a+smiling+face&p=a+green+book&p=a+purple+flower&seeds=0-5",
}

DOCS = {
    "web-draw": ("draw-4", "wide", "light"),
    "web-morph": ("morph", "wide", "light"),
    "web-explore": ("explore", "wide", "light"),
    "web-walk": ("walk", "wide", "light"),
    "web-grid": ("grid", "wide", "light"),
    "web-draw-dark": ("draw-4", "wide", "dark"),
    "web-phone-draw": ("draw", "phone", "light"),
    "web-phone-morph": ("morph", "phone", "light"),
    "web-phone-explore": ("explore", "phone", "dark"),
}
"""What the guide shows: tab, size of the window, colours."""


def rest(page: Page) -> None:
    """Wait until all that is asked for has been drawn and decoded."""
    page.wait_for_load_state("networkidle")
    page.wait_for_function(
        """() => !document.querySelector("[aria-busy]:not(.hidden [aria-busy])")
            && [...document.images].every(image => !image.currentSrc || (image.complete && image.naturalWidth))"""
    )
    page.wait_for_timeout(300)


def make_film(page: Page) -> None:
    page.get_by_role("button", name="Make the video").click()
    page.locator("#walk-screen img").wait_for(timeout=120_000)


def near(page: Page) -> None:
    page.get_by_role("button", name="More like seed 8").click()


def viewer(page: Page) -> None:
    page.get_by_role("button", name="Open a smiling face, seed 8").click()


def kept(page: Page) -> None:
    for button in page.get_by_role("button", name="Keep this image").all()[:3]:
        button.click()
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")


def nothing(page: Page) -> None:
    page.get_by_label("What to generate").fill("")


def error(page: Page) -> None:
    page.get_by_label("What to generate").evaluate("input => input.removeAttribute('maxlength')")
    page.get_by_label("What to generate").fill("a very long caption " * 40)
    page.locator("#error").wait_for()


def busy(page: Page) -> None:
    page.route("**/app/draw", lambda route: None)
    page.get_by_label("What to generate").fill("a smiling cat")
    page.wait_for_timeout(700)


def refused(page: Page) -> None:
    page.route("**/app/draw", lambda route: route.fulfill(status=429, headers={"Retry-After": "9"}, body="{}"))
    page.get_by_label("What to generate").fill("a smiling cat")
    page.locator("#waiting").wait_for()


def gone(page: Page) -> None:
    page.route("**/app/*", lambda route: route.abort())
    page.get_by_label("What to generate").fill("a smiling cat")
    page.locator("#unreachable").wait_for()


def locked(page: Page) -> None:
    def refuse(route: Route) -> None:
        route.fulfill(status=401, body='{"error": {"message": "this server asks for its key"}}')

    page.route("**/app/draw", refuse)
    page.get_by_label("What to generate").fill("a smiling cat")
    page.locator("#key-dialog").wait_for()


def long_words(page: Page) -> None:
    page.get_by_label("What to generate").fill(("a very long caption about 🐸 and قطة صغيرة and שלום " * 12)[:500])


STATES: dict[str, tuple[str, Callable[[Page], None]]] = {
    "near": ("draw-4", near),
    "viewer": ("draw-4", viewer),
    "kept": ("draw-4", kept),
    "nothing": ("draw", nothing),
    "error": ("draw", error),
    "busy": ("draw", busy),
    "refused": ("draw", refused),
    "gone": ("draw", gone),
    "locked": ("draw", locked),
    "long": ("draw", long_words),
    "film": ("walk", make_film),
}
"""What `--everything` shows beside the tabs as they are opened."""


def shoot(page: Page, address: str, prepare: Callable[[Page], None] | None = None, still: bool = False) -> bytes:
    """Open an address, do something, and take a picture of the window as a PNG."""
    page.goto(address)
    rest(page)
    if prepare is not None:
        prepare(page)
        page.wait_for_timeout(500) if still else rest(page)
    return page.screenshot()


def save(png: bytes, path: Path) -> None:
    """Write a PNG with 256 colours, smaller than the window was where it would take too many bytes otherwise."""
    with Image.open(io.BytesIO(png)) as image:
        window = image.convert("RGB")
    for percent in range(100, 50, -10):
        size = (window.width * percent // 100, window.height * percent // 100)
        window.resize(size, Image.Resampling.LANCZOS).quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
        if path.stat().st_size <= MOST_BYTES:
            break
    print(f"{path}: {path.stat().st_size} bytes, {size[0]} x {size[1]}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--everything", type=Path, metavar="DIR", help="into this folder, and not only the guide's")
    parser.add_argument("--only", default="", help="names that contain this")
    arguments = parser.parse_args()
    if CHROMIUM is None:
        raise SystemExit("needs a browser: chromium is not installed")

    wanted: list[tuple[Path, str, str, str, str]] = []
    if arguments.everything is None:
        for name, (tab, size, scheme) in DOCS.items():
            wanted.append((IMAGES / f"{name}.png", tab, "film" if tab == "walk" else "", size, scheme))
    else:
        arguments.everything.mkdir(parents=True, exist_ok=True)
        places = [(tab, "") for tab in TABS] + [(tab, state) for state, (tab, _) in STATES.items()]
        for tab, state in places:
            for size in SIZES:
                for scheme in ("light", "dark"):
                    name = f"{state or tab}-{size}-{scheme}.png"
                    wanted.append((arguments.everything / name, tab, state, size, scheme))
    wanted = [one for one in wanted if arguments.only in one[0].name]

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        service = Service(Path(folder) / "log", "--engine", arguments.engine)
        service.start()
        browser = launch(playwright)
        try:
            for path, tab, state, size, scheme in wanted:
                context = browser.new_context(viewport=SIZES[size], color_scheme=scheme, has_touch=size == "phone")
                prepare = STATES[state][1] if state else None
                still = state in ("busy", "refused", "gone", "locked")
                page = context.new_page()
                save(shoot(page, service.url + ADDRESSES[tab], prepare, still), path)
                page.unroute_all(behavior="ignoreErrors")
                context.close()
        finally:
            browser.close()
            service.stop()


if __name__ == "__main__":
    main()
