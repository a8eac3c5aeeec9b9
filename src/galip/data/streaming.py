"""Shards that are read from one end to the other: from a bucket, a web server, a command."""

from __future__ import annotations

import hashlib
import random
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from typing import Any, NamedTuple

from galip.data.captions import captions_of, clean_captions, text_that_counts
from galip.data.patterns import expand
from galip.data.protocol import BrokenRecordError
from galip.data.shards import TarRecord, grouped, is_small
from galip.data.skips import NO_CAPTION, Skips
from galip.errors import GalipError, InputError
from galip.utils.extras import remedy

# Read by WebDataset: a command, or curl with its retries, or a plain file. Every other scheme is fsspec's.
_BY_WEBDATASET = ("pipe", "http", "https", "file")
_BLOCK = 512
_TRIED = 3


class StreamedRecord(NamedTuple):
    """A record as it came, its image not yet decoded."""

    name: str
    image: bytes
    captions: tuple[str, ...]


class StreamedShards:
    """WebDataset tars that are read as streams, in another order in every epoch.

    The shards of an epoch are dealt out to processes and their workers, so that none is lost or read twice, and records
    pass a buffer that shuffles them. There are no record numbers: a share that is through its shards begins its next
    epoch at once, whatever the others do, so that no process ever waits for another one's data. And there is no promise
    of order across a restart: a resumed run goes on with freshly shuffled shards, and may see an image of the
    broken-off epoch again before it has seen all others.

    Args:
        pattern: with braces for several shards: "s3://bucket/{00000..01242}.tar", "hf://datasets/...", "https://...",
            "pipe:COMMAND" for a command that writes a tar to its output; "file:" for local ones. Where fsspec can list
            files, "*" works too.

    Attributes:
        urls: the shards.
        skipped: nothing, as a stream is not looked through beforehand.
        broken_shards: nothing, likewise; broken ones are reported while they are read.

    Raises:
        GalipError: a package for the scheme is missing, the braces do not match, or the pattern names nothing.
    """

    def __init__(self, pattern: str) -> None:
        try:
            import webdataset  # type: ignore[import-untyped]  # noqa: F401
        except ImportError as error:
            raise GalipError(f"{pattern}: streams need the package webdataset; {remedy('train')}") from error
        self.pattern = pattern
        self.urls = [url for part in expand(pattern) for url in _matching(part)]
        self.skipped = Skips()
        self.broken_shards: dict[str, str] = {}
        if not self.urls:
            raise GalipError(f"{pattern}: no shard matches this pattern; `data.source` must name shards that are there")

    def epoch(
        self,
        order: str,
        epoch: int,
        share: int = 0,
        shares: int = 1,
        shuffle_buffer: int = 1000,
        note: Callable[[BrokenRecordError], None] = lambda error: None,
    ) -> Iterator[StreamedRecord]:
        """One share's records of an epoch; all shares together have each record once.

        Args:
            order: what the order of shards and records is drawn from, together with the epoch.
            epoch: its number.
            share: which share this is.
            shares: of how many.
            shuffle_buffer: records in the buffer that shuffles them; 1 keeps the order of the shards.
            note: called with every broken record, and with every broken shard (its `shard` is set), of which the
                records that came before are used.
        """
        from webdataset.filters import shuffle  # type: ignore[import-untyped]

        records = self._readable(self._share(order, epoch, share, shares), note)
        yield from shuffle(shuffle_buffer, rng=random.Random(f"{order}/{epoch}/{share}"))(records)

    def forever(
        self,
        order: str,
        share: int = 0,
        shares: int = 1,
        shuffle_buffer: int = 1000,
        note: Callable[[BrokenRecordError], None] = lambda error: None,
    ) -> Iterator[StreamedRecord]:
        """One share's records of one epoch after the other.

        Raises:
            GalipError: no record comes any more.
        """
        tried: set[str] = set()
        broken: list[str] = []

        def noting(error: BrokenRecordError) -> None:
            if error.shard is not None:
                broken.append(error.shard)
            note(error)

        for number in count():
            broken.clear()
            empty = True
            for record in self.epoch(order, number, share, shares, shuffle_buffer, noting):
                empty = False
                yield record
            # A share of broken shards alone will have better ones in a later epoch, as long as there are any.
            tried = tried | set(self._share(order, number, share, shares)) if empty else set()
            if empty and (not broken or len(tried) == len(self.urls)):
                raise GalipError(
                    f"{self.pattern}: no captioned image in share {share} of {shares} of its shards; "
                    "a record is KEY.jpg next to KEY.txt or KEY.json"
                )

    def distinct_captions(self, limit: int) -> list[str] | None:
        """None: a stream's captions are not known before it has been read."""
        return None

    def some_captions(self, count: int) -> list[str]:
        """First captions of the first `count` records, each caption once.

        Raises:
            GalipError: the first shards cannot be read.
        """
        found: dict[str, None] = {}
        broken: list[BrokenRecordError] = []
        taken = 0
        for url in self.urls:
            for record in self._readable([url], broken.append):
                found[record.captions[0]] = None
                taken += 1
                if taken == count:
                    return list(found)
            if not taken and sum(error.shard is not None for error in broken) >= _TRIED:
                break
        if not taken:
            why = broken[0] if broken else "a record is KEY.jpg next to KEY.txt or KEY.json"
            raise GalipError(f"{self.pattern}: no captioned image in its first shards ({why})")
        return list(found)

    @property
    def digest(self) -> str:
        """SHA-256 of the shards' names: what they hold is not known."""
        return hashlib.sha256("\n".join(self.urls).encode()).hexdigest()

    def _share(self, order: str, epoch: int, share: int, shares: int) -> list[str]:
        urls = list(self.urls)
        random.Random(f"{order}/{epoch}").shuffle(urls)
        return urls[share::shares]

    def _readable(self, urls: list[str], note: Callable[[BrokenRecordError], None]) -> Iterator[StreamedRecord]:
        for url in urls:
            for group in _groups(url, note):
                usable = [record for record in group if record.image and record.texts]
                for record in usable:
                    try:
                        yield _record(url, record)
                    except BrokenRecordError as error:
                        note(error)
                if not usable and (why := next((record.left_out for record in group if record.left_out), None)):
                    note(BrokenRecordError(f"{url}:{why.name}", why.reason))


