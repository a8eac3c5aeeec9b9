"""Many images on one sheet, with their texts: contact sheets and labelled grids."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, islice, pairwise
from math import ceil, sqrt
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from galip.utils.image_io import Resampling, resized

SHEET_NAME = "contact-sheet.png"
SHEET_LIMIT = 100
"""Images on one contact sheet; more could not be looked at with profit."""

_MIN_SIDE, _MAX_SIDE = 128, 256  # in pixels of an image on a sheet
_MARGIN, _FONT_SIZE, _LINE, _CAPTION_LINES = 8, 13, 17, 3
_GAP, _ROW_LABEL, _MANY = 4, 150, 12  # of a labelled grid: between images; widest label; where images get small


def contact_sheet(images: Iterable[tuple[Image.Image, str, str]], per_row: int | None = None) -> Image.Image:
    """Put images on one sheet, each with its caption and a note below.

    Args:
        images: (image, caption, note), at most `SHEET_LIMIT` of which are used; they may have different sizes.
        per_row: images that belong together: a row holds a multiple of so many. None: they all stand alone.

    Raises:
        ValueError: there are no images.
    """
    chosen = list(islice(images, SHEET_LIMIT))
    if not chosen:
        raise ValueError("images is empty; a contact sheet needs at least one")
    side = min(max(max(max(image.size) for image, _, _ in chosen), _MIN_SIDE), _MAX_SIDE)
    font = ImageFont.load_default(_FONT_SIZE)
    cells = [(_fit(image, side), _wrap(caption, font.getlength, side), note) for image, caption, note in chosen]

    columns = _columns(len(cells), per_row)
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    # A row is as high as its longest caption needs.
    heights = [side + _MARGIN // 2 + _LINE * (max(len(lines) for _, lines, _ in row) + 1) for row in rows]
    width = min(columns, len(cells)) * (side + _MARGIN) + _MARGIN
    sheet = Image.new("RGB", (width, sum(heights) + _MARGIN * (len(rows) + 1)), "white")
    draw = ImageDraw.Draw(sheet)
    y = _MARGIN
    for row, height in zip(rows, heights, strict=True):
        for column, (image, lines, note) in enumerate(row):
            x = _MARGIN + column * (side + _MARGIN)
            sheet.paste(image, (x + (side - image.width) // 2, y + (side - image.height) // 2))
            text_y = y + side + _MARGIN // 2
            for line in lines:
                draw.text((x, text_y), line, font=font, fill="black")
                text_y += _LINE
            draw.text((x, text_y), note, font=font, fill="gray")
        y += height + _MARGIN
    return sheet


def labelled_grid(
    images: Iterable[Image.Image],
    columns: Sequence[str],
    rows: Sequence[str],
    below: Sequence[str] = (),
    side: int | None = None,
    resampling: Resampling = "lanczos",
) -> Image.Image:
    """Put images into a grid, with labels over its columns and before its rows.

    The images are taken one by one and not kept, so that only the sheet itself is in memory.

    Args:
        images: as many as the grid has places, row by row; square.
        columns: a label for each column; where it is empty, its neighbour's may reach over it.
        rows: a label for each row, or empty.
        below: the same as `columns`, under the last row; () for none.
        side: of each image on the sheet, in pixels; None: `sheet_side`.
        resampling: how they are brought to it.

    Raises:
        ValueError: there are more or fewer images, or no columns or rows.
    """
    coming = iter(images)
    first = next(coming, None)
    places = len(columns) * len(rows)
    if first is None or not places:
        raise ValueError(f"a grid of {len(columns)} x {len(rows)} places has no images")
    side = side or sheet_side(first.width, len(columns), len(rows))
    font = ImageFont.load_default(_FONT_SIZE)
    step = side + _GAP
    # As narrow as the longest label allows; what is longer is broken into lines.
    widest = min(_ROW_LABEL, max(ceil(font.getlength(label)) for label in rows))
    left = _MARGIN + (widest + _MARGIN if widest else 0)
    over, under = (_spread(labels, font.getlength, step) for labels in (columns, below))
    top, bottom = (_MARGIN + max((len(lines) for *_, lines in labels), default=0) * _LINE for labels in (over, under))
    sheet = Image.new("RGB", (left + len(columns) * step + _MARGIN, top + len(rows) * step + bottom), "white")
    draw = ImageDraw.Draw(sheet)
    for labels, y, down in ((over, top - _GAP, False), (under, top + len(rows) * step, True)):
        for start, stop, at_end, lines in labels:
            x = left + (stop * step - _GAP if at_end else start * step)
            height = y if down else y - len(lines) * _LINE  # labels stand on the images, or hang from them
            _write(draw, (x, height), lines, font, at_end)
    for row, label in enumerate(rows):
        lines = _wrap(label, font.getlength, max(widest, 1), max(1, side // _LINE))
        _write(draw, (_MARGIN, top + row * step + (side - len(lines) * _LINE) // 2), lines, font)
    number = -1
    for number, image in enumerate(chain([first], coming)):
        if number == places:
            raise ValueError(f"more images than the {places} places of the grid")
        row, column = divmod(number, len(columns))
        sheet.paste(resized(image, side, resampling), (left + column * step, top + row * step))
    if number + 1 != places:
        raise ValueError(f"{number + 1} images for the {places} places of the grid")
    return sheet


def sheet_side(side: int, columns: int, rows: int) -> int:
    """Side in pixels of an image in a grid: large enough for its label, unless there are many."""
    return side if max(columns, rows) > _MANY else min(max(side, _MIN_SIDE), _MAX_SIDE)


def _spread(
    labels: Sequence[str], length: Callable[[str], float], step: int
) -> list[tuple[int, int, bool, Sequence[str]]]:
    """The labels that are not empty, broken into lines: (first column, column after the last, at its end, lines).

    A label reaches over the empty ones after it; the last, where it has none, over half of those before it.
    """
    named = [column for column, label in enumerate(labels) if label]
    spans = [[start, stop] for start, stop in pairwise([*named, len(labels)])]
    at_end = len(spans) > 1 and named[-1] == len(labels) - 1 and spans[-2][1] - spans[-2][0] > 1
    if at_end:
        spans[-1][0] -= (spans[-2][1] - spans[-2][0]) // 2
        spans[-2][1] = spans[-1][0]
    return [
        (start, stop, at_end and column == named[-1], _wrap(labels[column], length, (stop - start) * step - _GAP))
        for column, (start, stop) in zip(named, spans, strict=True)
    ]


def _write(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], lines: Sequence[str], font: Any, at_end: bool = False
) -> None:
    """Lines of text that begin at a place, or end there."""
    for number, line in enumerate(lines):
        x = place[0] - (ceil(font.getlength(line)) if at_end else 0)
        draw.text((x, place[1] + number * _LINE), line, font=font, fill="black")


def _fit(image: Image.Image, side: int) -> Image.Image:
    """Enlarge or reduce to `side`, all in RGB."""
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def _columns(count: int, per_row: int | None) -> int:
    """How many images in a row make the sheet about as wide as high, in whole groups of `per_row`."""
    square = ceil(sqrt(count))
    if per_row is None or per_row > 2 * square:
        return square
    return per_row * max(1, round(square / per_row))


def _wrap(text: str, length: Callable[[str], float], width: int, max_lines: int = _CAPTION_LINES) -> Sequence[str]:
    """Break a caption into at most `max_lines` lines of `width` pixels, with dots where it goes on."""
    lines: list[str] = []
    # Nobody reads more than this on a sheet, and measuring ten thousand characters takes time.
    words = text[:300].split()
    while words:
        line = words.pop(0)
        while words and length(f"{line} {words[0]}") <= width:
            line = f"{line} {words.pop(0)}"
        if length(line) > width:  # one long word
            fits = max(1, bisect_right(range(len(line)), float(width), key=lambda n: length(line[: n + 1])))
            line, rest = line[:fits], line[fits:]
            words.insert(0, rest)
        if len(lines) == max_lines - 1 and words:
            while len(line) > 1 and length(f"{line}...") > width:
                line = line[:-1].rstrip()
            return [*lines, f"{line}..."]
        lines.append(line)
    return lines
