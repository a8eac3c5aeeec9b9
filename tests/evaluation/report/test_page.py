from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from evaluation.results import a_result, fid, flag, write_with_images

from galip.errors import GalipError, InputError
from galip.evaluation.report.comparison import rows_of
from galip.evaluation.report.page import write_report
from galip.evaluation.report.plots import HEIGHT, axis_over, bars_of, curve_of, strip_of
from galip.evaluation.result import Number, Result, files_of, write_result

VOID = {"meta", "link", "img"}


class Page(HTMLParser):
    """A page taken apart: every element closed in order, all attributes, all text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def all(self, tag: str, name: str) -> list[str]:
        return [value for one, other, value in self.attributes if (one, other) == (tag, name)]


def report_of(folder: Path, *results: Result) -> Page:
    paths = [folder / f"{number}.json" for number in range(len(results))]
    for path, result in zip(paths, results, strict=True):
        write_with_images(path, result)
    write_report(paths, folder / "report.html")
    return Page(folder / "report.html")


def test_one_result(tmp_path: Path) -> None:
    page = report_of(tmp_path, a_result(flags=[flag("warning", "Few images.", "fid")]))
    assert "20.0" in page.text
    assert "18.0 to 22.0" in page.text
    assert "Real against real: 5.00 (4.50 to 5.50)" in page.text
    assert page.text.index("Few images.") < page.text.index("Numbers")  # before the number that it is about
    for fact in ("5d41402abc4b2a76", "9719911c00000000", "7d793037a0760186", "0123456789abcdef", "0.1.0", "12.5 s"):
        assert fact in page.text
    assert "As training went on" not in page.text
    assert page.text.index("a red bird 1") < page.text.index("a red bird 2") < page.text.index("a red bird 0")
    assert "bird_7" in page.text


def test_it_opens_offline(tmp_path: Path) -> None:
    page = report_of(tmp_path, a_result(data="https://example.org/birds"), a_result(model="other"))
    content = (tmp_path / "report.html").read_text(encoding="utf-8")
    sources = [value for _, name, value in page.attributes if name in ("src", "href", "srcset", "data", "action")]
    assert len(sources) == 1 + 2 * 6  # the icon; three samples, a real one, a generated one and its neighbour
    assert all(source.startswith("data:") for source in sources)
    assert not re.search(r"url\(|@import|<script|<iframe|<object", content)
    assert "default-src 'none'" in content
    assert content.replace("https://example.org/birds", "").count("://") == 0


def test_every_image_has_a_text_and_small_ones_keep_their_pixels(tmp_path: Path) -> None:
    page = report_of(tmp_path, a_result())
    assert sorted(set(page.all("img", "alt"))) == [
        "Evaluated for: a red bird 0",
        "Evaluated for: a red bird 1",
        "Evaluated for: a red bird 2",
        "Real image of: a red bird 0",
        "Training image bird_7",
    ]
    assert set(page.all("img", "class")) == {"small"}
    assert set(page.all("img", "width")) == {"160"}  # 8 pixels, each a square of 20
    assert all(page.all("svg", "aria-label"))

    write_with_images(tmp_path / "large.json", a_result(), side=256)
    write_report([tmp_path / "large.json"], tmp_path / "large.html")
    assert Page(tmp_path / "large.html").all("img", "class") == []


def test_several_results(tmp_path: Path) -> None:
    results = [a_result(images_seen=1000 * (number + 1), metrics=fid(30 - number, 20, 40)) for number in range(6)]
    page = report_of(tmp_path, *results)
    assert "As training went on" in page.text
    assert "6,000 images: 25" in " ".join(page.words)
    assert "model at 6k images" in page.text
    assert "Images are those of the last 4 of 6 results" in page.text
    assert len(page.all("img", "src")) == 4 * 6
    assert page.text.count("a red bird 0") == 4


def test_what_the_page_says_is_escaped(tmp_path: Path) -> None:
    nasty = '<script>alert("x")</script>'
    number = Number(value=0.5)
    result = a_result(model=nasty, data=nasty, flags=[flag("note", nasty)], groups={nasty: {"clip_score": number}})
    write_with_images(tmp_path / "0.json", result, caption=nasty)
    write_report([tmp_path / "0.json"], tmp_path / "report.html")
    assert "<script" not in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert nasty in Page(tmp_path / "report.html").text


def test_equal_results_give_equal_pages(tmp_path: Path) -> None:
    report_of(tmp_path, a_result())
    before = (tmp_path / "report.html").read_bytes()
    write_report([tmp_path / "0.json"], tmp_path / "report.html")
    assert (tmp_path / "report.html").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.files", "0.json", "report.html"]


def test_a_result_without_its_folder_has_no_images(tmp_path: Path) -> None:
    write_result(tmp_path / "a.json", a_result(n_reference=None, real_baseline={}, groups={}))
    write_report([tmp_path / "a.json"], tmp_path / "new" / "a.html")
    page = Page(tmp_path / "new" / "a.html")
    assert page.all("img", "src") == []
    assert "Samples" not in page.text
    assert "Nearest" not in page.text


def test_images_that_cannot_be_shown_are_named(tmp_path: Path) -> None:
    path, out = tmp_path / "a.json", tmp_path / "a.html"
    write_with_images(path, a_result())
    image = files_of(path) / "samples" / "00002.png"
    image.write_text("no image")
    with pytest.raises(GalipError, match="00002.png: no PNG, JPEG or WebP image"):
        write_report([path], out)
    image.unlink()
    with pytest.raises(GalipError, match="00002.png: the image is missing"):
        write_report([path], out)
    assert not out.exists()


def test_a_result_cannot_pull_in_other_files(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_with_images(path, a_result())
    (files_of(path) / "samples" / "00001.png").rename(tmp_path / "secret.png")
    rows = files_of(path) / "samples.jsonl"
    rows.write_text(rows.read_text().replace("samples/00001.png", "../secret.png"))
    with pytest.raises(GalipError, match="lies outside"):
        write_report([path], tmp_path / "a.html")


def test_other_protocols_and_no_results_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one result"):
        write_report([], tmp_path / "a.html")
    for name in ("tiny", "other"):
        write_result(tmp_path / f"{name}.json", a_result(protocol=name))
    with pytest.raises(InputError, match="the protocol is tiny in .* but other in"):
        write_report([tmp_path / "tiny.json", tmp_path / "other.json"], tmp_path / "a.html")


def test_without_jinja2_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_result(tmp_path / "a.json", a_result())
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(GalipError, match=re.escape("pip install '.[eval]'")):
        write_report([tmp_path / "a.json"], tmp_path / "a.html")


def test_axes_hold_their_values_and_have_round_numbers() -> None:
    axis = axis_over([0.37, 9.6])
    assert (axis.low, axis.high) == (0, 10)
    assert axis.texts() == ["0.0", "2.5", "5.0", "7.5", "10.0"]
    assert [axis.across(value) for value in (0, 5, 10)] == [0, 50, 100]
    assert [axis.down(value) for value in (0, 10)] == [HEIGHT, 0]
    alone = axis_over([0.3])
    assert alone.low < 0.3 < alone.high
    assert axis_over([3.0, 4.0], zero=True).low == 0
    nothing = axis_over([0.0])
    assert nothing.low < 0 < nothing.high


def test_strips_bars_and_curves_lie_where_the_numbers_are() -> None:
    results = [a_result(images_seen=seen, metrics=fid(*ends)) for seen, ends in ((4_000, (10, 5, 15)), (1_000, (20,)))]
    rows = rows_of(results, ["a", "b"])
    strip = strip_of(rows[0], ["a", "b"])
    assert [(mark.label, mark.at, mark.low) for mark in strip.marks] == [("a", 50, 25), ("b", 100, None)]
    assert strip.baseline == 25
    curve = curve_of(rows[0], results, ["a", "b"])
    assert curve is not None
    assert [point.label for point in curve.points] == ["b", "a"]  # by images seen
    assert curve.points[0].y < curve.points[1].y  # a smaller FID lies lower
    assert curve.joined
    bars = bars_of([row for row in rows if row.group], ["a", "b"])
    assert bars.zero == 0
    (colours, (colour, _)), (counts, (count, _)) = bars.rows
    assert (colours, counts) == ("colours", "counts")
    assert colour.at == pytest.approx(2 * count.at, abs=0.01)


def test_a_curve_needs_two_lengths_of_training() -> None:
    results = [a_result(images_seen=seen, groups={}) for seen in (None, 1_000, 1_000)]
    row = rows_of(results)[0]
    assert curve_of(row, results, ["a", "b", "c"]) is None
    results = [a_result(images_seen=seen, groups={}) for seen in (2_000, 1_000, 1_000)]
    curve = curve_of(rows_of(results)[0], results, ["a", "b", "c"])
    assert curve is not None
    assert not curve.joined  # two runs: no line through both
