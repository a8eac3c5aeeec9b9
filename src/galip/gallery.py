"""Pictures on disk: file names, PNG files that say how they were made, contact sheets."""

from __future__ import annotations

import hashlib
import json
import os
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from math import ceil, sqrt
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

SHEET_NAME = "contact-sheet.png"
SHEET_LIMIT = 100
"""Pictures on one contact sheet; more could not be looked at with profit."""

_SLUG_LENGTH = 40
_DIGEST_LENGTH = 12
_SMALLEST, _LARGEST = 128, 256  # side in pixels of a picture on a sheet
_MARGIN, _FONT_SIZE, _LINE, _CAPTION_LINES = 8, 13, 17, 3


def picture_name(caption: str, seed: int, settings: Mapping[str, object]) -> str:
    """The file name of a picture: the same for the same caption, seed and settings, and for no other.

    Lower-case ASCII, well below 100 characters, so that it is safe in any file system, also where case or the form of
    accents is lost: the beginning of the caption for people, the seed, a digest of everything for uniqueness.

    Args:
        caption: any text.
        seed: the picture's seed.
        settings: whatever else the picture depends on, as JSON values: weights, truncation.
    """
    text = unicodedata.normalize("NFKD", caption[: 4 * _SLUG_LENGTH]).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", text).strip("-")
    if len(slug) > _SLUG_LENGTH:
        cut = slug[: _SLUG_LENGTH + 1].rsplit("-", 1)[0]  # at the end of a word, unless it is all one word
        slug = cut[:_SLUG_LENGTH]
    content = json.dumps([caption, seed, dict(settings)], sort_keys=True, ensure_ascii=True)
    digest = hashlib.sha256(content.encode()).hexdigest()[:_DIGEST_LENGTH]
    return f"{slug or 'caption'}-s{seed}-{digest}.png"


def save_png(image: Image.Image, path: Path, texts: Mapping[str, str] | None = None) -> None:
    """Write a picture so that `path` holds either all of it or nothing.

    Args:
        image: the picture.
        path: where it goes; a file there is replaced.
        texts: what is written into the file beside the pixels (iTXt, so any language), for example prompt and seed.

    Raises:
        OSError: it cannot be written.
    """
    info = PngInfo()
    for key, value in (texts or {}).items():
        info.add_itxt(key, value)
    with _complete_or_nothing(path) as unfinished:
        # Level 1 is several times faster than the usual 6, for files a few per cent larger.
        image.save(unfinished, format="PNG", pnginfo=info, compress_level=1)


@contextmanager
def _complete_or_nothing(path: Path) -> Iterator[Path]:
    # Beside the goal, since a rename is atomic only within a file system; with the process's number, since another
    # process may be drawing the same picture.
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def contact_sheet(pictures: Iterable[tuple[Image.Image, str, str]], per_row: int | None = None) -> Image.Image:
    """Put pictures on one sheet, each with its caption and a note below.

    Args:
        pictures: (picture, caption, note), at most `SHEET_LIMIT` of which are used; they may have different sizes.
        per_row: pictures that belong together: a row holds a multiple of so many. None: they all stand alone.

    Raises:
        ValueError: there are no pictures.
    """
    chosen = list(islice(pictures, SHEET_LIMIT))
    if not chosen:
        raise ValueError("pictures is empty; a contact sheet needs at least one")
    side = min(max(max(max(image.size) for image, _, _ in chosen), _SMALLEST), _LARGEST)
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


def _fit(image: Image.Image, side: int) -> Image.Image:
    """Enlarge or reduce to `side`, all in RGB."""
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def _columns(count: int, per_row: int | None) -> int:
    """How many pictures in a row make the sheet about as wide as high, in whole groups of `per_row`."""
    square = ceil(sqrt(count))
    if per_row is None or per_row > 2 * square:
        return square
    return per_row * max(1, round(square / per_row))


def _wrap(text: str, length: Callable[[str], float], width: int) -> Sequence[str]:
    """Break a caption into at most `_CAPTION_LINES` lines of `width` pixels, with dots where it goes on."""
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
        if len(lines) == _CAPTION_LINES - 1 and words:
            while len(line) > 1 and length(f"{line}...") > width:
                line = line[:-1].rstrip()
            return [*lines, f"{line}..."]
        lines.append(line)
    return lines
