"""What every source gives to the writing of shards: items, in blocks that are worked on independently."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from galip._deprecated import renamed
from galip.data.skips import Skipped
from galip.data_prep.encoding import ImageOptions
from galip.errors import GalipError, InputError

TRAIN, VALIDATION = "train", "validation"

_KEY = re.compile(r"[A-Za-z0-9_-]{1,72}")  # with its suffix such a name fits into a tar header of the oldest kind
_SLUG, _DIGEST = 60, 10
_MAX_SHARD_MB = 1e6
# Two tar headers, the padding of two members, and a text's punctuation.
_RECORD_BYTES = 2300


@dataclass(frozen=True)
class Item:
    """One captioned image as its source lists it.

    Attributes:
        key: unique in the split; letters, digits, "_" and "-" (see `key_of`).
        captions: as they are written; what is no caption is dropped later.
        split: the shard folder that it belongs to.
        image: the file, or its content.
        name: what a report calls it.
        box: (left, upper, right, lower) in pixels to cut out; what reaches over the borders is clipped.
        extra: other values of the record, as JSON.
    """

    key: str
    captions: tuple[str, ...]
    split: str
    image: Path | bytes
    name: str
    box: tuple[int, int, int, int] | None = None
    extra: dict[str, Any] = field(default_factory=dict)


class Block(Protocol):
    """Items that become shards of their own, whatever the other blocks hold; it travels to a worker process.

    Attributes:
        expected: how many images, for the progress bar; None if only reading tells.
    """

    @property
    def expected(self) -> int | None: ...

    def items(self) -> Iterable[Item | Skipped]:
        """The block's items, always the same in the same order."""

    def identity(self) -> Any:
        """JSON that differs where the block's content differs, found without reading it all."""


@dataclass(frozen=True)
class ItemBlock:
    """A block whose items are listed already."""

    listed: tuple[Item, ...]

    @property
    def expected(self) -> int | None:
        """The number of its items."""
        return len(self.listed)

    def items(self) -> Iterator[Item]:
        """The items."""
        return iter(self.listed)

    def identity(self) -> Any:
        """Keys, sizes, boxes and captions."""
        return [[item.key, item.split, _size(item.image), item.box, item.captions, item.extra] for item in self.listed]


@dataclass(frozen=True)
class WritingOptions:
    """How shards are written, whatever the source.

    Args:
        shard_mb: no shard is larger than this many megabytes (10^6 bytes), unless one record alone is.
        validation: share of the images, in [0, 1), that goes into the split "validation".
        seed: of the choice of those.
        images: how images are checked and encoded.

    Raises:
        InputError: a value is out of range.
    """

    shard_mb: float = 100.0
    validation: float = 0.0
    seed: int = 0
    images: ImageOptions = field(default_factory=ImageOptions)

    def __post_init__(self) -> None:
        if not 0 < self.shard_mb <= _MAX_SHARD_MB:
            raise InputError(f"--shard-mb {self.shard_mb:g}: give a size above 0 and up to {_MAX_SHARD_MB:g}")
        if not 0 <= self.validation < 1:
            raise InputError(f"--validation {self.validation:g}: give a share of the images, from 0 to below 1")

    @property
    def shard_bytes(self) -> int:
        """The bound of a shard in bytes."""
        return max(1, int(self.shard_mb * 1_000_000))

    def recorded(self) -> dict[str, Any]:
        """What the shards depend on, as JSON."""
        chosen = {"validation": self.validation, "seed": self.seed} if self.validation else {}
        return {"shard_mb": self.shard_mb, **chosen, **self.images.recorded()}


@dataclass(frozen=True)
class Listing:
    """Everything that `galip data prepare` needs to know of a source.

    Attributes:
        name: as on the command line.
        blocks: the work.
        options: of this source, as JSON; together with the writing's own they are kept with the result.
        skipped: what was left out while listing.
        notes: what else the report should say, as JSON.
        modified: digest of the times at which the files that are read were written, from `modified_of`; "" if nobody
            knows.
    """

    name: str
    blocks: Sequence[Block]
    options: dict[str, Any] = field(default_factory=dict)
    skipped: tuple[Skipped, ...] = ()
    notes: dict[str, Any] = field(default_factory=dict)
    modified: str = ""


