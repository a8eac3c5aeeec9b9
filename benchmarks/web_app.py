"""How fast is the web app for a hand? From a key press to the picture, and frames a second of Morph.

    python benchmarks/web_app.py                     # the bundled model; the engine that `auto` means, then torch
    python benchmarks/web_app.py --engines torch

Starts `galip serve` on this machine, opens its page in the system's Chromium, and does what a person does. Server and
browser share the cores, as they do for whoever tries the page on a laptop.

- Typing: letters are pressed one by one with pauses, so that each press is answered by itself. Time runs from the
  press (the event's own time stamp) until the first frame after all pictures of the new words have been decoded. The
  page's own pause before it asks is in it. Spaces are not counted: they change no picture.
- Morph: the mouse pulls the slider from one end to the other. Every position is new, so that every frame is drawn by
  the server; frames are counted as they reach the canvas. Then the hand goes back over positions that the page knows.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

from common import RESULTS, median, table, write_result
from playwright.sync_api import Page, Playwright, sync_playwright

from galip.utils.provenance import machine

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from serving.browsing import CHROMIUM, DESKTOP, Service, launch

SENTENCES = ["a red bird", "the blue car", "one sleepy cat"]
PAUSE = 400
"""Milliseconds between two letters: much longer than a picture takes, so that no press waits for the one before."""
PULL = 4000
"""Milliseconds from one end of the slider to the other: about 50 new positions a second."""

_WATCH_TYPING = """() => {
    window.presses = [];
    const prompt = document.getElementById("draw-prompt");
    const list = document.getElementById("draw-pictures");
    let pressed = null;
    prompt.addEventListener("keydown", event => pressed = event.key === " " ? null : event.timeStamp, true);
    new MutationObserver(() => look()).observe(list, { attributeFilter: ["alt"], subtree: true });
    const look = async () => {
        const images = [...list.querySelectorAll("img")];
        const words = prompt.value.trim() + ",";
        if (pressed === null || !images.every(image => image.alt.startsWith(words))) return;
        const begun = pressed;
        pressed = null;
        await Promise.all(images.map(image => image.decode()));
        requestAnimationFrame(() => setTimeout(() => window.presses.push(performance.now() - begun)));
    };
}"""

_WATCH_MORPH = """() => {
    window.frames = [];
    const canvas = document.querySelector("#morph-screen canvas");
    new MutationObserver(() => window.frames.push(performance.now()))
        .observe(canvas, { attributeFilter: ["data-frames"] });
}"""


def typing(page: Page, url: str, pictures: int) -> dict[str, Any]:
    """Milliseconds from press to picture, over all letters of some sentences."""
    page.goto(f"{url}#draw?prompt=x&seed=1&n={pictures}")
    page.reload()
    page.wait_for_selector("#draw-pictures img[alt]")
    page.wait_for_timeout(1000)
    page.evaluate(_WATCH_TYPING)
    prompt = page.locator("#draw-prompt")
    for sentence in SENTENCES:
        prompt.fill("")
        page.wait_for_timeout(PAUSE)
        for letter in sentence:
            prompt.press("Space" if letter == " " else letter)
            page.wait_for_timeout(PAUSE)
    return summary(page.evaluate("window.presses")[1:])


def morphing(page: Page, url: str) -> dict[str, Any]:
    """Frames a second while the slider is pulled over new positions, and back over known ones."""
    page.goto(f"{url}#morph?p=a+red+heart&s=3&p=a+green+apple&s=8&t=0")
    page.reload()
    page.wait_for_timeout(2000)
    page.evaluate(_WATCH_MORPH)
    box = page.locator("#morph-slider").bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 2
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if request.url.endswith("app/draw") else None)
    result = {}
    page.mouse.move(box["x"] + 16, y)
    page.mouse.down()
    steps = PULL // 16
    for name, order in {"new": range(steps + 1), "known": range(steps, -1, -1)}.items():
        page.evaluate("window.frames.length = 0")
        asked.clear()
        for step in order:
            page.mouse.move(box["x"] + 16 + (box["width"] - 32) * step / steps, y)
            page.wait_for_timeout(PULL / steps)
        times = page.evaluate("window.frames")
        gaps = [after - before for before, after in pairwise(times)]
        result[name] = {
            "frames": len(times),
            "requests": len(asked),
            "frames_per_second": (len(times) - 1) / (times[-1] - times[0]) * 1000,
            "gap_ms": summary(gaps),
        }
    page.mouse.up()
    return result


def summary(values: list[float]) -> dict[str, float]:
    """Median, the slowest twentieth's begin, and the slowest."""
    ordered = sorted(values)
    return {
        "count": len(ordered),
        "median": median(ordered),
        "p95": ordered[min(int(len(ordered) * 0.95), len(ordered) - 1)],
        "longest": ordered[-1],
    }


def measure(playwright: Playwright, engine: str, log: Path) -> dict[str, Any]:
    """All of it with one engine."""
    service = Service(log, "--engine", engine)
    service.start()
    browser = launch(playwright)
    try:
        page = browser.new_page(viewport=DESKTOP)
        page.goto(service.url)
        facts = page.evaluate("fetch('app/facts').then(response => response.json())")
        return {
            "engine": facts["engine"],
            "model": facts["model"],
            "weights": facts["weights"],
            "typing": {f"{count}": typing(page, service.url, count) for count in (1, 4)},
            "morph": morphing(page, service.url),
            "chromium": browser.version,
        }
    finally:
        browser.close()
        service.stop()


def show(results: list[dict[str, Any]]) -> None:
    """The two tables of the guide."""
    presses, pulls = [], []
    for result in results:
        for count, one in result["typing"].items():
            name = f"{result['engine']}, {count} picture{'s' if count != '1' else ''}"
            presses.append([name, one["count"], one["median"], one["p95"], one["longest"]])
        for name, one in result["morph"].items():
            pulls.append(
                [
                    f"{result['engine']}, {name} positions",
                    one["frames"],
                    one["requests"],
                    one["frames_per_second"],
                    one["gap_ms"]["p95"],
                ]
            )
    print(table(["key press to picture, ms", "presses", "median", "p95", "longest"], presses), end="\n\n")
    print(table(["Morph", "frames", "requests", "frames a second", "gap p95, ms"], pulls))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", nargs="+", default=["auto", "torch"])
    parser.add_argument("--out", type=Path, default=RESULTS / "web_app.json")
    arguments = parser.parse_args()
    if CHROMIUM is None:
        raise SystemExit("needs a browser: chromium is not installed")
    here = machine()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        results = [measure(playwright, engine, Path(folder) / engine) for engine in arguments.engines]
    show(results)
    write_result(arguments.out, {"machine": here, "engines": results})


if __name__ == "__main__":
    main()
