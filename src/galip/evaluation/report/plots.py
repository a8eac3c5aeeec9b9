"""Where the marks of a plot lie, for the SVG of the report.

Positions across are percentages of the width, so that a plot fits any screen while its text and its dots keep their
size; positions up and down are pixels. The template generates them with the colours of the page, light or dark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from galip.evaluation.report.comparison import Row, short_count, shown, shown_with_interval
from galip.evaluation.result import Number, Result

HEIGHT = 220
"""Of a curve's field, in pixels."""


@dataclass(frozen=True)
class Tick:
    """A round value on an axis: per cent across, or pixels down, and its text."""

    at: float
    text: str


@dataclass(frozen=True)
class Axis:
    """A range of values with round numbers in it."""

    low: float
    high: float
    values: tuple[float, ...]
    step: float

    def across(self, value: float) -> float:
        """Per cent from the left."""
        return round(100 * (value - self.low) / (self.high - self.low), 3)

    def down(self, value: float) -> float:
        """Pixels from the top of a curve's field."""
        return round(HEIGHT * (self.high - value) / (self.high - self.low), 2)

    def texts(self) -> list[str]:
        """Of the round numbers."""
        exact = (count for count in range(16) if abs(round(self.step, count) - self.step) <= 1e-9 * self.step)
        decimals = next(exact, 16)
        return [shown(value, decimals) for value in self.values]


def axis_over(values: Sequence[float], wanted: int = 4, zero: bool = False) -> Axis:
    """An axis that holds all values, begins and ends with a round number or little beyond the values.

    Args:
        values: what must lie on it; at least one.
        wanted: about so many round numbers.
        zero: it must hold zero as well.
    """
    low, high = min(values), max(values)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-6):  # one value alone: some room around it
        room = abs(high) / 10 or 1.0
        low, high = low - room, high + room
    step = _round_step((high - low) / wanted)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return Axis(first * step, last * step, tuple(number * step for number in range(first, last + 1)), step)


def _round_step(least: float) -> float:
    """The smallest of 1, 2, 2.5, 5 times a power of ten that is not below."""
    unit: float = 10.0 ** math.floor(math.log10(least))
    return next(factor * unit for factor in (1, 2, 2.5, 5, 10) if factor * unit >= least * (1 - 1e-9))


@dataclass(frozen=True)
class Mark:
    """A value with its interval on a strip or a bar. Positions are per cent across.

    Attributes:
        series: place of the result, for its colour.
        label: whose value it is.
        at, low, high: positions; low and high are None where there is no interval.
        value, interval: as text.
        best: whether it may be the best of its row.
    """

    series: int
    label: str
    at: float
    low: float | None
    high: float | None
    value: str
    interval: str
    best: bool


@dataclass(frozen=True)
class Strip:
    """One metric of all results on a scale of its own, with the baseline.

    Attributes:
        marks: one for each result that has the metric.
        ticks: round values across.
        baseline: where real images against real ones are; None where that is not known.
        baseline_interval: the ends of its interval.
    """

    marks: tuple[Mark, ...]
    ticks: tuple[Tick, ...]
    baseline: float | None
    baseline_interval: tuple[float, float] | None


def strip_of(row: Row, labels: Sequence[str]) -> Strip:
    """The strip of a row that has at least one number."""
    known = [number for number in (*row.numbers, row.baseline) if number is not None]
    axis = axis_over([end for number in known for end in _ends(number)])
    baseline = row.baseline
    around = None
    if baseline is not None and baseline.low is not None and baseline.high is not None:
        around = (axis.across(baseline.low), axis.across(baseline.high))
    return Strip(
        _marks(row, labels, axis),
        tuple(Tick(axis.across(value), text) for value, text in zip(axis.values, axis.texts(), strict=True)),
        None if baseline is None else axis.across(baseline.value),
        around,
    )


@dataclass(frozen=True)
class Bars:
    """One metric by category, bars from zero.

    Attributes:
        rows: categories with their bars, one for each result that has the metric there.
        zero: per cent across where the bars begin.
        ticks: round values across.
    """

    rows: tuple[tuple[str, tuple[Mark, ...]], ...]
    zero: float
    ticks: tuple[Tick, ...]


def bars_of(rows: Sequence[Row], labels: Sequence[str]) -> Bars:
    """The bars of one metric.

    Args:
        rows: of the same metric, one for each category.
        labels: of the results.
    """
    ends = [end for row in rows for number in row.numbers if number is not None for end in _ends(number)]
    axis = axis_over(ends, zero=True)
    return Bars(
        tuple((row.group, _marks(row, labels, axis)) for row in rows),
        axis.across(0.0),
        tuple(Tick(axis.across(value), text) for value, text in zip(axis.values, axis.texts(), strict=True)),
    )


@dataclass(frozen=True)
class Point:
    """A result on a curve: per cent across, pixels down (`low` lies below, so it is the larger number)."""

    series: int
    label: str
    x: float
    y: float
    low: float | None
    high: float | None
    text: str


@dataclass(frozen=True)
class Curve:
    """One metric against the images seen in training.

    Attributes:
        points: from left to right.
        joined: whether a line through them makes sense: no two results have seen the same number of images.
        across, down: round values of both axes.
        baseline: pixels down to real images against real ones; None where that is not known.
    """

    points: tuple[Point, ...]
    joined: bool
    across: tuple[Tick, ...]
    down: tuple[Tick, ...]
    baseline: float | None


def curve_of(row: Row, results: Sequence[Result], labels: Sequence[str]) -> Curve | None:
    """The curve of a metric; None where fewer than two results of different training lengths have it."""
    measured = [
        (result.images_seen, number, place)
        for place, (result, number) in enumerate(zip(results, row.numbers, strict=True))
        if number is not None and result.images_seen is not None
    ]
    measured.sort(key=lambda each: each[0])
    seen = [images for images, _, _ in measured]
    if len(set(seen)) < 2:
        return None
    x = axis_over([float(images) for images in seen], zero=True)
    values = [end for _, number, _ in measured for end in _ends(number)]
    y = axis_over([*values, row.baseline.value] if row.baseline is not None else values)
    points = []
    for images, number, place in measured:
        value, interval = shown_with_interval(number)
        points.append(
            Point(
                place,
                labels[place],
                x.across(images),
                y.down(number.value),
                None if number.low is None else y.down(number.low),
                None if number.high is None else y.down(number.high),
                f"{images:,} images: {value}" + (f" ({interval})" if interval else ""),
            )
        )
    return Curve(
        tuple(points),
        len(set(seen)) == len(seen),
        tuple(Tick(x.across(value), short_count(round(value))) for value in x.values),
        tuple(Tick(y.down(value), text) for value, text in zip(y.values, y.texts(), strict=True)),
        None if row.baseline is None else y.down(row.baseline.value),
    )


def _marks(row: Row, labels: Sequence[str], axis: Axis) -> tuple[Mark, ...]:
    marks = []
    for place, number in enumerate(row.numbers):
        if number is None:
            continue
        value, interval = shown_with_interval(number)
        marks.append(
            Mark(
                place,
                labels[place],
                axis.across(number.value),
                None if number.low is None else axis.across(number.low),
                None if number.high is None else axis.across(number.high),
                value,
                interval,
                place in row.best,
            )
        )
    return tuple(marks)


def _ends(number: Number) -> list[float]:
    """Everything of a number that must lie on its axis."""
    return [end for end in (number.value, number.low, number.high) if end is not None]
