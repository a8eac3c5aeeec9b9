"""A plain folder of captioned images, trained on as it is.

Three layouts are read: `x.png` beside `x.txt` (one caption a line), `metadata.jsonl` (`file_name`, and `captions` or
`text`), `captions.csv` (columns `file_name` and `caption`; an image may have several rows). Sub-folders count.
"""

from __future__ import annotations

import csv
import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from galip.data.images import decode_image
from galip.data.protocol import BrokenRecordError, spread
from galip.data.shards import caption_list, checked_weights, clean_captions
from galip.errors import GalipError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
_CHECKED = 32


@dataclass(frozen=True)
class Record:
    """One image and its cleaned captions: at least one; one that is written twice is drawn twice as often."""

    path: Path
    captions: tuple[str, ...]
    weight: object = 1


class CaptionedFolder:
    """The captioned images of a folder, in a fixed order (by file name).

    Captions are cleaned when the folder is read; images without one are left out and counted in `skipped`.

    Args:
        folder: the folder, in one of the layouts above.

    Raises:
        GalipError: the folder is not there, holds no captioned image, lists an image that does not exist, or most of
            a few images that are tried cannot be read; the message names the file and the remedy.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise GalipError(f"{self.folder}: no such folder; `data.source` must name a folder of captioned images")
        self.skipped: Counter[str] = Counter()
        self.broken_shards: dict[str, str] = {}  # a folder has none
        self.records: list[Record] = []
        for path, raw, weight in sorted(self._listed(), key=lambda row: row[:2]):
            if captions := clean_captions(raw):
                self.records.append(Record(path, captions, weight))
            else:
                self.skipped["no caption"] += 1
        if not self.records:
            raise GalipError(
                f"{self.folder}: no captioned image in it; put x.png beside x.txt, or write metadata.jsonl "
                "(file_name, captions) or captions.csv (file_name, caption)"
            )
        # A path error or a broken export shows at once instead of an hour into the run.
        self._try(random.Random(0).sample(range(len(self)), min(_CHECKED, len(self))))

    def __len__(self) -> int:
        return len(self.records)

    @property
    def captions(self) -> list[str]:
        """Every distinct caption, sorted: the list by which text vectors are computed and cached."""
        return sorted({caption for record in self.records for caption in record.captions})

    def read(self, number: int, needed: int = 0, channels: int = 3) -> tuple[Image.Image, tuple[str, ...]]:
        """Read an image and its captions: see `galip.data.protocol.ImageSource`."""
        record = self.records[number]
        return decode_image(record.path, str(record.path), needed, channels), record.captions

    def captions_at(self, number: int) -> tuple[str, ...]:
        """A record's captions: see `galip.data.protocol.ImageSource`."""
        return self.records[number].captions

    def name_of(self, number: int) -> str:
        """Path of the image."""
        return str(self.records[number].path)

    def weights(self) -> NDArray[np.float64]:
        """How often each record should be drawn: see `galip.data.protocol.ImageSource`."""
        return checked_weights([record.weight for record in self.records], self.name_of)

    def distinct_captions(self, limit: int) -> list[str] | None:
        """Every distinct caption, sorted; None where there are more than `limit`, repeated ones counted again."""
        return None if sum(len(record.captions) for record in self.records) > limit else self.captions

    def some_captions(self, count: int) -> list[str]:
        """First captions of at most `count` images that are evenly spread over the folder, each caption once."""
        return list(dict.fromkeys(self.records[number].captions[0] for number in spread(count, len(self))))

    @property
    def digest(self) -> str:
        """SHA-256 of the images' names and sizes in bytes, and of the captions."""
        found = hashlib.sha256()
        for record in self.records:
            size = record.path.stat().st_size if record.path.exists() else -1
            row = [record.path.relative_to(self.folder).as_posix(), size, record.captions]
            found.update(json.dumps(row).encode())
        return found.hexdigest()

    @property
    def state(self) -> str:
        """`digest` with the times at which the images were written."""
        times = [record.path.stat().st_mtime_ns if record.path.exists() else -1 for record in self.records]
        return hashlib.sha256(json.dumps([self.digest, times]).encode()).hexdigest()

    def _try(self, numbers: list[int]) -> None:
        broken = []
        for number in numbers:
            try:
                self.read(number)
            except BrokenRecordError as error:
                broken.append(error)
        if 2 * len(broken) > len(numbers):
            raise broken[0]

    def _listed(self) -> Iterator[tuple[Path, list[str], object]]:
        """(image, raw captions, weight) by whichever layout the folder has."""
        if (listing := self.folder / "metadata.jsonl").exists():
            yield from self._from_jsonl(listing)
        elif (listing := self.folder / "captions.csv").exists():
            yield from self._from_csv(listing)
        else:
            for path in self.folder.rglob("*"):
                if path.suffix.lower() in SUFFIXES:
                    text = path.with_suffix(".txt")
                    yield path, _read_text(text).splitlines() if text.exists() else [], 1

    def _from_jsonl(self, listing: Path) -> Iterator[tuple[Path, list[str], object]]:
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
            yield self._inside(listing, number, str(name)), caption_list(captions), row.get("weight", 1)

    def _from_csv(self, listing: Path) -> Iterator[tuple[Path, list[str], object]]:
        by_image: dict[Path, list[str]] = {}
        rows = csv.DictReader(_read_text(listing).splitlines())
        if not {"file_name", "caption"} <= set(rows.fieldnames or ()):
            raise GalipError(f"{listing}: the first line must name the columns file_name and caption")
        for number, row in enumerate(rows, start=2):
            by_image.setdefault(self._inside(listing, number, row["file_name"]), []).append(row["caption"] or "")
        yield from ((path, captions, 1) for path, captions in by_image.items())

    def _inside(self, listing: Path, number: int, name: str) -> Path:
        path = self.folder / name
        if not path.is_file():
            raise GalipError(f"{listing}, line {number}: {name} is not in the folder; remove the line or add the file")
        return path


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise GalipError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error
