"""The page of a real server in a headless browser, for the tests of the web app."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from serving.browsing import DESKTOP, Service, launch, watch

_PATIENCE = 20_000  # milliseconds; the machine may be busy


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium. Not for longer than a module: while it runs, no other event loop can."""
    expect.set_options(timeout=_PATIENCE)
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def web_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """`galip serve` with the bundled model."""
    service = Service(tmp_path_factory.mktemp("server") / "log")
    service.start()
    yield service
    service.stop()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A visitor who has never been here."""
    context = browser.new_context(viewport=DESKTOP, accept_downloads=True)
    context.set_default_timeout(_PATIENCE)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, web_service: Service) -> Iterator[Page]:
    """An empty page; that it has done nothing forbidden is checked at the end."""
    page = context.new_page()
    problems = watch(page, web_service.url)
    yield page
    assert problems == []


@pytest.fixture
def visit(page: Page, web_service: Service) -> Callable[[str], Page]:
    """Opens an address of the web app, such as "#draw", and waits until the app has filled in its fields."""

    def go(address: str = "") -> Page:
        page.goto(web_service.url + address)
        expect(page.locator("#model")).to_be_visible()
        return page

    return go
