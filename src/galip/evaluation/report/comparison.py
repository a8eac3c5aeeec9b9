"""Results side by side: only where the numbers mean the same, and with what is known of their errors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from galip.errors import InputError
from galip.evaluation.metrics.registry import Meaning, meaning_of
from galip.evaluation.protocols.schema import FREE_SETTINGS, by_field_name
from galip.evaluation.result import Flag, Number, Result
from galip.utils.terminal import printable

_STYLES = {"invalid": "bold red", "warning": "yellow", "note": "cyan"}
_LEVELS = ("invalid", "warning", "note")


@dataclass(frozen=True)
class Row:
    """One metric of all results.

    Attributes:
        name: of the metric.
        group: category of the captions that it is over; empty: all.
        meaning: how the metric is shown.
        numbers: one a result, None where it was not measured.
        baseline: real images against real ones.
        best: which results may be the best one: several where intervals overlap or are not known, none where neither
            way is better or fewer than two were measured.
        verdict: the same in words; empty for fewer than two.
        valid: for each result, that no flag calls the number invalid; those that are not valid take no part in the
            verdict.
    """

    name: str
    group: str
    meaning: Meaning
    numbers: tuple[Number | None, ...]
    baseline: Number | None
    best: tuple[int, ...]
    verdict: str
    valid: tuple[bool, ...]


@dataclass(frozen=True)
class Footnote:
    """A flag of one or more results.

    Attributes:
        number: 1, 2, ...
        flag: what it says.
        results: places of the results that have it.
    """

    number: int
    flag: Flag
    results: tuple[int, ...]


def compare(results: Sequence[Result], names: Sequence[str] | None = None) -> Table:
    """A table of one or more results: metrics, intervals, real_baseline, flags, and where a difference may be chance.

    Args:
        results: of one protocol on the same data.
        names: what the columns are called; by default the models.

    Raises:
        InputError: there are none, or their numbers cannot be compared; the message names the first difference.
    """
    rows = rows_of(results, names)
    footnotes = footnotes_of(results)
    labels = labels_of(results, names)
    several = len(results) > 1

    # Results come from anywhere: what they say is text, without markup and without a terminal's control characters.
    first = results[0]
    reference = "" if first.n_reference is None else f" against {first.n_reference:,} real ones"
    table = Table(
        title=_text(f"{first.protocol}: {first.n_generated:,} generated images{reference}, {first.data}", style="bold"),
        caption=_notes(footnotes, labels, several),
        title_justify="left",
        caption_justify="left",
        caption_style="",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("metric", no_wrap=True)
    for place, label in enumerate(labels):
        table.add_column(_marked(_text(label), footnotes, "", place), justify="right")
    has_baseline = any(row.baseline for row in rows)
    if has_baseline:
        table.add_column("real against real", justify="right")
    if several:
        table.add_column("difference")
    for at, row in enumerate(rows):
        cells = [_text(f"  {row.group}" if row.group else row.meaning.headed)]
        for place, number in enumerate(row.numbers):
            cell = _cell(number, "bold" if several and place in row.best else "" if row.valid[place] else "red strike")
            cells.append(cell if row.group or number is None else _marked(cell, footnotes, row.name, place))
        if has_baseline:
            cells.append(_cell(row.baseline))
        if several:
            cells.append(_text(row.verdict))
        table.add_row(*cells, end_section=at + 1 < len(rows) and bool(row.group) and not rows[at + 1].group)
    return table


def check_comparable(results: Sequence[Result], names: Sequence[str] | None = None) -> None:
    """Make sure that the numbers of all results mean the same.

    Raises:
        InputError: there are none, or they do not; the message names the first difference.
    """
    if not results:
        raise InputError("there are no results to compare; name at least one")
    labels = labels_of(results, names)
    for label, other in zip(labels[1:], results[1:], strict=True):
        if difference := _first_difference(results[0], other):
            what, one, two = map(printable, difference)
            raise InputError(
                f"these results cannot be compared: {what} is {one} in {labels[0]} but {two} in {label}; "
                "evaluate both by the same protocol on the same data"
            )


def rows_of(results: Sequence[Result], names: Sequence[str] | None = None) -> list[Row]:
    """All metrics of all results, in the order of the results, each followed by its categories.

    Raises:
        InputError: as `check_comparable`.
    """
    check_comparable(results, names)
    labels = labels_of(results, names)
    groups = _in_order(result.groups for result in results)
    over_groups = _in_order(metrics for result in results for metrics in result.groups.values())
    rows = []
    for name in dict.fromkeys([*_in_order(result.metrics for result in results), *over_groups]):
        whole = [result.metrics.get(name) for result in results]
        baseline = next((result.real_baseline[name] for result in results if name in result.real_baseline), None)
        valid = tuple(not _is_invalid(result, name) for result in results)
        if any(whole):
            rows.append(_row(name, "", whole, baseline, labels, valid))
        for group in groups:
            numbers = [result.groups.get(group, {}).get(name) for result in results]
            if any(numbers):
                real = next(
                    (
                        r.group_real_baseline[group][name]
                        for r in results
                        if name in r.group_real_baseline.get(group, {})
                    ),
                    None,
                )
                rows.append(_row(name, group, numbers, real, labels, valid))
    return rows


def footnotes_of(results: Sequence[Result]) -> list[Footnote]:
    """All flags, the gravest first, a flag that several results have only once."""
    found: dict[tuple[str, str, str], list[int]] = {}
    flags: dict[tuple[str, str, str], Flag] = {}
    for place, result in enumerate(results):
        for flag in result.flags:
            key = (flag.level, flag.about, flag.text)
            flags[key] = flag
            places = found.setdefault(key, [])
            if place not in places:
                places.append(place)
    ordered = sorted(found, key=lambda key: _LEVELS.index(key[0]))
    return [Footnote(number, flags[key], tuple(found[key])) for number, key in enumerate(ordered, 1)]


def labels_of(results: Sequence[Result], names: Sequence[str] | None = None) -> list[str]:
    """A short name for each result, no two alike: the model's, with the images it has seen if that is needed."""
    labels = list(names) if names is not None else [result.model.rstrip("/\\") or "model" for result in results]
    if len(labels) != len(results):
        raise InputError(f"{len(labels)} names for {len(results)} results; give one for each")
    labels = [printable(label) for label in labels]
    if names is None:
        # Both separators, since a result may have been written on another system than it is read on.
        short = [label.replace("\\", "/").rsplit("/", 1)[-1] for label in labels]
        labels = short if len(set(short)) == len(set(labels)) else labels
    for further in (_seen, _digest):
        if len(set(labels)) < len(labels):
            labels = [label + further(result) for label, result in zip(labels, results, strict=True)]
    if len(set(labels)) < len(labels):
        labels = [f"{label} ({number})" for number, label in enumerate(labels, 1)]
    return labels


