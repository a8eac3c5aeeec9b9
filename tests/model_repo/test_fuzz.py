"""Model folders changed at random: whatever stands in them, the answer is a model or one line of ours.

Each of a folder's JSON files gets values at random places, or is cut or garbled; `describe` may raise
`GalipError` alone. A card that cannot be read is passed over.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from galip.errors import GalipError
from galip.model_repo.card import licence_of, read_card, trained_on
from galip.model_repo.describe import describe

EXAMPLES, MANY_EXAMPLES = 60, 2000

ODD_NUMBERS = st.sampled_from([0, -1, -5, 1, 3, 2**31, 10**9, 10**30, 1e308, -1e308, float("inf"), float("nan"), 0.5])
LEAVES = st.none() | st.booleans() | ODD_NUMBERS | st.integers() | st.text(max_size=12) | st.just("../../etc/x\0")
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FILES = (
    "model_index.json",
    "generator/config.json",
    "vision_encoder/config.json",
    "text_encoder/config.json",
    "generator/x.safetensors.index.json",
    "training.json",
)


def places(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Ways to everything inside a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here, *(place for key, inner in inside for place in places(inner, (*here, key)))]


def changed(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    """A copy of a JSON value with something else at a place."""
    if not place:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[place[0]] = changed(value[place[0]], place[1:], new)
    return copy


@st.composite
def damaged(draw: st.DrawFn, text: str) -> bytes:
    """A JSON text with one to three values changed, added or left out; or cut, or with some bytes changed."""
    content = json.loads(text)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from(places(content)))
        content = changed(content, place, draw(VALUES))
        if isinstance(content, dict) and draw(st.booleans()):
            content[
                draw(st.sampled_from(["helper", "auto_map", "quantization_config", "text_scale", "weight_map"]))
            ] = draw(VALUES)
        if isinstance(content, dict) and content and draw(st.booleans()):
            content.pop(draw(st.sampled_from(sorted(content))))
    data = json.dumps(content).encode()
    kind = draw(st.sampled_from(["whole", "whole", "cut", "bytes", "deep"]))
    if kind == "cut":
        return data[: draw(st.integers(0, len(data)))]
    if kind == "bytes" and data:
        at = draw(st.integers(0, len(data) - 1))
        return data[:at] + draw(st.binary(max_size=4)) + data[at + 1 :]
    return b'{"a":' + b"[" * 50_000 if kind == "deep" else data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny.save(tmp_path_factory.mktemp("fuzz") / "model")
    (folder / "training.json").write_text(json.dumps({"images": 100, "config": {"data": {"source": "x"}}}))
    index = {"weight_map": {"a": "diffusion_pytorch_model.safetensors"}}
    (folder / "generator" / "x.safetensors.index.json").write_text(json.dumps(index))
    return folder


def only_our_errors(work: Callable[[], object], about: Path) -> None:
    try:
        work()
    except GalipError as error:
        message = str(error)
        assert str(about) in message
        assert "\n" not in message


def run(folder: Path, tmp_path: Path, examples: int) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(FILES))
        original = (folder / name).read_text()
        (copy / name).write_bytes(data.draw(damaged(original)))
        try:
            only_our_errors(lambda: describe(copy), copy)
        finally:
            (copy / name).write_text(original)

    check()


def run_card(tmp_path: Path, examples: int) -> None:
    usual = (
        "license: other\nlicense_name: &a research use\ndatasets:\n  - noto\n  - *a\ntags: {x: [1, 2.5, 2024-01-01]}\n"
    )
    pieces = st.sampled_from(
        [*usual, "&b ", "*b", "*a", "[", "]", "{", "}", "- ", ": ", "!!python/object:os.system ", "\n  "]
    )

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(st.lists(st.tuples(st.integers(0, len(usual)), pieces), max_size=8))
    def check(changes: list[tuple[int, str]]) -> None:
        text = usual
        for at, piece in changes:
            text = text[:at] + piece + text[at:]
        (tmp_path / "README.md").write_text(f"---\n{text}\n---\n")
        card = read_card(tmp_path / "README.md")
        licence_of(card)
        trained_on(card, {})

    check()


def test_a_changed_model_is_read_or_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path, EXAMPLES)


def test_a_changed_card_is_read_or_passed_over(tmp_path: Path) -> None:
    run_card(tmp_path, EXAMPLES)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["model", "card"])
def test_many_changes(what: str, folder: Path, tmp_path: Path) -> None:
    if what == "model":
        run(folder, tmp_path, MANY_EXAMPLES)
    else:
        run_card(tmp_path, MANY_EXAMPLES)
