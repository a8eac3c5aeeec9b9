from __future__ import annotations

import io
from typing import Any

import pytest
from evaluation.results import a_result, fid, flag
from rich.console import Console

from galip.errors import InputError
from galip.evaluation.metrics.registry import meaning_of
from galip.evaluation.report.comparison import (
    compare,
    footnotes_of,
    labels_of,
    rows_of,
    short_count,
    shown,
    shown_with_interval,
)
from galip.evaluation.result import Number, Result
from galip.utils.terminal import printable


def printed(results: list[Result], **options: Any) -> str:
    console = Console(width=200, color_system=None)
    with console.capture() as capture:
        console.print(compare(results, **options))
    return capture.get()


def test_the_table_has_values_intervals_floors_and_categories() -> None:
    text = printed([a_result(), a_result(model="runs/better", metrics=fid(9.0, 8.0, 10.0), groups={})])
    lines = {line.split("  ")[1].strip(): line for line in text.splitlines() if line.startswith("  ")}
    assert "tiny: 100 generated images against 100 real ones, birds" in text
    assert "20.0  18.0 to 22.0" in lines["FID ↓"]
    assert "9.0  8.0 to 10.0" in lines["FID ↓"]
    assert "5.00  4.50 to 5.50" in lines["FID ↓"]
    assert "better is better" in lines["FID ↓"]  # the second model is called "better"
    assert "0.300  0.290 to 0.310" in lines["CLIP score ↑"]
    assert "-" in lines["CLIP score ↑"]
    assert text.index("CLIP score") < text.index("colours") < text.index("counts")


def test_one_result_is_a_table_too() -> None:
    text = printed([a_result()])
    assert "20.0  18.0 to 22.0" in text
    assert "difference" not in text


def test_names_may_hold_what_rich_would_take_for_markup() -> None:
    flags = [flag("note", "see [bold]that[/nothing]")]
    text = printed([a_result(model="models/[red]v2[/]", flags=flags)], names=["[red]v2[/]"])
    assert "[red]v2[/]" in text
    assert "see [bold]that[/nothing]" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"protocol": "other"}, "the protocol is tiny in model.* but other in"),
        (
            {"protocol_digest": "1", "settings": {"name": "x", "metrics": [], "resolution": 64, "seeds": {"first": 3}}},
            "the setting seeds.first is 0 in .* but 3 in",
        ),
        ({"protocol_digest": "1", "settings": {"resolution": 64}}, "the setting seeds is .* but not there in"),
        ({"protocol_digest": "1"}, "the digest of the protocol is 5d41402abc4b2a76 in .* but 1 in"),
        ({"data_digest": "1"}, r"the data is birds \(7d793037a0760186\) in .* but birds \(1\) in"),
        (
            {"extractors": {"inception": {"weights": "inception.pth", "digest": "1"}}},
            "the digest of inception's weights",
        ),
        ({"n_generated": 99}, "the number of generated images is 100 in .* but 99 in"),
        ({"n_reference": None}, "the number of real images is 100 in .* but None in"),
        ({"seed": 1}, "the seed is 0 in .* but 1 in"),
    ],
)
def test_numbers_that_mean_something_else_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        compare([a_result(), a_result(**change)])


def test_what_changes_no_number_is_no_difference() -> None:
    other = a_result(
        settings={"name": "tiny", "metrics": ["kid"]},
        data="elsewhere/birds",
        machine={"device": "cuda"},
        extractors={"clip": {"weights": "clip", "digest": "1"}},
        versions={"galip": "0.2.0"},
    )
    assert compare([a_result(), other]).row_count == 4


def test_nothing_to_compare_is_an_error() -> None:
    with pytest.raises(InputError, match="no results"):
        compare([])
    with pytest.raises(InputError, match="1 names for 2 results"):
        compare([a_result(), a_result()], ["one"])


@pytest.mark.parametrize(
    ("one", "two", "best", "verdict"),
    [
        (fid(20, 18, 22), fid(30, 28, 32), (0,), "a is better"),
        (fid(30, 28, 32), fid(20, 18, 22), (1,), "b is better"),
        (fid(20, 18, 22), fid(23, 22, 25), (0, 1), "intervals overlap"),
        (fid(20), fid(30, 28, 32), (0, 1), "a is lower; no intervals"),
        ({}, fid(30, 28, 32), (), ""),
    ],
)
def test_overlapping_intervals_are_told(
    one: dict[str, Number], two: dict[str, Number], best: tuple[int, ...], verdict: str
) -> None:
    row = rows_of([a_result(metrics=one, groups={}), a_result(metrics=two, groups={})], ["a", "b"])[0]
    assert (row.best, row.verdict) == (best, verdict)