def key_of(name: str) -> str:
    """A record's key made from any name: the name itself if it can be one, else its beginning and a digest of it."""
    if _KEY.fullmatch(name):
        return name
    slug = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[-_SLUG:].strip("-")
    return f"{slug or 'picture'}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:_DIGEST]}"


def listed(
    name: str,
    items: Iterable[Item],
    writing: WritingOptions,
    options: dict[str, Any] | None = None,
    skipped: Iterable[Skipped] = (),
    notes: dict[str, Any] | None = None,
) -> Listing:
    """A source of which every item is known beforehand: they are split and packed into blocks of about a shard.

    Args:
        name, options, skipped, notes: as in `Listing`.
        items: in the order of the records; with `writing.validation`, some of them move to that split.
        writing: gives the share for validation and the size of a block.

    Raises:
        GalipError: there is no item at all, or two of a split have one key.
    """
    everything = list(items)
    if not everything:
        raise GalipError(f"{name}: no image is listed there; see docs/data.md for what the folder must look like")
    if writing.validation:
        chosen = choose((item.key for item in everything), writing.validation, writing.seed)
        everything = [_moved(item) if item.key in chosen else item for item in everything]
    by_split: dict[str, list[Item]] = {}
    seen: dict[tuple[str, str], str] = {}
    for item in everything:
        by_split.setdefault(item.split, []).append(item)
        if (place := (item.split, item.key)) in seen:
            raise GalipError(
                f"{name}: {seen[place]} and {item.name} would have the same key, {item.key}; remove one of them"
            )
        seen[place] = item.name
    blocks = [block for of_split in by_split.values() for block in _packed(of_split, writing)]
    modified = modified_of(item.image for item in everything)
    return Listing(name, blocks, options or {}, tuple(skipped), notes or {}, modified)


def modified_of(images: Iterable[Path | bytes]) -> str:
    """Digest of the times at which files were written, and of contents; another one tells that something has changed
    though its size has not.
    """
    found = hashlib.sha256()
    for image in images:
        try:
            when = hashlib.sha256(image).hexdigest() if isinstance(image, bytes) else str(image.stat().st_mtime_ns)
        except (OSError, ValueError):
            when = "missing"
        found.update(f"{when}\n".encode())
    return found.hexdigest()


def choose(names: Iterable[str], share: float, seed: int) -> frozenset[str]:
    """The given share of the names, at least one, by a seed; what is chosen does not depend on their order."""
    ranked = sorted(names, key=lambda name: rank(name, seed))
    return frozenset(ranked[: max(1, round(share * len(ranked)))])


def rank(name: str, seed: int) -> float:
    """A number in [0, 1) that a name has under a seed: uniform over names."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:6], "big") / 2**48


def _moved(item: Item) -> Item:
    return Item(item.key, item.captions, VALIDATION, item.image, item.name, item.box, item.extra)


def _packed(items: list[Item], writing: WritingOptions) -> Iterator[ItemBlock]:
    """Blocks of neighbouring items that should fill a shard; what they really take is seen when they are written."""
    block: list[Item] = []
    filled = 0
    for item in items:
        size = max(0, _size(item.image))
        if writing.images.shorter_side:
            size = min(size, writing.images.shorter_side**2)  # a byte a pixel is more than JPEG needs
        size += _RECORD_BYTES + sum(len(caption) for caption in item.captions)
        if block and filled + size > writing.shard_bytes:
            yield ItemBlock(tuple(block))
            block, filled = [], 0
        block.append(item)
        filled += size
    if block:
        yield ItemBlock(tuple(block))


def _size(image: Path | bytes) -> int:
    """In bytes; -1 for a file that is not there."""
    if isinstance(image, bytes):
        return len(image)
    try:
        return image.stat().st_size
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return -1


def digest_of(value: Any) -> str:
    """Hexadecimal SHA-256 of JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def read_text(path: Path) -> str:
    """A text file.

    Raises:
        GalipError: it is not there or no UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise GalipError(f"{path}: cannot be read ({error.strerror or error}); see docs/data.md") from error
    except UnicodeDecodeError as error:
        raise GalipError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error


def __getattr__(name: str) -> Any:
    return renamed(__name__, name)
