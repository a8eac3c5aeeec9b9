"""The built page, what Python draws beside it, and a browser."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from examples.demo_page import PATIENCE, PICTURES, ROOT, WEB, reach, script, serve
from examples.odd_captions import CAPTIONS
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from serving.browsing import DESKTOP, launch, watch


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built page."""
    build = script("build")
    try:
        build.fetch_runtime(ROOT / "out" / "npm")  # where build.py looks for it
    except build.UnreachableError:
        pytest.skip("needs the registry of npm packages, which cannot be reached")
    out = tmp_path_factory.mktemp("host") / "web-demo"
    subprocess.run([sys.executable, str(WEB / "build.py"), "--out", str(out)], check=True)
    return out


@pytest.fixture(scope="session")
def python(site: Path) -> dict[str, Any]:
    """What galip in Python makes of the same captions."""
    asked = json.dumps({"pictures": PICTURES, "captions": CAPTIONS})
    command = [sys.executable, str(Path(__file__).with_name("by_python.py")), str(site / "model")]
    return json.loads(subprocess.run(command, input=asked, text=True, check=True, stdout=subprocess.PIPE).stdout)


# Not of the session: a loop of events goes with the browser, which other tests must not find running.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def url(site: Path) -> Iterator[str]:
    """Where the page is, on a host that sends no headers."""
    yield from serve(site, isolated=False)


@pytest.fixture(scope="module")
def isolated_url(site: Path) -> Iterator[str]:
    """Where the page is, on a host that allows threads."""
    yield from serve(site, isolated=True)


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    """What most tests share, so that the model is downloaded once."""
    yield from _new_context(browser)


@pytest.fixture
def own_context(browser: Browser) -> Iterator[BrowserContext]:
    """For tests that change what the network does."""
    yield from _new_context(browser)


def _new_context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport=DESKTOP, accept_downloads=True)
    context.set_default_timeout(PATIENCE)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, url: str) -> Iterator[Page]:
    page = context.new_page()
    problems = watch(page, url)
    yield page
    page.close()
    assert problems == []


@pytest.fixture
def visit(page: Page, url: str) -> Callable[..., Page]:
    """Opens the page, and waits until it has drawn unless told not to."""

    def go(link: str = "", wait: bool = True) -> Page:
        page.goto(url + link)
        if wait:
            reach(page, "done")
        return page

    return go
