"""One HTML file that shows results: numbers, plots, images, and where all of it comes from. It opens offline."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

import galip
from galip.errors import GalipError, InputError
from galip.evaluation.metrics.registry import Meaning
from galip.evaluation.report.comparison import Row, footnotes_of, labels_of, rows_of, shown, shown_with_interval
from galip.evaluation.report.plots import Bars, Curve, Strip, bars_of, curve_of, strip_of
from galip.evaluation.result import (
    NEAREST,
    SAMPLES,
    NearestRow,
    Result,
    Sample,
    files_of,
    read_result,
    read_rows,
)
from galip.utils.atomic import write_bytes
from galip.utils.extras import remedy
from galip.utils.terminal import printable

TEMPLATE = "report.html.j2"
SHOWN_RESULTS = 4
"""Images of so many results are shown, of the last ones; those of a whole run would make the file too large."""

_RANKS = {"best": "Highest scores", "middle": "In the middle", "worst": "Lowest scores"}
_SHOWN_SIDE = 160  # of an image in the report, at most, in CSS pixels
_SMALL = 128  # images up to this side are enlarged by whole factors, each pixel a square
_MIME = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}


@dataclass(frozen=True)
class Embedded:
    """An image inside the page.

    Attributes:
        uri: its bytes as a data URI.
        width, height: in CSS pixels.
        small: whether its pixels are shown as squares.
    """

    uri: str
    width: int
    height: int
    small: bool


@dataclass(frozen=True)
class ShownImages:
    """The images of one result, grouped as they are shown."""

    series: int
    label: str
    samples: list[tuple[str, list[tuple[Sample, Embedded, Embedded | None]]]]
    nearest: list[tuple[NearestRow, Embedded, list[tuple[float, str, Embedded]]]]


def write_report(paths: Sequence[Path], out: Path) -> None:
    """Write a report of one or more results of the same protocol.

    Numbers with intervals and real baselines; for results of one run at several points the curves over the images seen;
    categories; samples from the best to the worst score; generated images beside the nearest training images; hashes
    and versions. Equal results give equal bytes.

    Args:
        paths: results; their images lie in the folders beside them.
        out: the HTML file; it is replaced as a whole.

    Raises:
        InputError: no result is given, or they cannot be compared.
        GalipError: a result or an image of it is damaged, jinja2 is not installed, or `out` cannot be written.
    """
    if not paths:
        raise InputError("a report needs at least one result; name a file that galip evaluate wrote")
    results = [read_result(path) for path in paths]
    labels = labels_of(results)
    rows = rows_of(results, labels)
    page = _render(
        {
            "title": " and ".join(labels) if len(labels) < 3 else f"{len(labels)} results",
            "results": results,
            "labels": labels,
            "footnotes": footnotes_of(results),
            "metrics": _metrics(rows, labels),
            "curves": _curves(rows, results, labels),
            "categories": _categories(rows, labels),
            "shown_images": _pictured(paths, labels),
            "left_out": max(len(paths) - SHOWN_RESULTS, 0),
            "provenance": _provenance(paths, results),
            "settings": json.dumps(results[0].settings, indent=2, ensure_ascii=False),
            "version": galip.__version__,
        }
    )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(out, page.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise GalipError(f"{out}: cannot be written ({error.strerror}); name another file") from error


def _render(content: dict[str, Any]) -> str:
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise GalipError(f"a report needs jinja2; {remedy('eval')}") from error

    # Captions and names come from anywhere: everything that the page says is escaped.
    environment = Environment(
        loader=PackageLoader("galip.evaluation.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_shown_text,
    )
    environment.filters["shown"] = shown
    environment.filters["with_interval"] = shown_with_interval
    return environment.get_template(TEMPLATE).render(content)


def _shown_text(value: Any) -> Any:
    """What a result says, without characters that no page may hold; what the template itself has made stays."""
    from markupsafe import Markup

    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return printable(value, keep="\n")


def _metrics(rows: Sequence[Row], labels: Sequence[str]) -> list[tuple[Row, Strip]]:
    return [(row, strip_of(row, labels)) for row in rows if not row.group]


def _curves(rows: Sequence[Row], results: Sequence[Result], labels: Sequence[str]) -> list[tuple[Row, Curve]]:
    generated = [(row, curve_of(row, results, labels)) for row in rows if not row.group]
    return [(row, curve) for row, curve in generated if curve is not None]


def _categories(rows: Sequence[Row], labels: Sequence[str]) -> list[tuple[Meaning, Bars]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row.group:
            found.setdefault(row.name, []).append(row)
    return [(of_metric[0].meaning, bars_of(of_metric, labels)) for of_metric in found.values()]


def _pictured(paths: Sequence[Path], labels: Sequence[str]) -> list[ShownImages]:
    first = max(len(paths) - SHOWN_RESULTS, 0)
    return [
        ShownImages(series, label, _samples(files_of(path)), _nearest(files_of(path)))
        for series, (path, label) in enumerate(zip(paths, labels, strict=True))
        if series >= first
    ]


def _samples(folder: Path) -> list[tuple[str, list[tuple[Sample, Embedded, Embedded | None]]]]:
    samples = sorted(read_rows(folder / SAMPLES, Sample), key=lambda sample: -sample.score)
    shelves = []
    for rank, heading in _RANKS.items():
        shelf = [
            (sample, _embedded(folder, sample.image), None if sample.real is None else _embedded(folder, sample.real))
            for sample in samples
            if sample.rank == rank
        ]
        if shelf:
            shelves.append((heading, shelf))
    return shelves


def _nearest(folder: Path) -> list[tuple[NearestRow, Embedded, list[tuple[float, str, Embedded]]]]:
    rows = sorted(read_rows(folder / NEAREST, NearestRow), key=lambda row: row.distance)
    return [
        (
            row,
            _embedded(folder, row.image),
            [(near.distance, near.name, _embedded(folder, near.image)) for near in row.neighbours],
        )
        for row in rows
    ]


def _embedded(folder: Path, name: str) -> Embedded:
    path = folder / name
    if "\0" in name:
        raise GalipError(f"{folder}: {printable(name)!r} is no file's name; evaluate the model again")
    # A result may come from somebody else: it must not pull other files of this computer into the page.
    if not path.resolve().is_relative_to(folder.resolve()):
        raise GalipError(f"{folder}: the image {printable(name)!r} lies outside of it; evaluate the model again")
    try:
        content = path.read_bytes()
        with Image.open(path) as image:
            mime, (width, height) = _MIME[image.format or ""], image.size
    except FileNotFoundError as error:
        raise GalipError(f"{path}: the image is missing; copy the whole folder, or evaluate again") from error
    except (OSError, KeyError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise GalipError(f"{path}: no PNG, JPEG or WebP image; evaluate the model again") from error
    side = max(width, height)
    small = side <= _SMALL
    factor = _SHOWN_SIDE // side if small else _SHOWN_SIDE / side
    uri = f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"
    return Embedded(uri, round(width * factor), round(height * factor), small)


def _provenance(paths: Sequence[Path], results: Sequence[Result]) -> list[tuple[str, list[str]]]:
    """Rows of a table: what, and one text a result; what no result says is left out."""
    table = [
        ("file", [path.name for path in paths]),
        ("protocol", [f"{result.protocol} ({result.protocol_digest})" for result in results]),
        ("model", [f"{result.model} ({result.model_digest})" for result in results]),
        ("images seen in training", [_counted(result.images_seen) for result in results]),
        ("data", [f"{result.data} ({result.data_digest})" for result in results]),
        ("generated images", [_counted(result.n_generated) for result in results]),
        ("real images", [_counted(result.n_reference) for result in results]),
        ("seed", [str(result.seed) for result in results]),
        ("time", [_duration(result.seconds) for result in results]),
    ]
    for name in dict.fromkeys(name for result in results for name in result.extractors):
        used = [result.extractors.get(name) for result in results]
        table.append((f"weights of {name}", [f"{each.weights} ({each.digest})" if each else "" for each in used]))
    for field in ("machine", "versions"):
        facts: list[dict[str, Any]] = [getattr(result, field) for result in results]
        names = dict.fromkeys(name for each in facts for name in each)
        table += [(name.replace("_", " "), [str(each.get(name, "")) for each in facts]) for name in names]
    return [(name, texts) for name, texts in table if any(texts)]


def _counted(count: int | None) -> str:
    return "" if count is None else f"{count:,}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
