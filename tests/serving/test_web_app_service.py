"""The web app when the service is away, busy, slow, locked, or behind a proxy."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect
from serving.browsing import CHROMIUM, Service, watch
from serving.front import Front
from serving.looking import WALK, drawn, settled

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: chromium is not installed"),
]

PREFIX = "/pictures"


@pytest.fixture(scope="module")
def proxied_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that knows that a proxy puts a path before its own."""
    service = Service(tmp_path_factory.mktemp("server") / "log", "--root-path", PREFIX)
    service.start()
    yield service
    service.stop()


@pytest.fixture
def front(proxied_service: Service) -> Iterator[Front]:
    """The proxy before it."""
    front = Front(proxied_service.url, PREFIX)
    yield front
    front.stop()


@pytest.fixture
def proxied(context: BrowserContext, front: Front) -> Iterator[Page]:
    """The page as the proxy gives it; all that it asks for must lie below the proxy's path."""
    page = context.new_page()
    problems = watch(page, front.url)
    page.goto(front.url + "#draw?prompt=a+red+heart&seed=5&n=1")
    drawn(page, "a red heart", 1)
    yield page
    assert problems == []


@pytest.fixture(scope="module")
def locked_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that asks for a key."""
    service = Service(tmp_path_factory.mktemp("server") / "log", key="sesame")
    service.start()
    yield service
    service.stop()


# ---- errors and waiting


def test_the_servers_error_is_shown_and_goes_away(visit: Callable[..., Page]) -> None:
    page = visit("#draw?prompt=a+red+heart&seed=5&n=1")
    drawn(page, "a red heart", 1)
    prompt = page.get_by_label("What to generate")
    assert int(prompt.get_attribute("maxlength") or 0) > 0
    prompt.evaluate("input => input.removeAttribute('maxlength')")
    prompt.fill("a very long caption " * 1000)
    alert = page.get_by_role("alert").filter(has_text="caption has")
    expect(alert).to_be_visible()
    prompt.fill("a red apple")
    drawn(page, "a red apple", 1)
    expect(alert).to_be_hidden()


def test_a_busy_server_is_waited_for(visit: Callable[..., Page]) -> None:
    page = visit("#draw?prompt=a+red+heart&seed=5&n=1")
    drawn(page, "a red heart", 1)
    refused: list[str] = []

    def refuse(route: Route) -> None:
        if len(refused) < 2:
            refused.append(route.request.url)
            error = {"error": {"message": "busy", "type": "server_error", "param": None, "code": "busy"}}
            route.fulfill(status=429, headers={"Retry-After": "1"}, body=json.dumps(error))
        else:
            route.continue_()

    page.route("**/app/draw", refuse)
    page.get_by_label("What to generate").fill("a red apple")
    expect(page.locator("#waiting")).to_contain_text("Trying again in 1 s")
    drawn(page, "a red apple", 1)
    expect(page.locator("#waiting")).to_be_hidden()
    assert len(refused) == 2


def test_a_server_that_is_gone_is_waited_for_and_found_again(visit: Callable[..., Page], web_service: Service) -> None:
    page = visit("#draw?prompt=a+red+heart&seed=5&n=1")
    drawn(page, "a red heart", 1)
    web_service.stop()
    try:
        page.get_by_label("What to generate").fill("a red apple")
        gone = page.get_by_role("alert").filter(has_text="does not answer")
        expect(gone).to_be_visible()
        page.get_by_role("button", name="Try now").click()
        expect(gone).to_be_visible()
    finally:
        web_service.start()
    drawn(page, "a red apple", 1)
    expect(gone).to_be_hidden()


def test_a_server_that_gets_ready_is_waited_for(page: Page, web_service: Service) -> None:
    asked: list[str] = []

    def starting(route: Route) -> None:
        asked.append(route.request.url)
        if len(asked) > 1:
            route.continue_()
        else:
            route.fulfill(status=503, headers={"Retry-After": "1"}, body="{}")

    page.route("**/app/facts", starting)
    page.goto(web_service.url + "#draw?prompt=a+red+heart&seed=5&n=1")
    expect(page.locator("#waiting")).to_contain_text("getting ready")
    drawn(page, "a red heart", 1)
    expect(page.locator("#waiting")).to_be_hidden()


def test_a_device_without_a_network_goes_on_where_it_was(visit: Callable[..., Page], context: BrowserContext) -> None:
    page = visit("#draw?prompt=a+red+heart&seed=5&n=1")
    drawn(page, "a red heart", 1)
    context.set_offline(True)
    page.get_by_label("What to generate").fill("a red apple")
    expect(page.get_by_role("alert")).to_contain_text("This device is offline")
    expect(page.locator("#draw-pictures .card")).to_have_class("card stale")
    context.set_offline(False)
    drawn(page, "a red apple", 1)
    expect(page.locator("#unreachable")).to_be_hidden()
    expect(page.locator("#draw-pictures .card")).to_have_class("card")


def test_words_that_are_typed_before_the_page_can_listen_are_drawn(page: Page, web_service: Service) -> None:
    held: list[Route] = []
    page.route("**/app/facts", lambda route: held.append(route))
    page.goto(web_service.url)
    page.get_by_label("What to generate").fill("a green frog")
    page.get_by_label("What to generate").press("Enter")
    assert page.url == web_service.url
    for route in held:
        route.continue_()
    drawn(page, "a green frog")


def test_a_tab_that_is_chosen_before_the_page_can_listen_is_opened(page: Page, web_service: Service) -> None:
    held: list[Route] = []
    page.route("**/app/facts", lambda route: held.append(route))
    page.goto(web_service.url)
    page.get_by_role("tab", name="Morph").click()
    for route in held:
        route.continue_()
    expect(page.locator("#model")).to_be_visible()
    settled(page, "#morph-screen")
    page.get_by_role("tab", name="Generate").click()
    drawn(page, "3d emoji of red heart")
    page.locator("#draw-pictures .picture").first.click()
    expect(page.get_by_role("dialog").get_by_role("heading")).to_be_visible()


# ---- a proxy, and a slow line


def test_all_of_it_works_below_a_proxys_path(proxied: Page, front: Front) -> None:
    proxied.get_by_role("tab", name="Morph").click()
    settled(proxied, "#morph-screen")
    proxied.goto("about:blank")
    proxied.goto(front.url + WALK + "&format=webp")
    proxied.get_by_role("button", name="Make the video").click()
    expect(proxied.get_by_alt_text("Video: a red heart, then a green apple")).to_be_visible()
    proxied.get_by_role("link", name="API").click()
    expect(proxied.get_by_text("/v1/images/generations")).to_be_visible()
    assert [path for path in front.asked if not path.startswith(PREFIX + "/")] == []


def test_a_proxy_without_its_service_counts_as_gone(proxied: Page, front: Front) -> None:
    front.gone = True
    proxied.get_by_label("What to generate").fill("a red apple")
    expect(proxied.get_by_role("alert")).to_contain_text("The server does not answer")
    front.gone = False
    drawn(proxied, "a red apple", 1)
    expect(proxied.locator("#unreachable")).to_be_hidden()


def test_a_slow_server_is_shown_and_not_drowned(proxied: Page, front: Front) -> None:
    front.delay = 0.8
    prompt = proxied.get_by_label("What to generate")
    prompt.fill("")
    prompt.press_sequentially("a green frog", delay=60)
    expect(prompt).to_have_value("a green frog")
    card = proxied.locator("#draw-pictures .card")
    expect(card).to_have_attribute("aria-busy", "true")
    expect(card).to_have_class("card slow")
    drawn(proxied, "a green frog", 1)
    expect(card).to_have_class("card")
    front.delay = 0.2
    # Following a hand, there is one request at a time, however many places it has been to.
    proxied.get_by_role("tab", name="Morph").click()
    settled(proxied, "#morph-screen")
    expect(proxied.locator("#morph-strip img:not([src])")).to_have_count(0)
    front.asked.clear()
    front.most = 0
    slider = proxied.get_by_label("Position between")
    slider.press("Home")
    for _ in range(20):
        slider.press("ArrowRight")
    settled(proxied, "#morph-screen")
    assert front.most == 1
    assert front.asked.count(f"{PREFIX}/app/draw") < 20


# ---- keys


def test_a_key_is_asked_for_and_remembered(context: BrowserContext, locked_service: Service) -> None:
    page = context.new_page()
    problems = watch(page, locked_service.url)
    page.goto(locked_service.url + "#draw?prompt=a+red+heart&seed=5&n=1")
    dialog = page.get_by_role("dialog", name="asks for a key")
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    page.get_by_role("button", name="Enter the key").click()
    dialog.get_by_label("Key").fill("mistaken")
    page.keyboard.press("Enter")
    expect(dialog.get_by_role("alert")).to_have_text("The server does not know this key.")
    dialog.get_by_label("Key").fill("sesame")
    page.keyboard.press("Enter")
    drawn(page, "a red heart", 1)
    expect(page.locator("#error")).to_be_hidden()
    page.reload()
    drawn(page, "a red heart", 1)
    assert "sesame" not in page.url
    assert problems == []