def short_count(count: int) -> str:
    """So many in few characters: 950, 12k, 150.5k, 1.2M."""
    for unit, name in ((1_000_000, "M"), (1_000, "k")):
        if count >= unit:
            return f"{count / unit:.1f}".removesuffix(".0") + name
    return str(count)


def shown(value: float, decimals: int | None = None) -> str:
    """A number for people: four digits that count, unless the decimals are given."""
    if value and abs(value) < 1e-4 and (decimals is None or decimals > 5):
        return f"{value:.2e}"
    if abs(value) >= 1e9:
        return f"{value:.3e}"
    if decimals is None:
        decimals = min(max(3 - (math.floor(math.log10(abs(value))) if value else 0), 0), 6)
    text = f"{value:,.{decimals}f}"
    return text if text.strip("-0.,") else text.lstrip("-")  # no minus zero


def shown_with_interval(number: Number) -> tuple[str, str]:
    """The value, and "low to high" with no more digits than the interval makes sense of; "" where there is none."""
    if number.low is None or number.high is None:
        return shown(number.value), ""
    width = (number.high - number.low) / 2
    decimals = min(max(1 - math.floor(math.log10(width)), 0), 6) if width > 0 else None
    return shown(number.value, decimals), f"{shown(number.low, decimals)} to {shown(number.high, decimals)}"


def _first_difference(one: Result, two: Result) -> tuple[str, str, str] | None:
    """(what, in one, in two) of the first thing that makes their numbers mean something else."""
    if one.protocol != two.protocol:
        return "the protocol", one.protocol, two.protocol
    if one.protocol_digest != two.protocol_digest:
        for what, mine, others in _settings(_fixed(one), _fixed(two)):
            return f"the setting {what}", mine, others
    if one.data_digest != two.data_digest:  # data that has only moved has the same digest
        return "the data", f"{one.data} ({one.data_digest})", f"{two.data} ({two.data_digest})"
    for what, mine, others in (
        *_extractors(one, two),
        ("the number of generated images", f"{one.n_generated:,}", f"{two.n_generated:,}"),
        ("the number of real images", str(one.n_reference), str(two.n_reference)),
        ("the seed", str(one.seed), str(two.seed)),
        ("the digest of the protocol", one.protocol_digest, two.protocol_digest),
    ):
        if mine != others:
            return what, mine, others
    return None


def _fixed(result: Result) -> dict[str, Any]:
    return by_field_name({key: value for key, value in result.settings.items() if key not in FREE_SETTINGS})


