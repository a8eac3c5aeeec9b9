"""The page that draws in the browser, in headless Chromium: its pictures are Python's. And how it is built."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from examples.demo_page import MARKS, PICTURES, differing, distances, draw, reach, script
from examples.odd_captions import BROKEN, CAPTIONS, ORDINARY
from playwright.sync_api import BrowserContext, Page, expect
from serving.browsing import watch

from galip.generation.noise import noise
from galip.model_repo.export_folder import read_manifest

pytestmark = MARKS

# Of 255. Both compute in fp32, but sum in another order: a number near a half may be rounded to the other side.
SAME = 1
# And only the few that are so near: a difference of 1e-3 would be seen in one number of four.
FEW = 0.02


def test_pictures_are_pythons(visit: Callable[..., Page], python: dict[str, Any]) -> None:
    page = visit()
    assert page.evaluate("crossOriginIsolated") is False
    expect(page.locator("#about")).to_contain_text("1 thread.")
    drawn = [draw(page, caption, seed) for caption, seed in PICTURES]
    assert all(picture.shape == (64, 64, 3) and picture.std() > 20 for picture in drawn)
    assert max(distances(drawn, python["exported"])) <= SAME
    assert max(distances(drawn, python["original"])) <= SAME
    assert differing(drawn, python["original"]) < FEW


def test_threads_where_the_host_allows_them(
    own_context: BrowserContext, isolated_url: str, python: dict[str, Any]
) -> None:
    page = own_context.new_page()
    problems = watch(page, isolated_url)
    page.goto(isolated_url)
    reach(page, "done")
    threads = min(4, page.evaluate("navigator.hardwareConcurrency"))
    assert page.evaluate("crossOriginIsolated") is True
    expect(page.locator("#about")).to_contain_text(f"{threads} thread")
    assert max(distances([draw(page, *PICTURES[0])], python["exported"][:1])) <= SAME
    assert problems == []


def test_noise_is_pythons_bit_for_bit(visit: Callable[..., Page]) -> None:
    seeds = [0, 1, 7, 2**32, 2**53 + 1, 2**63 - 1, *range(1000, 1100)]
    made = visit(wait=False).evaluate(
        """async seeds => {
            const { noise } = await import("./noise.js");
            return seeds.map(seed => [64, 5, 101].map(dim => [...noise(BigInt(seed), dim)]));
        }""",
        list(map(str, seeds)),
    )
    for row, seed in zip(made, seeds, strict=True):
        for numbers, dim in zip(row, (64, 5, 101), strict=True):
            assert np.array_equal(np.array(numbers, dtype=np.float32), noise([seed], dim)[0]), (seed, dim)


def test_captions_are_cleaned_and_cut_as_by_python(
    visit: Callable[..., Page], site: Path, python: dict[str, Any]
) -> None:
    made = visit(wait=False).evaluate(
        """async ([captions, limit]) => {
            const { CaptionCleaner, CaptionError } = await import("./captions.js");
            const { Tokenizer } = await import("./tokenizer.js");
            const json = async path => (await fetch(path)).json();
            const cleaner = new CaptionCleaner(await json("text-tables.json"));
            const tokenizer = new Tokenizer(await json("model/tokenizer.json"));
            return captions.map(caption => {
                try {
                    const { text, broken } = cleaner.clean(caption);
                    const ids = tokenizer.encode(text);
                    return { text, broken, ids: ids.length > limit ? [...ids.slice(0, limit - 1), ids.at(-1)] : ids };
                } catch (error) {
                    if (!(error instanceof CaptionError)) throw error;
                    return { refused: error.message, broken: error.broken };
                }
            });
        }""",
        [CAPTIONS, read_manifest(site / "model").max_tokens],
    )
    refused, compared, broken = 0, 0, []
    for caption, page, expected in zip(CAPTIONS, made, python["captions"], strict=True):
        if page.get("broken"):
            broken.append(caption)
            continue
        assert ("refused" in page) == ("refused" in expected), (caption, page, expected)
        if "refused" in page:
            refused += 1
            continue
        assert page["text"] == expected["text"], caption
        assert page["ids"] == expected["ids"], caption
        compared += 1
    assert set(BROKEN) <= set(broken)
    assert set(broken).isdisjoint(ORDINARY)
    assert compared > 400
    assert refused >= 5


# ---- the build


def test_the_folder_holds_all_and_names_no_host(site: Path) -> None:
    demo = json.loads((site / "demo.json").read_text(encoding="utf-8"))
    assert demo["model"]["precision"] == "fp16"
    assert sum(file["bytes"] for file in demo["files"].values()) < 45e6
    for name, facts in demo["files"].items():
        assert (site / name).stat().st_size == facts["bytes"]
    assert "MIT License" in (site / "ort" / "LICENSE.txt").read_text(encoding="utf-8")
    for path in site.glob("*.*"):
        if path.suffix in (".html", ".css", ".js"):
            assert re.search(r"\w+://|[\"'(]//", path.read_text(encoding="utf-8")) is None, path.name


def test_a_package_that_is_another_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = script("build")
    monkeypatch.setattr(build, "INTEGRITY", "sha512-another")
    name = f"{build.PACKAGE}-{build.VERSION}.tgz"
    fake = tmp_path / "npm"
    fake.write_text(f"#!{sys.executable}\nimport pathlib, sys\npathlib.Path(sys.argv[-1], {name!r}).touch()\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(build.GalipError, match="it is not the package onnxruntime-web"):
        build.fetch_runtime(tmp_path / "cache")


def test_why_npm_brought_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = script("build")
    monkeypatch.setenv("npm_config_offline", "true")
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "empty"))
    with pytest.raises(build.UnreachableError, match=r"npm cannot fetch onnxruntime-web .* check the connection"):
        build.fetch_runtime(tmp_path)
    monkeypatch.setenv("npm_config_offline", "false")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(build.GalipError, match="npm is missing"):
        build.fetch_runtime(tmp_path)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    build = script("build")
    (tmp_path / "diary.txt").write_text("dear diary")
    with pytest.raises(build.InputError, match="something else than an earlier page"):
        build.build("emoji-64", "fp16", tmp_path, tmp_path / "cache")
    assert [path.name for path in tmp_path.iterdir()] == ["diary.txt"]