def test_of_three_those_near_the_leader_are_named() -> None:
    results = [a_result(metrics=fid(*ends), groups={}) for ends in ((20, 18, 22), (21, 19, 23), (30, 28, 32))]
    row = rows_of(results, ["a", "b", "c"])[0]
    assert (row.best, row.verdict) == ((0, 1), "a leads; intervals overlap with b")


def test_where_neither_way_is_better_nobody_is_best() -> None:
    diversity = [{"diversity": Number(value=value, low=value - 0.01, high=value + 0.01)} for value in (0.5, 0.9)]
    row = rows_of([a_result(metrics=each, groups={}) for each in diversity])[0]
    assert (row.best, row.verdict) == ((), "apart")


def test_an_invalid_number_cannot_win() -> None:
    dead = a_result(metrics=fid(1, 0.9, 1.1), groups={}, flags=[flag("invalid", "copies of the reference", "fid")])
    row = rows_of([dead, a_result(groups={})], ["dead", "other"])[0]
    assert row.valid == (False, True)
    assert (row.best, row.verdict) == ((), "")


def test_flags_are_numbered_the_gravest_first_and_each_once() -> None:
    few, dead = flag("warning", "few images", "fid"), flag("invalid", "the generator is dead")
    results = [a_result(flags=[few]), a_result(flags=[few, dead])]
    found = footnotes_of(results)
    assert [(note.number, note.flag, note.results) for note in found] == [(1, dead, (1,)), (2, few, (0, 1))]
    text = printed(results, names=["a", "b"])
    assert "b [1]" in text
    assert "a [1]" not in text
    assert text.count("22.0 [2]") == 2
    assert "[1] INVALID b: the generator is dead" in text
    assert "[2] WARNING fid: few images" in text


@pytest.mark.parametrize(
    ("changes", "labels"),
    [
        ([{"model": "runs/a/"}, {"model": "runs\\b"}], ["a", "b"]),
        ([{"model": "a/model"}, {"model": "b/model"}], ["a/model", "b/model"]),
        ([{"images_seen": 1_000}, {"images_seen": 2_500}], ["model at 1k images", "model at 2.5k images"]),
        (
            [{"images_seen": None}, {"images_seen": None, "model_digest": "abcdefgh0"}],
            ["model, 9719911c", "model, abcdefgh"],
        ),
        ([{"images_seen": None}] * 2, ["model, 9719911c (1)", "model, 9719911c (2)"]),
    ],
)
def test_labels_differ(changes: list[dict[str, Any]], labels: list[str]) -> None:
    assert labels_of([a_result(**change) for change in changes]) == labels


def test_numbers_have_the_digits_that_count() -> None:
    assert [shown(value) for value in (0, 12.34567, 0.123456, 123456.7, -0.00001, 1.0)] == [
        "0.000",
        "12.35",
        "0.1235",
        "123,457",
        "-1.00e-05",
        "1.000",
    ]
    assert shown(-0.001, 1) == "0.0"
    assert shown_with_interval(Number(value=12.3456, low=11.5, high=13.1)) == ("12.35", "11.50 to 13.10")
    assert shown_with_interval(Number(value=12.3456)) == ("12.35", "")
    assert shown_with_interval(Number(value=1, low=1, high=1)) == ("1.000", "1.000 to 1.000")
    assert [short_count(count) for count in (950, 12_000, 150_500, 1_200_000)] == ["950", "12k", "150.5k", "1.2M"]


def test_metrics_have_titles_and_directions() -> None:
    assert meaning_of("fid").headed == "FID ↓"
    assert meaning_of("r_precision_judge").headed == "R-precision (judge) ↑"
    assert meaning_of("precision_dinov2").headed == "Precision (DINOv2) ↑"
    assert meaning_of("share_of_copies").headed == "Share of copies"


def test_what_results_say_is_text_without_markup_and_control_characters() -> None:
    wild = "runs/[/red]x\x1b[2J\x07\udc80\u202e"
    results = [
        a_result(
            model=wild, data=wild, groups={wild: {"clip_score": Number(value=0.5)}}, flags=[flag("note", wild, wild)]
        ),
        a_result(model="other", flags=[flag("warning", wild)], data=wild),
    ]
    for shown_results in (results[:1], results):
        written = io.StringIO()
        Console(file=written, width=200).print(compare(shown_results))
        text = written.getvalue()
        assert printable(text, keep="\n") == text
        assert "[/red]" in text and "\\x1b[2J\\x07" in text
    with pytest.raises(InputError) as caught:
        compare([results[0], a_result(data_digest="other", data=wild, groups={}, model="m\x1b")])
    assert printable(caught.value) == str(caught.value)


@pytest.mark.parametrize(("value", "said"), [(1e30, "1.000e+30"), (-2.5e12, "-2.500e+12"), (999_999.0, "999,999")])
def test_large_numbers_are_short(value: float, said: str) -> None:
    assert shown(value) == said
