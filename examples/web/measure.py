"""Measure the built page in headless Chromium: milliseconds to the first picture, and for each when it is warm.

    python examples/web/measure.py [FOLDER] [--pictures 40]

With one thread, as on any host, and with as many as the page takes where a host sets it apart. It needs Chromium and
the package playwright, which the extra `dev` has.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import threading
from pathlib import Path

from playwright.sync_api import Browser, expect, sync_playwright
from serve import FOLDER, server

WARM_UP = 10
PATIENCE = 120_000  # milliseconds
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
COLOURS = ["red", "yellow", "green", "blue"]


def measure(browser: Browser, folder: Path, isolated: bool, pictures: int) -> str:
    """A row of the table: threads, seconds to the first picture, milliseconds for sentence and picture."""
    with server(folder, isolated=isolated, quiet=True) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        context = browser.new_context()
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(f"http://127.0.0.1:{serving.server_port}/")
        expect(page.locator("#picture")).to_have_attribute("data-seed", "0")
        first = page.evaluate("performance.now()") / 1000
        threads = page.locator("#about").inner_text().split("WebAssembly, ")[1].split(" ")[0]
        sentence, picture = [], []
        for i in range(WARM_UP + pictures):
            caption = f"a {COLOURS[i % len(COLOURS)]} heart"
            page.fill("#prompt", caption)
            expect(page.locator("#picture")).to_have_attribute("data-prompt", caption)
            expect(page.locator("body")).to_have_attribute("data-state", "done")
            facts = page.locator("#facts")
            sentence.append(float(facts.get_attribute("data-sentence-ms") or "nan"))
            picture.append(float(facts.get_attribute("data-picture-ms") or "nan"))
        context.close()
        serving.shutdown()
    numbers = [_summary(values[WARM_UP:]) for values in (sentence, picture)]
    return f"| {threads} | {first:.1f} | {numbers[0]} | {numbers[1]} |"


def _summary(values: list[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.1f} ({low:.1f} to {high:.1f})"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Measure the built page in headless Chromium.")
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER, help="what build.py wrote")
    parser.add_argument("--pictures", type=int, default=40, help="how many are timed, after ten that are not")
    arguments = parser.parse_args()
    found = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    if found is None:
        raise SystemExit("Error: chromium is not installed")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, headless=True, args=FLAGS)
        print(f"Chromium {browser.version}; medians, and quartiles")
        print("| threads | first picture, s | sentence, ms | picture, ms |\n| --- | --- | --- | --- |")
        for isolated in (False, True):
            print(measure(browser, arguments.folder, isolated, arguments.pictures), flush=True)
        browser.close()


if __name__ == "__main__":
    main()
