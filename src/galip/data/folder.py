"""A plain folder of captioned pictures, trained on as it is.

Three layouts are read: `x.png` beside `x.txt` (one caption a line), `metadata.jsonl` (`file_name`, and `captions` or
`text`), `captions.csv` (columns `file_name` and `caption`; a picture may have several rows). Sub-folders count.
"""

from __future__ import annotations

import csv
import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from galip.captions import clean_caption
from galip.errors import GalipError, InputError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
_CHECKED = 32


@dataclass(frozen=True)
class Record:
    """One picture and its cleaned captions: at least one; one that is written twice is drawn twice as often."""

    path: Path
    captions: tuple[str, ...]


class CaptionedFolder:
    """The captioned pictures of a folder, in a fixed order (by file name).

    Captions are cleaned when the folder is read; pictures without one are left out and counted in `skipped`.

    Args:
        folder: the folder, in one of the layouts above.

    Raises:
        GalipError: the folder is not there, holds no captioned picture, lists a picture that does not exist, or one of
            the first pictures cannot be read; the message names the file and the remedy.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise GalipError(f"{self.folder}: no such folder; `data.source` must name a folder of captioned pictures")
        self.skipped: Counter[str] = Counter()
        self.records: list[Record] = []
        for path, raw in sorted(self._listed()):
            captions = tuple(self._cleaned(raw))
            if captions:
                self.records.append(Record(path, captions))
            else:
                self.skipped["no caption"] += 1
        if not self.records:
            raise GalipError(
                f"{self.folder}: no captioned picture in it; put x.png beside x.txt, or write metadata.jsonl "
                "(file_name, captions) or captions.csv (file_name, caption)"
            )
        # A path error or a broken export shows at once instead of an hour into the run.
        for record in random.Random(0).sample(self.records, min(_CHECKED, len(self.records))):
            read_rgb(record.path)

    def __len__(self) -> int:
        return len(self.records)

    @property
    def captions(self) -> list[str]:
        """Every distinct caption, sorted: the list by which text vectors are computed and cached."""
        return sorted({caption for record in self.records for caption in record.captions})

    def _listed(self) -> Iterator[tuple[Path, list[str]]]:
        """(picture, raw captions) by whichever layout the folder has."""
        if (listing := self.folder / "metadata.jsonl").exists():
            yield from self._from_jsonl(listing)
        elif (listing := self.folder / "captions.csv").exists():
            yield from self._from_csv(listing)
        else:
            for path in self.folder.rglob("*"):
                if path.suffix.lower() in SUFFIXES:
                    text = path.with_suffix(".txt")
                    yield path, _read_text(text).splitlines() if text.exists() else []

    def _from_jsonl(self, listing: Path) -> Iterator[tuple[Path, list[str]]]:
        for number, line in enumerate(_read_text(listing).splitlines(), start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                name, captions = row["file_name"], row.get("captions", row.get("text", row.get("caption", [])))
            except (json.JSONDecodeError, KeyError, AttributeError, TypeError) as error:
                raise GalipError(
                    f'{listing}, line {number}: not a row {{"file_name": ..., "captions": [...]}} ({error})'
                ) from error
            yield self._inside(listing, number, str(name)), [captions] if isinstance(captions, str) else list(captions)

    def _from_csv(self, listing: Path) -> Iterator[tuple[Path, list[str]]]:
        by_picture: dict[Path, list[str]] = {}
        rows = csv.DictReader(_read_text(listing).splitlines())
        if not {"file_name", "caption"} <= set(rows.fieldnames or ()):
            raise GalipError(f"{listing}: the first line must name the columns file_name and caption")
        for number, row in enumerate(rows, start=2):
            by_picture.setdefault(self._inside(listing, number, row["file_name"]), []).append(row["caption"] or "")
        yield from by_picture.items()

    def _inside(self, listing: Path, number: int, name: str) -> Path:
        path = self.folder / name
        if not path.is_file():
            raise GalipError(f"{listing}, line {number}: {name} is not in the folder; remove the line or add the file")
        return path

    def _cleaned(self, raw: list[str]) -> Iterator[str]:
        for caption in raw:
            try:
                yield clean_caption(str(caption))
            except InputError:
                continue  # an empty line is no caption; a picture left with none is counted by the caller


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise GalipError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error


def read_rgb(path: Path) -> Image.Image:
    """Read a picture as 8-bit RGB: EXIF rotation applied, white under transparency.

    Raises:
        GalipError: the file is no readable picture.
    """
    try:
        with Image.open(path) as opened:
            picture = ImageOps.exif_transpose(opened)
            if "A" in picture.getbands() or "transparency" in picture.info:
                picture = picture.convert("RGBA")
                on_white = Image.new("RGBA", picture.size, "white")
                on_white.alpha_composite(picture)
                picture = on_white
            return picture.convert("RGB")
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise GalipError(
            f"{path}: not a readable picture ({error}); replace it or remove it with its caption"
        ) from error


def resize_and_crop(picture: Image.Image, shorter_side: int, size: int, where: tuple[float, float]) -> Image.Image:
    """Scale the shorter side to `shorter_side`, then cut a `size` square.

    Args:
        picture: any size.
        shorter_side: in pixels, at least `size`.
        size: side of the result in pixels.
        where: position of the square within what is left over, (x, y) each in [0, 1]; (0.5, 0.5) is the centre.
    """
    width, height = picture.size
    scale = shorter_side / min(width, height)
    wanted = (max(shorter_side, round(width * scale)), max(shorter_side, round(height * scale)))
    if wanted != picture.size:
        picture = picture.resize(wanted, Image.Resampling.BICUBIC)
    left, top = (round(share * (side - size)) for share, side in zip(where, picture.size, strict=True))
    return picture.crop((left, top, left + size, top + size)) if picture.size != (size, size) else picture


def as_array(picture: Image.Image) -> NDArray[np.uint8]:
    """uint8 [3, H, W]."""
    return np.ascontiguousarray(np.asarray(picture, dtype=np.uint8).transpose(2, 0, 1))