def _record(url: str, record: TarRecord[bytes]) -> StreamedRecord:
    """A captioned image of a stream.

    Raises:
        BrokenRecordError: it has no caption that can be read.
    """
    name = f"{url}:{record.key}"
    assert record.image
    counting = text_that_counts(record.texts) or ""
    try:
        captions = clean_captions(captions_of(record.texts[counting], counting))
    except InputError as error:
        raise BrokenRecordError(name, str(error)) from error
    if not captions:
        raise BrokenRecordError(name, NO_CAPTION)
    return StreamedRecord(name, record.image[1], captions)


class _Watched:
    """A stream that knows whether the tar in it has come to its end."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self._head = self._tail = b""

    def read(self, size: int = -1) -> bytes:
        data: bytes = self.stream.read(size)
        self._head = self._head or data[:_BLOCK]
        self._tail = (self._tail + data)[-_BLOCK:]
        return data

    def finish(self) -> None:
        """Read what is left, and close.

        Raises:
            ValueError: the tar is damaged in the middle or ends before its end, which tarfile takes for the end.
            OSError: the command behind the stream failed.
        """
        plain = self._head[257:262] == b"ustar"  # a compressed tar has check sums of its own
        while data := self.read(1 << 20):
            if plain and data.strip(b"\0"):
                raise ValueError("damaged in the middle")
        if plain and self._tail != bytes(_BLOCK):
            raise ValueError("ends before its end")
        self.stream.close()


def _groups(url: str, note: Callable[[BrokenRecordError], None]) -> Iterator[list[TarRecord[bytes]]]:
    """The records of one shard, those that WebDataset takes for one together, up to where it breaks, if it does."""
    stream = None
    try:
        stream = _Watched(_opened(url))
        with tarfile.open(fileobj=stream, mode="r|*") as archive:  # type: ignore[call-overload]
            yield from grouped(_members(archive))
        stream.finish()
    except Exception as error:  # every file system and every command fails in its own way
        note(BrokenRecordError(url, _why(error, stream), shard=url))
    finally:
        if stream is not None:
            with suppress(Exception):  # a command that is stopped half-way fails, and may
                stream.stream.close()


def _members(archive: tarfile.TarFile) -> Iterator[tuple[str, bytes | None]]:
    """Names and contents of a tar's files; None for what is too large."""
    while (member := archive.next()) is not None:
        if member.isreg():
            content = archive.extractfile(member) if is_small(member) else None
            yield member.name, content.read() if content else None
        archive.members = []  # type: ignore[attr-defined]  # otherwise it keeps every header


def _opened(url: str) -> Any:
    scheme = url.partition(":")[0].lower()
    if scheme in _BY_WEBDATASET:
        from webdataset.gopen import gopen  # type: ignore[import-untyped]

        return gopen(url)
    import fsspec  # type: ignore[import-untyped]

    return fsspec.open(url, "rb").open()


def _why(error: Exception, stream: _Watched | None) -> str:
    """What went wrong, without the stream that WebDataset adds to the error's arguments."""
    if stream is not None and hasattr(stream.stream, "proc"):
        with suppress(Exception):
            stream.stream.close()
        status = stream.stream.proc.returncode
        if status and status not in (141, -13):  # these two say that we stopped reading
            return f"the command that reads it ended with status {status}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error.args[0]) if error.args else repr(error)


def _matching(url: str) -> list[str]:
    """The shards that a part of a pattern names."""
    scheme = url.partition(":")[0].lower()
    if scheme in _BY_WEBDATASET:
        return [url]
    import fsspec

    try:
        fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        raise GalipError(f"{url}: {error}") from error
    except ValueError as error:
        raise GalipError(f"{url}: no known scheme ({error}); use pipe:, https:// or one that fsspec knows") from error
    if "*" not in url:
        return [url]
    try:
        files, path = fsspec.core.url_to_fs(url)
        return [files.unstrip_protocol(found) for found in sorted(files.glob(path))]
    except Exception as error:  # every file system fails in its own way
        raise GalipError(
            f"{url}: its files cannot be listed ({error}); is the address right, access allowed?"
        ) from error
