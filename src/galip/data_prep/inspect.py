"""`galip data inspect`: what is in shards, tars or a plain folder, and what in them is broken."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from galip.data.captions import clean_captions
from galip.data.folder import ARCHIVE, OTHER_TABLE, OTHER_TEXT, FolderRecord, read_folder
from galip.data.images import decode_image
from galip.data.open import BESIDE_TARS, beside_tars, open_source
from galip.data.protocol import BrokenRecordError, spread
from galip.data.shard_set import ShardSet
from galip.data.shards import INDEX, scan_tar, tars_in
from galip.data.skips import MAX_EXAMPLES, MISSING, NO_CAPTION, Skipped, Skips, encodable
from galip.data_prep.encoding import UNREADABLE
from galip.data_prep.parallel import Tick, work_on
from galip.data_prep.report import counted
from galip.data_prep.writing import size_and_hash
from galip.errors import GalipError
from galip.utils.contact_sheet import contact_sheet
from galip.utils.image_io import save_image
from galip.utils.progress import Progress, no_progress

SMALL = 256
"""Images with a shorter side below this many pixels are counted."""

_NO_PART = frozenset({ARCHIVE, BESIDE_TARS, OTHER_TABLE, OTHER_TEXT})
_WORDS, _ON_SHEET, _FEWEST = 40, 49, 200
_WORD = re.compile(r"\w[\w'’-]*")
_COMMON = frozenset("a an and are as at be by for from has in is it its of on or that the this to was with".split())


@dataclass
class Facts:
    """What was found in one folder.

    Attributes:
        sizes: (width, height) in pixels.
        captions: how many an image has.
        lengths: words of a caption.
        words: in lower case, without the commonest of English.
        broken: records that cannot be used, "name: why".
        left_out: what is no part of the data, but might have been meant to be.
        damaged: shards that cannot be read or are not what their index says, and why.
        verified: shards whose hashes are right.
    """

    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    captions: Counter[int] = field(default_factory=Counter)
    lengths: Counter[int] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    left_out: Skips = field(default_factory=Skips)
    damaged: dict[str, str] = field(default_factory=dict)
    verified: int = 0

    def add(self, other: Facts) -> None:
        """Add what was found in another part of the folder."""
        for name in ("sizes", "captions", "lengths", "words"):
            getattr(self, name).update(getattr(other, name))
        self.broken += other.broken
        self.damaged |= other.damaged
        self.verified += other.verified

    @property
    def images(self) -> int:
        """Images that can be used."""
        return sum(self.sizes.values())

    @property
    def broken_count(self) -> int:
        """Records and shards that are not right."""
        return len(self.broken) + len(self.damaged)

    def as_json(self) -> dict[str, Any]:
        """Everything, for a file."""
        sides = [Counter[int](), Counter[int](), Counter[int]()]
        for (width, height), count in self.sizes.items():
            for side, value in zip(sides, (width, height, min(width, height)), strict=True):
                side[value] += count
        small = sum(count for side, count in sides[2].items() if side < SMALL)
        return {
            "pictures": self.images,
            "captions": sum(number * count for number, count in self.captions.items()),
            "width": _spread_of(sides[0]),
            "height": _spread_of(sides[1]),
            "shorter side": _spread_of(sides[2]),
            f"share with a shorter side below {SMALL}": small / max(1, self.images),
            "captions per picture": _spread_of(self.captions),
            "words per caption": _spread_of(self.lengths),
            "most frequent words": dict(sorted(self.words.items(), key=lambda pair: (-pair[1], pair[0]))[:_WORDS]),
            "shards verified": self.verified,
            "shards damaged": self.damaged,
            "broken records": self.broken,
            "left out": self.left_out.reasons,
        }


class _Images(Protocol):
    """What is looked at: part of `galip.data.protocol.ImageSource`."""

    def __len__(self) -> int: ...

    def read(self, number: int, /) -> tuple[Image.Image, tuple[str, ...]]: ...

    def name_of(self, number: int, /) -> str: ...


@dataclass(frozen=True)
class _Listed:
    """A plain folder; unlike training's own reader it opens where images are broken or missing."""

    root: Path
    records: list[FolderRecord]

    def __len__(self) -> int:
        return len(self.records)

    def read(self, number: int) -> tuple[Image.Image, tuple[str, ...]]:
        record = self.records[number]
        if not (captions := clean_captions(record.captions)):
            raise BrokenRecordError(record.name, NO_CAPTION)
        if record.missing:
            raise BrokenRecordError(record.name, MISSING)
        return decode_image(self.root / record.name, record.name), captions

    def name_of(self, number: int) -> str:
        return self.records[number].name


