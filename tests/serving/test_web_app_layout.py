"""The web app in windows of many sizes, light and dark: nothing sticks out, and what a tab is for is seen at once."""

from __future__ import annotations

from typing import Literal

import pytest
from playwright.sync_api import Browser, expect
from serving.browsing import CHROMIUM, TABS, Service, watch
from serving.page_checks import below_the_fold, overflowing

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: chromium is not installed"),
]

SIZES = [(360, 800), (390, 844), (768, 1024), (1280, 720), (1280, 800), (1366, 650), (1536, 730), (1920, 1080)]
CONTROLS = {
    "draw": ["#draw-prompt", "#draw-again", "#draw-pictures"],
    "morph": ["#morph-screen", "#morph-strip", "#morph-slider", "#morph-play"],
    "explore": ["#explore-pad", "#explore-screen", "#explore-shares"],
    "walk": ["#walk-make"],
    "grid": ["#grid-prompts", "#grid-seeds", "#grid-make"],
}
"""What each tab is for."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("tab", TABS)
def test_every_tab_fits_every_window(
    browser: Browser, web_service: Service, tab: str, scheme: Literal["light", "dark"]
) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme=scheme)
    problems = watch(page, web_service.url)
    page.goto(f"{web_service.url}#{tab}")
    expect(page.locator(f"#panel-{tab}")).to_be_visible()
    expect(page.locator("[aria-busy]")).to_have_count(0)
    found = {}
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        page.evaluate("scrollTo(0, 0)")
        wrong = overflowing(page) + [f"{each} is below the fold" for each in below_the_fold(page, CONTROLS[tab])]
        if wrong:
            found[width, height] = wrong
    page.context.close()
    assert found == {}
    assert problems == []
