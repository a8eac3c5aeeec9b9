"""The web app for everybody: links, keyboards, screen readers, phones, the dark."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from typing import Literal

import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, expect
from serving.browsing import CHROMIUM, DESKTOP, PHONE, TABS, ZOOMED, Service, png, watch
from serving.looking import WALK, array, drawn, same, settled
from serving.page_checks import contrasts, unnamed_controls

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: chromium is not installed"),
]


# ---- addresses


@pytest.mark.parametrize(
    ("tab", "picture"),
    [("draw", "#draw-pictures img"), ("morph", "#morph-screen canvas"), ("explore", "#explore-screen canvas")],
)
def test_a_shared_address_shows_the_same(visit: Callable[..., Page], browser: Browser, tab: str, picture: str) -> None:
    page = visit(f"#{tab}")
    if tab == "draw":
        page.get_by_label("What to generate").fill("a piñata & a 100% #1 ☕")
        drawn(page, "a piñata & a 100% #1 ☕")
        page.get_by_role("button", name="Another seed", exact=True).click()
        drawn(page, "a piñata & a 100% #1 ☕")
    elif tab == "morph":
        page.get_by_label("Start: caption").fill("a piñata & ☕")
        page.get_by_label("Position between").fill("31")
    else:
        page.get_by_label("Top right: caption").fill("a piñata & ☕")
        page.locator("#explore-pad").press("Shift+ArrowDown")
    if tab != "draw":
        settled(page, f"#{tab}-screen")
    page.wait_for_timeout(600)
    before = [array(png(one)) for one in page.locator(picture).all()]
    other = browser.new_context(viewport=DESKTOP).new_page()
    other.goto(page.url)
    if tab == "draw":
        drawn(other, "a piñata & a 100% #1 ☕")
    else:
        settled(other, f"#{tab}-screen")
    after = [array(png(one)) for one in other.locator(picture).all()]
    other.context.close()
    assert len(after) == len(before)
    assert all(same(one, old) for one, old in zip(after, before, strict=True))


def test_addresses_of_walk_and_grid_bring_their_fields_back(visit: Callable[..., Page]) -> None:
    page = visit(WALK)
    expect(page.get_by_label("Image 2: caption")).to_have_value("a green apple")
    expect(page.get_by_label("Image 2: seed", exact=True)).to_have_value("2")
    expect(page.get_by_label("Seconds between")).to_have_value("0.5")
    expect(page.get_by_label("Back to the start")).not_to_be_checked()
    page.goto("about:blank")
    visit("#grid?p=a+red+heart&p=a+cat&seeds=7,9")
    expect(page.get_by_role("textbox", name="Captions")).to_have_value("a red heart\na cat")
    expect(page.get_by_label("Seeds")).to_have_value("7,9")


def test_nonsense_in_an_address_is_no_harm(visit: Callable[..., Page]) -> None:
    page = visit("#morph?p=%3Cimg+src%3Dx+onerror%3Dalert(1)%3E&s=-1&s=x&t=7")
    expect(page.get_by_label("Start: caption")).to_have_value("<img src=x onerror=alert(1)>")
    settled(page, "#morph-screen")
    page.goto("about:blank")
    visit("#nowhere?x=y")
    expect(page.get_by_role("tab", name="Generate")).to_have_attribute("aria-selected", "true")
    page.goto("about:blank")
    visit("#draw?prompt=a+red+heart&seed=1e99&n=77&variety=abc&near=&near=1*2&different=9")
    drawn(page, "a red heart")


def test_back_leads_to_the_tab_before(visit: Callable[..., Page]) -> None:
    page = visit("#draw?prompt=a+red+heart&seed=5&n=1")
    drawn(page, "a red heart", 1)
    page.get_by_role("tab", name="Morph").click()
    expect(page.locator("#panel-morph")).to_be_visible()
    page.go_back()
    expect(page.locator("#panel-draw")).to_be_visible()
    expect(page.get_by_label("What to generate")).to_have_value("a red heart")


def test_a_link_is_copied(visit: Callable[..., Page], context: BrowserContext) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = visit("#draw?prompt=a+red+heart&seed=5&n=1")
    drawn(page, "a red heart", 1)
    page.get_by_label("What to generate").fill("a red apple")
    page.get_by_role("button", name="Copy a link").click()
    expect(page.locator("#toast")).to_be_visible()
    assert "prompt=a+red+apple" in page.evaluate("navigator.clipboard.readText()")


# ---- for everybody


def test_tabs_by_arrow_keys(visit: Callable[..., Page]) -> None:
    page = visit("#draw?n=1")
    page.get_by_role("tab", name="Generate").focus()
    for name in ["Morph", "Explore", "Walk", "Grid", "Generate"]:
        page.keyboard.press("ArrowRight")
        tab = page.get_by_role("tab", name=name)
        expect(tab).to_be_focused()
        expect(tab).to_have_attribute("aria-selected", "true")
        expect(page.get_by_role("tabpanel", name=name)).to_be_visible()
        assert page.get_by_role("tabpanel").count() == 1
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('role')") != "tab"


@pytest.fixture(scope="module", params=TABS)
def opened(request: pytest.FixtureRequest, browser: Browser, web_service: Service) -> Iterator[Page]:
    """Each tab as it is opened first, for tests that only look."""
    page = browser.new_page(viewport=DESKTOP, reduced_motion="reduce")
    problems = watch(page, web_service.url)
    page.goto(f"{web_service.url}#{request.param}")
    expect(page.locator("#model")).to_be_visible()
    expect(page.locator(f"#panel-{request.param}")).to_be_visible()
    expect(page.locator("[aria-busy]")).to_have_count(0)
    yield page
    page.context.close()
    assert problems == []


def test_every_control_has_a_name(opened: Page) -> None:
    assert unnamed_controls(opened) == []
    ids = opened.evaluate("[...document.querySelectorAll('[id]')].map(element => element.id)")
    assert len(ids) == len(set(ids))


def test_text_can_be_read_in_light_and_dark(opened: Page) -> None:
    schemes: list[Literal["light", "dark"]] = ["dark", "light"]
    for scheme in schemes:
        opened.emulate_media(color_scheme=scheme)
        opened.wait_for_function("scheme => document.documentElement.dataset.theme === scheme", arg=scheme)
        measured = contrasts(opened)
        assert len(measured) > 8
        assert {text: ratio for text, ratio in measured.items() if ratio < 4.5} == {}


def test_nothing_is_wider_than_a_phone_or_an_enlarged_window(opened: Page) -> None:
    for size in (PHONE, ZOOMED, DESKTOP):
        opened.set_viewport_size(size)
        assert opened.evaluate("document.documentElement.scrollWidth") <= size["width"]


def test_the_longest_caption_fits_in_any_script(visit: Callable[..., Page], page: Page) -> None:
    caption = ("a 🐸 and قطة صغيرة and שלום, " * 20)[:499].strip() + "🐸"
    page.set_viewport_size(PHONE)
    visit("#draw?n=1")
    drawn(page, page.get_by_label("What to generate").input_value(), 1)
    page.get_by_label("What to generate").fill(caption)
    picture = page.locator("#draw-pictures .card:not([aria-busy]) img")
    expect(picture).to_have_attribute("alt", re.compile("^a 🐸 and قطة"))
    page.locator("#draw-pictures .picture").click()
    expect(page.get_by_role("dialog").get_by_role("heading")).to_contain_text("שלום")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    dialog = page.get_by_role("dialog").bounding_box()
    assert dialog and dialog["x"] >= 0 and dialog["x"] + dialog["width"] <= PHONE["width"]
    # A message lies above the dialog, in colours of its own.
    page.get_by_role("button", name="Copy link").click()
    expect(page.locator("#toast")).not_to_contain_text("500 characters")
    toast = page.locator("#toast").bounding_box()
    assert toast
    with Image.open(io.BytesIO(page.screenshot())) as window:
        pixel = window.convert("RGB").getpixel((int(toast["x"]) + 12, int(toast["y"] + toast["height"] / 2)))
    assert pixel == (29, 27, 24)


def test_who_pastes_too_much_is_told(visit: Callable[..., Page]) -> None:
    page = visit("#draw?prompt=a+red+heart&n=1")
    drawn(page, "a red heart", 1)
    prompt = page.get_by_label("What to generate")
    prompt.fill("")
    page.keyboard.insert_text("much " * 200)
    expect(page.locator("#toast")).to_contain_text("at most 500 characters")
    assert len(prompt.input_value()) == 500


def test_the_dark_is_the_systems_or_ones_own(visit: Callable[..., Page], page: Page) -> None:
    brightness = """() => {
        const [r, g, b] = getComputedStyle(document.documentElement).backgroundColor.match(/\\d+/g).map(Number);
        return (r + g + b) / 3;
    }"""
    page.emulate_media(color_scheme="dark")
    visit("#draw?n=1")
    assert page.evaluate(brightness) < 60
    page.emulate_media(color_scheme="light")
    page.wait_for_function(f"() => ({brightness})() > 200")
    page.get_by_role("button", name="Dark colours").click()
    assert page.evaluate(brightness) < 60
    page.reload()
    assert page.evaluate(brightness) < 60


def test_pixels_are_smooth_or_sharp(visit: Callable[..., Page]) -> None:
    page = visit("#draw?prompt=a+red+heart&seed=5&n=1")
    drawn(page, "a red heart", 1)
    rendering = "getComputedStyle(document.querySelector('#draw-pictures img')).imageRendering"
    assert page.evaluate(rendering) == "auto"
    page.get_by_role("button", name="Show pixels sharp").click()
    assert page.evaluate(rendering) == "pixelated"
    page.reload()
    drawn(page, "a red heart", 1)
    assert page.evaluate(rendering) == "pixelated"


def test_what_was_drawn_is_said(visit: Callable[..., Page]) -> None:
    page = visit("#draw?prompt=a+red+heart&seed=5&n=4")
    expect(page.get_by_role("status")).to_have_text("4 images of a red heart")
    page.get_by_role("tab", name="Explore").click()
    expect(page.get_by_role("status")).to_contain_text("25%")
    expect(page.get_by_role("img", name="25% a red heart")).to_be_visible()


def test_less_motion_is_respected(visit: Callable[..., Page], page: Page) -> None:
    page.emulate_media(reduced_motion="reduce")
    visit(WALK + "&format=mp4")
    page.get_by_role("button", name="Make the video").click()
    video = page.locator("#walk-screen video")
    expect(video).to_be_visible()
    assert video.evaluate("video => video.autoplay") is False
    assert page.evaluate("getComputedStyle(document.querySelector('.button')).transitionDuration") == "0s"
