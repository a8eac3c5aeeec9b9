"""What a run may learn from: captioned images with numbers. `galip.data.open` opens them."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from galip._deprecated import renamed
from galip.data.skips import Skips
from galip.errors import GalipError


class BrokenRecordError(GalipError):
    """An image or its captions cannot be read; the run goes on with another.

    Attributes:
        name: of the record.
        why: what is wrong with it.
        shard: the shard that is broken as a whole, and the record with it; None where it is this record alone.
    """

    def __init__(self, name: str, why: str, shard: str | None = None) -> None:
        super().__init__(f"{name}: {why}")
        self.name, self.why, self.shard = name, why, shard


class ImageSource(Protocol):
    """Captioned images with numbers: any of them can be read at any time, in any process.

    Attributes:
        skipped: what was left out when the source was opened.
        broken_shards: shards that cannot be read, and why; a record found in one is replaced by another.
    """

    skipped: Skips
    broken_shards: dict[str, str]

    def __len__(self) -> int:
        """How many records there are, broken ones included."""

    def read(self, number: int, needed: int = 0, channels: int = 3) -> tuple[Image.Image, tuple[str, ...]]:
        """Read an image and its cleaned captions.

        Args:
            number: from 0 to len - 1.
            needed: the shorter side, in pixels, that the image will be scaled to; a JPEG several times larger is
                then decoded at reduced size. 0: as large as it is.
            channels: 3: RGB, what is transparent laid on white; 4: RGBA.

        Returns:
            The image in 8 bits, and at least one caption.

        Raises:
            BrokenRecordError: one of the two cannot be had.
        """

    def captions_at(self, number: int) -> tuple[str, ...]:
        """A record's captions as `read` gives them, without decoding its image.

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


def __getattr__(name: str) -> Any:
    return renamed(__name__, name)
