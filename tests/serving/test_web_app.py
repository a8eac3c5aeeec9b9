"""The web app from end to end, tab by tab: the real server, the bundled model, a headless Chromium."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Error, Page, Route, expect
from serving.browsing import CHROMIUM, Service, ask, png
from serving.looking import WALK, array, asked_for, cards, drag, drawn, frames, names, record_frames, same, settled

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: chromium is not installed"),
]


# ---- Draw


def test_the_page_draws_at_once_and_follows_the_words(visit: Callable[..., Page]) -> None:
    page = visit()
    prompt = page.get_by_label("What to generate")
    expect(prompt).not_to_have_value("")
    before = drawn(page, prompt.input_value())
    assert len(set(before)) == 4
    prompt.fill("")
    expect(page.locator("#draw-empty")).to_be_visible()
    page.keyboard.type("a green frog", delay=30)
    after = drawn(page, "a green frog")
    assert len(set(after)) == 4
    assert not set(before) & set(after)


def test_every_word_on_the_way_may_be_drawn_but_none_after_a_later_one(visit: Callable[..., Page]) -> None:
    page = visit("#draw?prompt=a&seed=1&n=1")
    drawn(page, "a", 1)
    held: list[Route] = []

    def hold(route: Route) -> None:
        points = route.request.post_data_json["points"]
        held.append(route) if points[0]["prompt"] == "a blue car" else route.continue_()

    page.route("**/app/draw", hold)
    prompt = page.get_by_label("What to generate")
    prompt.fill("a blue car")
    page.wait_for_timeout(200)
    assert held, "the earlier words were asked for"
    prompt.fill("a blue carrot")
    newer = drawn(page, "a blue carrot", 1)
    white = io.BytesIO()
    Image.new("RGB", (64, 64), "white").save(white, "PNG")
    for route in held:
        with contextlib.suppress(Error):  # the page gave the request up, which is as good
            route.fulfill(body=white.getvalue(), content_type="image/png")
    page.wait_for_timeout(200)
    assert drawn(page, "a blue carrot", 1) == newer


def test_a_seed_is_shown_typed_shuffled_and_locked(visit: Callable[..., Page]) -> None:
    page = visit("#draw?prompt=a+red+heart&seed=5&n=4")
    drawn(page, "a red heart")
    assert names(page) == ["seed 5", "seed 6", "seed 7", "seed 8"]
    seed = page.get_by_label("Seed", exact=True)
    seed.fill("41")
    expect(page.locator(".card-name").first).to_have_text("seed 41")
    page.get_by_role("button", name="Keep this seed").click()
    page.get_by_label("What to generate").press("Enter")
    drawn(page, "a red heart")
    assert names(page)[0] == "seed 41"
    page.get_by_role("button", name="Another seed", exact=True).click()
    expect(page.locator(".card-name").first).not_to_have_text("seed 41")
    page.get_by_role("button", name="Seed is kept").click()
    before = seed.input_value()
    page.get_by_label("What to generate").press("Enter")
    expect(page.locator(".card-name").first).not_to_have_text(f"seed {before}")
    now = seed.input_value()
    seed.fill("-3")
    expect(seed).to_have_attribute("aria-invalid", "true")
    drawn(page, "a red heart")
    assert names(page)[0] == f"seed {now}"


def test_the_page_says_what_the_model_knows_and_offers_its_styles(visit: Callable[..., Page]) -> None:
    page = visit("#draw?prompt=a+red+heart&seed=5&n=1")
    expect(page.locator("#about")).to_contain_text("emoji")
    styles = page.get_by_role("group", name="Style")
    for style, words in (("3d", "3d emoji of red heart"), ("flat", "flat emoji of red heart"), ("flat", "red heart")):
        styles.get_by_role("button", name=style).click()
        expect(page.locator("#draw-prompt")).to_have_value(words)
        drawn(page, words, 1)


def test_how_many_and_how_varied(visit: Callable[..., Page]) -> None:
    page = visit("#draw?prompt=a+red+heart&seed=5&n=4")
    before = drawn(page, "a red heart")
    page.get_by_role("radio", name="9", exact=True).check(force=True)
    assert drawn(page, "a red heart", 9)[:4] == before
    page.get_by_role("radio", name="1", exact=True).check(force=True)
    assert drawn(page, "a red heart", 1) == before[:1]
    page.get_by_role("slider", name="Variety").fill("0")
    page.wait_for_timeout(500)
    assert drawn(page, "a red heart", 1) != before[:1]


def test_a_picture_is_downloaded_as_the_server_draws_it(visit: Callable[..., Page], web_service: Service) -> None:
    page = visit("#draw?prompt=a+red+heart&seed=5&n=4")
    drawn(page, "a red heart")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download seed 6").click()
    assert download.value.suggested_filename == "a-red-heart-6.png"
    saved = Path(download.value.path()).read_bytes()
    asked = ask(web_service, "app/draw", {"points": [{"prompt": "a red heart", "seed": 6}]})
    assert same(array(saved), array(asked))


def test_more_like_this_stays_near(visit: Callable[..., Page]) -> None:
    page = visit("#draw?prompt=a+sleepy+cat&seed=5&n=9")
    drawn(page, "a sleepy cat", 9)
    pictures = [array(png(picture)) for picture in page.locator("#draw-pictures img").all()]
    chosen, others = pictures[3], pictures[:3] + pictures[4:]
    page.get_by_role("button", name="More like seed 8").click()
    expect(page.locator("#near")).to_be_visible()
    expect(page.locator(".card-name").nth(8)).to_contain_text("near")
    drawn(page, "a sleepy cat", 9)
    first, *near = [array(png(picture)) for picture in page.locator("#draw-pictures img").all()]
    assert same(first, chosen)
    distances = [float(np.abs(picture - chosen).mean()) for picture in near]
    assert min(distances) > 0
    assert np.mean(distances) < 0.7 * np.mean([np.abs(picture - chosen).mean() for picture in others])
    address = page.evaluate("new Promise(resolve => setTimeout(() => resolve(location.href), 500))")
    before = [array(png(picture)) for picture in page.locator("#draw-pictures img").all()]
    page.goto("about:blank")
    page.goto(address)
    drawn(page, "a sleepy cat", 9)
    for picture, old in zip(page.locator("#draw-pictures img").all(), before, strict=True):
        assert same(array(png(picture)), old)
    page.get_by_role("button", name="Leave").click()
    expect(page.locator("#near")).to_be_hidden()
    expect(page.locator(".card-name").first).to_contain_text("seed")


def test_kept_pictures_stay_over_a_visit(visit: Callable[..., Page]) -> None:
    page = visit("#draw?prompt=a+red+heart&seed=5&n=4")
    drawn(page, "a red heart")
    before = array(png(cards(page).nth(1).locator("img")))
    keep = cards(page).nth(1).get_by_role("button", name="Keep this image")
    keep.click()
    expect(cards(page).nth(1).get_by_role("button", name="No longer keep")).to_have_attribute("aria-pressed", "true")
    page.reload()
    kept = page.locator("#shelf-pictures img")
    expect(kept).to_have_count(1)
    page.wait_for_function("() => document.querySelector('#shelf-pictures img').naturalWidth")
    assert same(array(png(kept.first)), before)
    page.get_by_role("button", name=re.compile("No longer keep: a red heart")).click()
    expect(page.locator("#shelf")).to_be_hidden()


def test_the_large_view_by_keyboard(visit: Callable[..., Page]) -> None:
    page = visit("#draw?prompt=a+red+heart&seed=5&n=4")
    drawn(page, "a red heart")
    card = page.get_by_role("button", name="Open a red heart, seed 6")
    card.focus()
    page.keyboard.press("Enter")
    viewer = page.get_by_role("dialog", name="a red heart")
    expect(viewer).to_be_visible()
    viewer.get_by_label("Size").select_option("128")
    viewer.get_by_label("File").select_option("webp")
    with page.expect_download() as download:
        viewer.get_by_role("button", name="Download").click()
    with Image.open(download.value.path()) as image:
        assert (image.format, image.size) == ("WEBP", (128, 128))
    page.keyboard.press("Escape")
    expect(viewer).to_be_hidden()
    expect(card).to_be_focused()


# ---- Morph


def test_morph_follows_the_hand(visit: Callable[..., Page], web_service: Service) -> None:
    page = visit("#morph?p=a+red+heart&s=3&p=a+green+apple&s=3&t=0")
    assert same(settled(page, "#morph-screen"), asked_for(web_service, "a red heart", 3))
    record_frames(page, "#morph-screen")
    box = page.get_by_label("Position between").bounding_box()
    assert box
    drag(page, box, [(0.02 + 0.96 * at / 60, 0.5) for at in range(61)], "#morph-screen")
    seen = frames(page)
    assert len(set(seen)) >= 10
    page.get_by_label("Position between").press("End")
    assert same(settled(page, "#morph-screen"), asked_for(web_service, "a green apple", 3))


def test_morph_by_keyboard_and_playing(visit: Callable[..., Page]) -> None:
    page = visit("#morph?p=a+red+heart&s=3&p=a+green+apple&s=9&t=0.5")
    middle = settled(page, "#morph-screen")
    slider = page.get_by_label("Position between")
    for _ in range(10):
        slider.press("ArrowRight")
    expect(slider).to_have_attribute("aria-valuetext", "55% of the way")
    assert not same(settled(page, "#morph-screen"), middle)
    record_frames(page, "#morph-screen")
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("() => new Set(window.frames_seen).size >= 10")
    page.get_by_role("button", name="Pause").click()
    settled(page, "#morph-screen")
    stopped = len(frames(page))
    page.wait_for_timeout(300)
    assert len(frames(page)) == stopped


def test_a_picture_of_the_strip_leads_to_its_place(visit: Callable[..., Page]) -> None:
    page = visit("#morph?p=a+red+heart&s=3&p=a+green+apple&s=9&t=0")
    settled(page, "#morph-screen")
    page.locator("#morph-strip img").nth(6).click()
    expect(page.get_by_label("Position between")).to_have_attribute("aria-valuetext", "75% of the way")
    thumb, under = (
        page.get_by_label("Position between").bounding_box(),
        page.locator("#morph-strip img").nth(6).bounding_box(),
    )
    assert thumb and under
    middle = thumb["x"] + 16 + 0.75 * (thumb["width"] - 32)  # a thumb of 32 pixels stays on its track
    assert abs(middle - (under["x"] + under["width"] / 2)) < 1


def test_one_seed_for_both_ends_changes_only_the_words(visit: Callable[..., Page]) -> None:
    page = visit("#morph?p=a+red+heart&s=3&p=a+green+apple&s=9")
    linked = page.get_by_label("One seed for both")
    expect(linked).not_to_be_checked()
    linked.check()
    expect(page.get_by_label("End: seed")).to_have_value("3")
    page.get_by_label("End: seed", exact=True).fill("12")
    expect(page.get_by_label("Start: seed", exact=True)).to_have_value("12")


# ---- Explore


def test_explore_by_mouse(visit: Callable[..., Page], web_service: Service) -> None:
    page = visit("#explore?p=a+red+heart&s=1&p=a+green+apple&s=2&p=a+blue+square&s=3&p=a+smiling+face&s=4")
    middle = settled(page, "#explore-screen")
    record_frames(page, "#explore-screen")
    box = page.locator("#explore-pad").bounding_box()
    assert box
    drag(page, box, [(0.5 + 0.4 * at / 45, 0.5 - 0.3 * at / 45) for at in range(46)], "#explore-screen")
    assert len(set(frames(page))) >= 10
    assert not same(settled(page, "#explore-screen"), middle)
    drag(page, box, [(0.5, 0.5), (0.0, 1.0), (-0.2, 1.2)])  # past the corner is the corner
    assert same(settled(page, "#explore-screen"), asked_for(web_service, "a blue square", 3))
    drag(page, box, [(0.5, 0.5), (1.0, 0.0), (1.2, -0.2)])
    assert same(settled(page, "#explore-screen"), asked_for(web_service, "a green apple", 2))


def test_explore_by_keyboard(visit: Callable[..., Page]) -> None:
    page = visit("#explore?x=0.5&y=0.5")
    pad = page.get_by_role("slider", name="Place between four captions")
    middle = settled(page, "#explore-screen")
    pad.focus()
    for key in ["ArrowRight"] * 3 + ["Shift+ArrowUp"]:
        page.keyboard.press(key)
    expect(pad).to_have_attribute("aria-valuetext", "56% across, 40% down")
    assert not same(settled(page, "#explore-screen"), middle)
    page.keyboard.press("Home")
    expect(pad).to_have_attribute("aria-valuetext", "50% across, 50% down")
    assert same(settled(page, "#explore-screen"), middle)


# ---- Walk


def test_keyframes_are_added_moved_and_removed_by_keyboard(visit: Callable[..., Page]) -> None:
    page = visit(WALK)
    captions = page.locator("#walk-keyframes .caption")
    expect(captions).to_have_count(2)
    expect(page.get_by_role("button", name="Image 1: remove")).to_be_disabled()
    page.get_by_role("button", name="Add an image").press("Enter")
    page.keyboard.type("a blue square")
    values = lambda: [caption.input_value() for caption in captions.all()]  # noqa: E731
    assert values() == ["a red heart", "a green apple", "a blue square"]
    page.get_by_role("button", name="Image 3: earlier").press("Enter")
    assert values() == ["a red heart", "a blue square", "a green apple"]
    expect(page.get_by_role("button", name="Image 2: earlier")).to_be_focused()
    page.get_by_role("button", name="Image 1: remove").press("Enter")
    assert values() == ["a blue square", "a green apple"]
    expect(page.get_by_label("Image 1: caption")).to_be_focused()


def test_a_walk_becomes_a_video_that_plays(visit: Callable[..., Page]) -> None:
    page = visit(WALK + "&format=mp4")
    page.get_by_role("button", name="Make the video").click()
    video = page.locator("#walk-screen video")
    expect(video).to_be_visible()
    page.wait_for_function("() => document.querySelector('video').currentTime > 0")
    seconds = page.evaluate("document.querySelector('video').duration")
    assert 0.4 <= seconds <= 0.8  # five pictures at ten a second, and the last one
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == "walk.mp4"
    assert b"ftyp" in Path(download.value.path()).read_bytes()[:16]


@pytest.mark.parametrize("kind", ["webp", "gif"])
def test_a_walk_becomes_an_animated_picture(visit: Callable[..., Page], kind: str) -> None:
    page = visit(f"{WALK}&format={kind}")
    page.get_by_role("button", name="Make the video").click()
    expect(page.get_by_alt_text("Video: a red heart, then a green apple")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    with Image.open(download.value.path()) as film:
        assert film.format == kind.upper() and film.n_frames >= 5


def test_a_film_that_the_server_would_refuse_is_not_asked_for(visit: Callable[..., Page]) -> None:
    page = visit("#walk?p=a+red+heart&p=a+green+apple&p=a+blue+square&p=a+cat&p=a+dog&seconds=10&fps=30&loop=1")
    make = page.get_by_role("button", name="Make the video")
    expect(page.locator("#walk-length")).to_contain_text("1500 images; this server makes videos of at most 1200")
    expect(make).to_be_disabled()
    page.get_by_label("Seconds between").fill("5")
    page.get_by_label("Seconds between").blur()
    expect(page.locator("#walk-length")).to_have_text("25.0 s, 750 images")
    expect(make).to_be_enabled()


def test_a_film_can_be_stopped(visit: Callable[..., Page]) -> None:
    page = visit("#walk?p=a+red+heart&p=a+green+apple&seconds=10&fps=30&size=512")
    page.get_by_role("button", name="Make the video").click()
    expect(page.locator("#walk-wait")).to_contain_text("600 images are being generated")
    expect(page.locator("#walk-screen")).to_have_class("screen video slow")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Make the video")).to_be_enabled()
    expect(page.locator("#walk-wait")).to_be_empty()
    expect(page.locator("#walk-screen")).to_have_class("screen video")


# ---- Grid


def test_a_grid_is_drawn_and_downloaded(visit: Callable[..., Page], web_service: Service) -> None:
    page = visit("#grid?p=a+red+heart&p=a+green+apple&seeds=3-5")
    expect(page.locator("#grid-progress")).to_have_text("6 of 6 generated")
    assert page.locator("#grid-table th[scope=col]").all_inner_texts() == ["3", "4", "5"]
    assert page.locator("#grid-table th[scope=row]").all_inner_texts() == ["a red heart", "a green apple"]
    last = page.get_by_alt_text("a green apple, seed 5")
    page.wait_for_function("image => image.naturalWidth", arg=last.element_handle())
    assert same(array(png(last)), asked_for(web_service, "a green apple", 5))
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    with Image.open(download.value.path()) as sheet:
        assert sheet.format == "PNG" and sheet.width > 3 * 128 and sheet.height > 2 * 128
        labels = np.asarray(sheet.convert("L").crop((0, 30, 200, sheet.height)))
        assert (labels < 100).any(), "captions stand beside the pictures"
    page.get_by_role("button", name="Open a green apple, seed 5").click()
    expect(page.get_by_role("dialog", name="a green apple")).to_be_visible()


def test_a_grid_says_what_is_wrong_before_it_draws(visit: Callable[..., Page]) -> None:
    page = visit("#grid?p=a+red+heart&seeds=3-5")
    expect(page.locator("#grid-progress")).to_have_text("3 of 3 generated")
    page.get_by_label("Seeds").fill("three")
    page.get_by_role("button", name="Generate the grid").click()
    expect(page.get_by_role("alert").filter(has_text="three")).to_be_visible()
    page.get_by_label("Seeds").fill("0-199")
    page.get_by_role("textbox", name="Captions").fill("a red heart\na green apple")
    page.get_by_role("button", name="Generate the grid").click()
    expect(page.get_by_role("alert").filter(has_text="400 images")).to_be_visible()
