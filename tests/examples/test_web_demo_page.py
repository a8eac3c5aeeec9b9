"""The page that draws in the browser, in headless Chromium: what it does with a hand, a phone and a bad network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import numpy as np
import pytest
from examples.demo_page import MARKS, draw, pixels, reach
from examples.odd_captions import BROKEN
from playwright.sync_api import BrowserContext, Page, expect
from serving.browsing import png, watch
from serving.page_checks import contrasts, unnamed_controls

pytestmark = MARKS

SMALL_PHONE = {"width": 360, "height": 640}


def test_all_that_is_typed_at_once_is_drawn_once(visit: Callable[..., Page]) -> None:
    page = visit()
    page.fill("#prompt", "")
    page.locator("#prompt").press_sequentially("a green apple", delay=5)
    reach(page, "done")
    expect(page.locator("#picture")).to_have_attribute("data-prompt", "a green apple")
    expect(page.locator("#picture")).to_have_attribute("aria-label", "Picture of: a green apple")
    expect(page.locator("#facts")).to_contain_text(" ms")
    # Whoever listens is not told at every letter.
    expect(page.get_by_role("status")).to_have_text("Drawn: a green apple, seed 0")


def test_without_a_network_once_it_is_loaded(own_context: BrowserContext, url: str) -> None:
    page = own_context.new_page()
    page.goto(url)
    reach(page, "done")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    own_context.set_offline(True)
    assert draw(page, "a blue car", 5).std() > 20
    assert asked == []


def test_other_seeds(visit: Callable[..., Page]) -> None:
    page = visit()
    draw(page, "a blue car", 41)
    third = page.locator("#others button").nth(2)
    expect(third).to_have_attribute("aria-label", "Seed 44")
    small = png(third.locator("canvas"))
    assert len({png(page.locator("#others canvas").nth(i)) for i in range(8)}) == 8
    third.click()
    expect(page.locator("#picture")).to_have_attribute("data-seed", "44")
    reach(page, "done")
    assert png(page.locator("#picture")) == small
    page.click("#another")
    expect(page.locator("#picture")).not_to_have_attribute("data-seed", "44")
    assert page.locator("#picture").get_attribute("data-seed") == page.input_value("#seed")


def test_a_link_and_a_file(visit: Callable[..., Page], url: str, tmp_path: Path) -> None:
    page = visit("#prompt=a+white+flower&seed=12")
    picture = png(page.locator("#picture"))
    assert page.locator("#picture").get_attribute("data-prompt") == "a white flower"
    page.fill("#seed", "13")
    page.wait_for_url(url + "#prompt=a+white+flower&seed=13")
    page.goto(url + "#prompt=a+white+flower&seed=12")
    expect(page.locator("#picture")).to_have_attribute("data-seed", "12")
    reach(page, "done")
    assert png(page.locator("#picture")) == picture
    with page.expect_download() as download:
        page.click("#save")
    assert download.value.suggested_filename == "a-white-flower-12.png"
    download.value.save_as(tmp_path / "saved.png")
    assert np.array_equal(pixels((tmp_path / "saved.png").read_bytes()), pixels(picture))


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("#prompt", "  ", "The caption is empty: say what to draw."),
        ("#prompt", "a\u0007bell", "The caption holds the control character U+0007: plain text is needed."),
        ("#seed", "-1", "A seed is a whole number from 0 to 9223372036854775807."),
        ("#seed", "9223372036854775808", "A seed is a whole number from 0 to 9223372036854775807."),
    ],
)
def test_what_cannot_be_drawn_is_said(visit: Callable[..., Page], field: str, value: str, says: str) -> None:
    page = visit()
    good = page.input_value(field)
    page.fill(field, value)
    reach(page, "refused")
    expect(page.get_by_role("alert")).to_have_text(says)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.click("#link")  # the picture before is still there, and its link is copied
    copied = parse_qs(page.evaluate("navigator.clipboard.readText()").partition("#")[2])
    assert copied == {"prompt": ["a yellow smiling face"], "seed": ["0"]}
    page.fill(field, value + value)
    expect(page.get_by_role("alert")).to_have_text(says)
    expect(page.locator(field)).to_have_attribute("aria-invalid", "true")
    page.fill(field, good)
    reach(page, "done")
    expect(page.get_by_role("alert")).to_have_text("")
    assert page.locator(field).get_attribute("aria-invalid") is None


def test_notes_on_captions(visit: Callable[..., Page]) -> None:
    page = visit()
    draw(page, "yellow star " * 40, 0)
    expect(page.get_by_role("alert")).to_contain_text("longer than the model reads")
    draw(page, BROKEN[0], 0)
    expect(page.get_by_role("alert")).to_contain_text("broken encoding")


def test_a_download_that_fails_can_be_tried_again(own_context: BrowserContext, url: str, site: Path) -> None:
    page = own_context.new_page()
    problems = watch(page, url)
    size = (site / "model" / "generator.onnx").stat().st_size
    own_context.route("**/generator.onnx*", lambda route: route.fulfill(status=404))
    page.goto(url)
    reach(page, "failed")
    expect(page.get_by_role("alert")).to_contain_text("model/generator.onnx: the server answered 404")
    own_context.unroute("**/generator.onnx*")
    own_context.route("**/text_encoder.onnx*", lambda route: route.fulfill(body=b"short"))
    page.click("#retry")
    reach(page, "failed")
    expect(page.get_by_role("alert")).to_contain_text("model/text_encoder.onnx: it has 5 bytes, not ")
    own_context.unroute("**/text_encoder.onnx*")
    own_context.route("**/demo.json", lambda route: route.fulfill(body="<!doctype html>"))
    page.click("#retry")
    expect(page.get_by_role("alert")).to_contain_text("demo.json: what the server sent is no JSON")
    own_context.unroute("**/demo.json")
    own_context.route("**/generator.onnx*", lambda route: route.fulfill(body=b"x" * size))
    page.click("#retry")
    expect(page.get_by_role("alert")).to_contain_text("model/generator.onnx: it cannot be started")
    own_context.unroute("**/generator.onnx*")
    page.click("#retry")
    reach(page, "done")
    assert problems == []


def test_by_keyboard(visit: Callable[..., Page]) -> None:
    page = visit()
    page.focus("#seed")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "another"
    before = page.input_value("#seed")
    page.keyboard.press("Enter")
    assert page.input_value("#seed") != before
    reach(page, "done")
    page.focus("#link")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.parentElement.id") == "others"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert unnamed_controls(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone(visit: Callable[..., Page], page: Page, scheme: Any) -> None:
    page.set_viewport_size(SMALL_PHONE)
    page.emulate_media(color_scheme=scheme)
    visit()
    draw(page, "pneumonoultramicroscopicsilicovolcanoconiosis" * 4, 2**63 - 1)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= SMALL_PHONE["width"]
    sizes = page.evaluate(
        "[...document.querySelectorAll('input, button')].filter(e => e.checkVisibility()).map(e => e.offsetHeight)"
    )
    assert min(sizes) >= 36  # a finger's
    measured = contrasts(page)
    assert len(measured) > 8
    assert {text: ratio for text, ratio in measured.items() if ratio < 4.5} == {}