def _settings(one: Any, two: Any, where: str = "") -> Iterator[tuple[str, str, str]]:
    """All settings that differ, by their dotted names."""
    if isinstance(one, dict) and isinstance(two, dict):
        for key in dict.fromkeys([*one, *two]):
            name = f"{where}.{key}".lstrip(".")
            if key in one and key in two:
                yield from _settings(one[key], two[key], name)
            else:
                yield (
                    name,
                    _value(one[key]) if key in one else "not there",
                    _value(two[key]) if key in two else "not there",
                )
    elif one != two:
        yield where, _value(one), _value(two)


def _value(value: Any) -> str:
    text = printable(str(value))
    return text if len(text) <= 60 else text[:57] + "..."


def _extractors(one: Result, two: Result) -> Iterator[tuple[str, str, str]]:
    for name, mine in one.extractors.items():
        # Each model is scored by its own CLIP where a metric says so.
        if name in two.extractors and name not in ("own", "released"):
            yield f"the digest of {name}'s weights", mine.digest, two.extractors[name].digest


def _in_order(names: Iterable[Iterable[str]]) -> list[str]:
    """Each name once, in the order of first appearance."""
    return list(dict.fromkeys(name for some in names for name in some))


def _row(
    name: str,
    group: str,
    numbers: Sequence[Number | None],
    baseline: Number | None,
    labels: Sequence[str],
    valid: tuple[bool, ...],
) -> Row:
    meaning = meaning_of(name)
    judged = [number if sound else None for number, sound in zip(numbers, valid, strict=True)]
    best, verdict = _judged(judged, meaning, labels)
    return Row(name, group, meaning, tuple(numbers), baseline, best, verdict, valid)


def _is_invalid(result: Result, name: str) -> bool:
    return any(flag.level == "invalid" and flag.about in ("", name) for flag in result.flags)


def _judged(numbers: Sequence[Number | None], meaning: Meaning, labels: Sequence[str]) -> tuple[tuple[int, ...], str]:
    """Which may be the best, and how that is said."""
    measured = {place: number for place, number in enumerate(numbers) if number is not None}
    if len(measured) < 2:
        return (), ""
    if not meaning.better:
        pairs = [(one, two) for one in measured.values() for two in measured.values() if one is not two]
        overlaps = {_overlap(one, two) for one, two in pairs}
        return (), "no intervals" if None in overlaps else "intervals overlap" if True in overlaps else "apart"
    sign = 1 if meaning.better == "higher" else -1
    leader = max(measured, key=lambda place: sign * measured[place].value)
    rivals = {place: _overlap(measured[leader], number) for place, number in measured.items() if place != leader}
    best = tuple(sorted([leader, *(place for place, overlap in rivals.items() if overlap is not False)]))
    if None in rivals.values():
        return best, f"{labels[leader]} is {meaning.better}; no intervals"
    if True not in rivals.values():
        return best, f"{labels[leader]} is better"
    if len(rivals) == 1:
        return best, "intervals overlap"
    close = ", ".join(labels[place] for place, overlap in rivals.items() if overlap)
    return best, f"{labels[leader]} leads; intervals overlap with {close}"


def _overlap(one: Number, two: Number) -> bool | None:
    """None where an interval is missing."""
    if one.low is None or one.high is None or two.low is None or two.high is None:
        return None
    return one.low <= two.high and two.low <= one.high


def _seen(result: Result) -> str:
    return "" if result.images_seen is None else f" at {short_count(result.images_seen)} images"


def _digest(result: Result) -> str:
    return f", {result.model_digest[:8]}"


def _cell(number: Number | None, style: str = "") -> Text:
    if number is None:
        return Text("-", style="dim")
    value, interval = shown_with_interval(number)
    cell = Text()
    cell.append(value, style=style)
    return cell.append(f"  {interval}", style="dim") if interval else cell


def _text(text: str, style: str = "") -> Text:
    return Text(printable(text), style=style)


def _marked(text: Text, footnotes: Sequence[Footnote], about: str, place: int) -> Text:
    for footnote in footnotes:
        if footnote.flag.about == about and place in footnote.results:
            text.append(f" [{footnote.number}]", style=_STYLES[footnote.flag.level])
    return text


def _notes(footnotes: Sequence[Footnote], labels: Sequence[str], several: bool) -> Text | None:
    lines: list[Text] = []
    for footnote in footnotes:
        flag = footnote.flag
        everyone = len(footnote.results) == len(labels)
        whose = "" if everyone else ", ".join(labels[place] for place in footnote.results)
        about = ": ".join(part for part in (whose, flag.about) if part)
        lines.append(
            Text(f"[{footnote.number}] {flag.level.upper()} ", style=_STYLES[flag.level]).append_text(
                _text(f"{about}: {flag.text}" if about else flag.text, style="default not bold")
            )
        )
    if several:
        lines.append(Text("Where intervals overlap, the difference may be chance.", style="dim"))
    return Text("\n").join(lines) if lines else None
