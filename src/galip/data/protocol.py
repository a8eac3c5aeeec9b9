"""What a run may learn from, and how `data.source` names it."""

from __future__ import annotations

import glob
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from galip.data.shards import INDEX
from galip.errors import GalipError
from galip.utils.extras import remedy

if TYPE_CHECKING:
    from galip.data.streaming import StreamedShards

# Two letters at least: "C:" is a drive.
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+:")


class BrokenRecordError(GalipError):
    """A picture or its captions cannot be read; the run goes on with another.

    Attributes:
        name: of the record.
        why: what is wrong with it.
        shard: the shard that is broken as a whole, and the record with it; None where it is this record alone.
    """

    def __init__(self, name: str, why: str, shard: str | None = None) -> None:
        super().__init__(f"{name}: {why}")
        self.name, self.why, self.shard = name, why, shard


class Pictures(Protocol):
    """Captioned pictures with numbers: any of them can be read at any time, in any process.

    Attributes:
        skipped: what was left out when the source was opened, counted by reason.
        broken_shards: shards that cannot be read, and why; a record found in one is replaced by another.
    """

    skipped: Counter[str]
    broken_shards: dict[str, str]

    def __len__(self) -> int:
        """How many records there are, broken ones included."""

    def read(self, number: int, needed: int = 0, channels: int = 3) -> tuple[Image.Image, tuple[str, ...]]:
        """Read a picture and its cleaned captions.

        Args:
            number: from 0 to len - 1.
            needed: the shorter side, in pixels, that the picture will be scaled to; a JPEG several times larger is
                then decoded at reduced size. 0: as large as it is.
            channels: 3: RGB, what is transparent laid on white; 4: RGBA.

        Returns:
            The image in 8 bits, and at least one caption.

        Raises:
            BrokenRecordError: one of the two cannot be had.
        """

    def captions_at(self, number: int) -> tuple[str, ...]:
        """A record's captions as `read` gives them, without decoding its picture.

        Raises:
            BrokenRecordError: there is none.
        """

    def name_of(self, number: int) -> str:
        """What a message calls the record: its file, or its shard and key."""

    def weights(self) -> NDArray[np.float64]:
        """How often each record should be drawn in relation to the others: `weight` of its fields, 1 where it has none.

        Reads the fields of all records.

        Raises:
            GalipError: a weight is not a finite number of 0 or more, or all are 0; the message names the record.
        """

    def distinct_captions(self, limit: int) -> list[str] | None:
        """Every distinct caption, sorted; None where there are more than `limit`, repeated ones counted again."""

    def some_captions(self, count: int) -> list[str]:
        """At most `count` captions of records that are evenly spread over the source, always the same."""

    @property
    def state(self) -> str:
        """Like `digest`, and another one when a file was written anew: for what is computed from pixels and kept."""

    @property
    def digest(self) -> str:
        """Hexadecimal hash of what the data is; a run that is resumed on other data can say so."""


def spread(count: int, total: int) -> list[int]:
    """At most `count` numbers, evenly spread over 0 ... total - 1."""
    count = min(count, total)
    return [place * total // count for place in range(count)]


def expand(pattern: str) -> list[str]:
    """The names that a pattern with braces stands for: "a{0..2}" is a0, a1, a2.

    Raises:
        GalipError: the braces do not match, or the package that knows them is missing.
    """
    if "{" not in pattern:
        return [pattern]
    try:
        from braceexpand import braceexpand
    except ImportError as error:
        raise GalipError(f"{pattern}: braces need the package braceexpand; {remedy('train')}") from error
    try:
        return list(braceexpand(pattern))
    except ValueError as error:
        raise GalipError(f"{pattern}: its braces do not match; write e.g. shards/{{00000..00099}}.tar") from error


def open_source(source: str) -> Pictures | StreamedShards:
    """Open what `data.source` names.

    Args:
        source: a shard folder (or one of its tars); a folder of tars without index, or a pattern of local tars
            ("tars/{00000..00099}.tar", "tars/*.tar"), which are scanned; anything with a scheme ("pipe:", "https://",
            "s3://", "hf://"), which is streamed; or a plain folder of captioned pictures.

    Raises:
        GalipError: there is nothing, or nothing that can be read; the message says what was looked for.
    """
    # Here, because these modules import this one.
    from galip.data.folder import CaptionedFolder
    from galip.data.shard_set import ShardSet
    from galip.data.streaming import StreamedShards

    path = Path(source)
    if path.is_dir():
        if (path / INDEX).exists():
            return ShardSet.indexed(path)
        if tars := sorted(path.glob("*.tar")):
            return ShardSet(tars)
        if splits := sorted(index.parent.name for index in path.glob(f"*/{INDEX}")):
            raise GalipError(f"{path}: its shards are in {', '.join(splits)}; name one, e.g. {path / splits[0]}")
        return CaptionedFolder(path)
    if path.is_file():
        return ShardSet([path])
    if _SCHEME.match(source):
        return StreamedShards(source)
    if "{" in source or glob.has_magic(source):
        tars = [Path(name) for part in expand(source) for name in _matching(part)]
        if not any(tar.exists() for tar in tars):
            raise GalipError(f"{source}: no file matches this pattern; `data.source` must name tars that are there")
        return ShardSet(tars)
    if path.suffix == ".tar":
        raise GalipError(f"{source}: no such file; `data.source` must name tars that are there")
    return CaptionedFolder(path)


def _matching(part: str) -> list[str]:
    """The files of a glob, sorted; a plain name is kept although it may not exist: then it is a broken shard."""
    return sorted(glob.glob(part)) if glob.has_magic(part) else [part]