@dataclass(frozen=True)
class _Look:
    """A part to look at: what a worker process is sent."""

    images: _Images
    numbers: range
    place: int


def inspect(path: Path, workers: int = 1, progress: Progress = no_progress) -> dict[str, Facts]:
    """Read every image and caption, and compare shards with their index.

    Args:
        path: a shard folder, a folder of such (train/, validation/), tars or one tar, or a plain folder.
        workers: processes.
        progress: is told how many images are read, then how many shards are verified.

    Returns:
        What was found, by the name of the folder.

    Raises:
        GalipError: there is nothing at `path`, or nothing with captions.
    """
    return {part.resolve().name: _inspect(part, workers, progress) for part in parts_of(path)}


def parts_of(path: Path) -> list[Path]:
    """The shard folders inside a folder that is none itself, else the path alone."""
    if not path.exists():
        raise GalipError(f"{path}: not there; name shards, tars or a folder of images on this machine")
    inside = sorted(index.parent for index in path.glob(f"*/{INDEX}"))
    return inside if inside and not (path / INDEX).exists() else [path]


def write_sheet(path: Path, sheet: Path) -> None:
    """Write a contact sheet of images from all over `path`, each with its first caption.

    Raises:
        GalipError: no image can be read.
    """
    shown = []
    for part in parts_of(path):
        images = _opened(part)[0]
        for number in spread(_ON_SHEET // len(parts_of(path)), len(images)):
            try:
                image, captions = images.read(number)
            except BrokenRecordError:
                continue
            note = f"{image.width} x {image.height}, {counted(len(captions), 'caption')}"
            image.thumbnail((SMALL, SMALL))
            shown.append((image, captions[0], note))
    if not shown:
        raise GalipError(f"{path}: no image for the contact sheet can be read")
    save_image(contact_sheet(shown), sheet)


def described(found: dict[str, Facts]) -> Iterator[str]:
    """The lines that the command prints."""
    for name, facts in found.items():
        values = facts.as_json()
        yield f"{name}: {counted(values['pictures'], 'image')}, {counted(values['captions'], 'caption')}"
        for what, unit in (("width", " px"), ("height", " px"), ("shorter side", " px")):
            yield f"  {what}: {_words_of(values[what], unit)}"
        yield f"  shorter side below {SMALL} px: {values[f'share with a shorter side below {SMALL}']:.1%}"
        yield f"  captions per image: {_words_of(values['captions per picture'])}"
        yield f"  words per caption: {_words_of(values['words per caption'])}"
        words = list(values["most frequent words"].items())[:20]
        yield f"  most frequent words: {', '.join(f'{word} {count:,}' for word, count in words)}"
        if facts.verified or facts.damaged:
            yield f"  shards as their index says: {facts.verified:,} of {facts.verified + len(facts.damaged):,}"
        damaged = [f"{tar}: {why}" for tar, why in sorted(facts.damaged.items())]
        for what, lines in (("damaged shards", damaged), ("broken records", facts.broken)):
            yield f"  {what}: {len(lines):,}"
            yield from (f"    {line}" for line in lines[:MAX_EXAMPLES])
            if len(lines) > MAX_EXAMPLES:
                yield "    ... (--json lists them all)"
        yield from (f"  left out, {line}" for line in facts.left_out.described())


def _inspect(part: Path, workers: int, progress: Progress) -> Facts:
    facts = Facts()
    images, skipped, facts.damaged = _opened(part)
    facts.left_out = Skips.of(skip for skip in skipped if skip.reason in _NO_PART)
    facts.broken = [f"{encodable(skip.name)}: {skip.reason}" for skip in skipped if skip.reason not in _NO_PART]
    count = max(_FEWEST, math.ceil(len(images) / (8 * workers)))
    ranges = [range(start, min(start + count, len(images))) for start in range(0, len(images), count)]
    looks = [_look_at(images, numbers, place) for place, numbers in enumerate(ranges)]
    results = work_on(look, looks, min(workers, len(looks)), f"reading {part.name}", len(images), progress)
    # In the order of the records, whoever was first.
    for _, result in sorted(results, key=lambda pair: pair[0]):
        facts.add(result)
    if (part / INDEX).exists():
        shards = json.loads((part / INDEX).read_text(encoding="utf-8"))["shards"]
        tasks = [(part / shard["file"], shard) for shard in shards]
        stage = f"verifying {part.name}"
        for name, why in work_on(verify, tasks, min(workers, len(tasks)), stage, len(tasks), progress):
            if why:
                facts.damaged[name] = why
            else:
                facts.verified += 1
    return facts


def _opened(part: Path) -> tuple[_Images, list[Skipped], dict[str, str]]:
    """What is there, what is left out, and damaged shards that are known before anything is read."""
    if part.is_file() or tars_in(part) or (part / INDEX).exists():
        images = open_source(str(part))
        assert isinstance(images, ShardSet)
        damaged = {Path(name).name: why for name, why in images.broken_shards.items()}
        skipped: list[Skipped] = []
        if not (part / INDEX).exists():
            for tar in [part] if part.is_file() else tars_in(part):
                if tar.name not in damaged:
                    scan_tar(tar, skipped)
            skipped += [] if part.is_file() else beside_tars(part)
        return images, skipped, damaged
    records, skipped = read_folder(part)
    if not records:
        raise GalipError(f"{part}: no image in it; name shards, tars or a folder of images")
    return _Listed(part, records), skipped, {}


def _look_at(images: _Images, numbers: range, place: int) -> _Look:
    if isinstance(images, _Listed):  # a process is sent its own records only
        return _Look(_Listed(images.root, images.records[numbers.start : numbers.stop]), range(len(numbers)), place)
    return _Look(images, numbers, place)


def look(task: _Look, tick: Tick) -> tuple[int, Facts]:
    """Read some records: the place of the part, and what was found."""
    facts = Facts()
    for number in task.numbers:
        tick()
        try:
            image, captions = task.images.read(number)
        except BrokenRecordError as error:
            if error.shard:  # thousands of records, one cause
                facts.damaged[Path(error.shard).name] = error.why
            else:
                facts.broken.append(str(error))
            continue
        facts.sizes[image.size] += 1
        facts.captions[len(captions)] += 1
        for caption in captions:
            facts.lengths[len(caption.split())] += 1
            facts.words.update(word for word in _WORD.findall(caption.lower()) if word not in _COMMON)
    return task.place, facts


def verify(task: tuple[Path, dict[str, Any]], tick: Tick) -> tuple[str, str | None]:
    """Compare a tar with its row in the index: its name, and None or what is wrong with it."""
    path, expected = task
    tick()
    try:
        found = size_and_hash(path)
    except OSError as error:
        return path.name, f"{UNREADABLE} ({error.strerror})"
    for what in ("bytes", "sha256"):
        if found[what] != expected[what]:
            return path.name, f"its {what} is {found[what]}, the index says {expected[what]}"
    return path.name, None


def _spread_of(counts: Counter[int]) -> dict[str, float]:
    """Smallest, median and largest of numbers that occur so often; nothing where there are none."""
    total = sum(counts.values())
    if not total:
        return {}
    ordered, seen = sorted(counts.items()), 0
    middle = ordered[-1][0]
    for value, count in ordered:
        seen += count
        if 2 * seen >= total:
            middle = value
            break
    return {"min": ordered[0][0], "median": middle, "max": ordered[-1][0]}


def _words_of(spread_: dict[str, float], unit: str = "") -> str:
    return ", ".join(f"{name} {value:,}{unit}" for name, value in spread_.items()) or "none"
