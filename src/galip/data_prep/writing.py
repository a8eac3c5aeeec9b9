"""`galip data prepare`: items -> shards, in parallel, resumable, the same bytes whoever wrote them and how often begun.

Every block becomes shards of its own, so that blocks need nothing of each other. They get their final names, numbered
without gaps, when all are finished.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from galip.data.captions import clean_captions
from galip.data.shards import FORMAT, INDEX, RECORDS_SUFFIX, scan_tar
from galip.data.skips import MISSING, NO_CAPTION, Skipped, Skips
from galip.data_prep.base import Block, Item, Listing, WritingOptions
from galip.data_prep.encoding import UNREADABLE, UnusableError, encode
from galip.data_prep.parallel import Tick, work_on
from galip.data_prep.report import Tally
from galip.data_prep.unfinished import Unfinished, plan_of, under_way
from galip.errors import GalipError
from galip.utils.atomic import atomic_file, write_json
from galip.utils.progress import Progress, no_progress

_TAR_BLOCK, _TAR_RECORD = 512, 10240  # members begin at multiples of the first, a tar's size is one of the second


@dataclass(frozen=True)
class Task:
    """A block to write: what a worker process is sent."""

    block: Block
    number: int
    folder: Path
    writing: WritingOptions


def prepare(
    source: Listing, out: Path, writing: WritingOptions, workers: int = 1, progress: Progress = no_progress
) -> dict[str, Any]:
    """Write the shards of a source, one folder for each split, and a report.

    Interrupted at any moment, the same call goes on from the shards that are finished. The result does not depend on
    interruptions or on the number of workers.

    Args:
        source: what to write.
        out: the folder that gets OUT/SPLIT/ and OUT/report.json.
        writing: size of shards, and how images are checked and encoded.
        workers: processes.
        progress: is told how many images are written.

    Returns:
        What `report.json` holds.

    Raises:
        GalipError: `out` holds something else or was made otherwise, or the source has no usable image at all.
    """
    plan = plan_of(source, writing.recorded())
    with under_way(out, plan) as state:
        if state is None:
            return read_report(out)
        tasks = [Task(block, n, state.folder, writing) for n, block in enumerate(source.blocks) if not state.done(n)]
        for _ in work_on(write_block, tasks, min(workers, len(tasks)), "writing", expected(source, tasks), progress):
            pass
        return _finish(state, source)


def read_report(out: Path) -> dict[str, Any]:
    """The report of a finished folder."""
    found: dict[str, Any] = json.loads((out / "report.json").read_text(encoding="utf-8"))
    return found


def expected(source: Listing, tasks: list[Any]) -> int | None:
    """How many images the tasks' blocks hold; None if one of them does not know."""
    counts = [task.block.expected for task in tasks]
    return sum(filter(None, counts)) if None not in counts else None


def _finish(state: Unfinished, source: Listing) -> dict[str, Any]:
    """Final names, indices, report. Every step may have been taken already by a command that was killed."""
    tally = tally_of(source, state)
    splits: dict[str, list[dict[str, Any]]] = {}
    for number in range(len(source.blocks)):
        done = state.done(number)
        assert done is not None
        for split, shards in done["shards"].items():
            splits.setdefault(split, []).extend(shards)
    if not splits:
        state.abandon()
        raise GalipError(nothing_usable(source, tally))
    for split, shards in splits.items():
        folder = state.out / split
        folder.mkdir(exist_ok=True)
        for number, shard in enumerate(shards):
            name = f"shard-{number:05d}"
            for suffix in (RECORDS_SUFFIX, ".tar"):
                part = state.folder / (shard["file"] + suffix)
                if part.exists():
                    part.replace(folder / (name + suffix))
            shard["file"] = name + ".tar"
        write_index(folder, state, split, shards)
    report = report_of(state.plan, splits, tally, source)
    state.finish(report)
    return report


def tally_of(source: Listing, state: Unfinished) -> Tally:
    """All counts of a preparation whose blocks are done."""
    tally = Tally()
    tally.skipped.update(Skips.of(source.skipped))
    for number in range(len(source.blocks)):
        done = state.done(number)
        assert done is not None
        tally.add(Tally.from_json(done["tally"]))
    return tally


def nothing_usable(source: Listing, tally: Tally) -> str:
    """What is said where every image was left out."""
    why = "; ".join(tally.skipped.described())
    return f"{source.name}: none of its images can be used, nothing is written: {why}"


def write_index(folder: Path, state: Unfinished, split: str, shards: list[dict[str, Any]]) -> None:
    """`index.json`, the file that makes a shard folder complete."""
    index = {
        "format": FORMAT,
        "source": state.plan["source"],
        "split": split,
        "records": sum(shard["records"] for shard in shards),
        "captions": sum(shard["captions"] for shard in shards),
        "options": state.plan["options"],
        "shards": shards,
    }
    write_json(folder / INDEX, index, begin_in=state.folder)


def report_of(
    plan: dict[str, Any], splits: dict[str, list[dict[str, Any]]], tally: Tally, source: Listing
) -> dict[str, Any]:
    """What `report.json` holds: the plan, sizes of splits, what was skipped, notes of the source."""
    sums = {
        split: {
            **{what: sum(shard[what] for shard in shards) for what in ("records", "captions")},
            "shards": len(shards),
            "bytes": sum(shard["bytes"] for shard in shards),
        }
        for split, shards in splits.items()
    }
    return {**plan, "splits": sums, **tally.as_json(), "notes": source.notes}


def write_block(task: Task, tick: Tick) -> None:
    """Write the shards of one block beside each other, then the record that it is done."""
    tally = Tally()
    shards: dict[str, _ShardWriter] = {}
    with ExitStack() as stack:
        for item in task.block.items():
            if isinstance(item, Skipped):
                tally.skipped.add(item.reason, item.name)
            elif record := _record(item, task.writing, tally):
                if item.split not in shards:
                    name = f"{task.number:05d}-{item.split}"
                    shards[item.split] = stack.enter_context(_ShardWriter(task.folder, name, task.writing.shard_bytes))
                shards[item.split].add(*record)
            tick()
        files = {split: writer.close() for split, writer in shards.items()}
    write_json(task.folder / f"{task.number:05d}.json", {"shards": files, "tally": tally.as_json()})


def _record(item: Item, writing: WritingOptions, tally: Tally) -> tuple[str, str, bytes, bytes, int] | None:
    """(key, image suffix, image, text, captions) of an item; None, and counted, where it cannot be used."""
    captions = [caption for caption in item.captions if clean_captions([caption])]
    tally.captions_dropped += len(item.captions) - len(captions)
    if not captions:
        tally.skipped.add(NO_CAPTION, item.name)
        return None
    try:
        content = item.image if isinstance(item.image, bytes) else item.image.read_bytes()
        encoded = encode(content, writing.images, item.box)
    except OSError as error:
        tally.skipped.add(MISSING if isinstance(error, FileNotFoundError) else UNREADABLE, item.name)
        return None
    except UnusableError as error:
        tally.skipped.add(error.reason, item.name)
        return None
    if encoded.kept:
        tally.kept += 1
    else:
        tally.encoded += 1
    # Halves of surrogate pairs become JSON's own escapes.
    text = json.dumps({"captions": captions, **item.extra}, ensure_ascii=False).encode("utf-8", "backslashreplace")
    return item.key, encoded.suffix, encoded.content, text, len(captions)


class _ShardWriter:
    """The shards of one block and split, one after the other; what is unfinished at an error is removed.

    Args:
        folder: where they are written.
        name: their names begin with it.
        max_bytes: no shard is larger, unless one record alone is.
    """

    def __init__(self, folder: Path, name: str, max_bytes: int) -> None:
        self.folder, self.name, self.max_bytes = folder, name, max_bytes
        self.finished: list[dict[str, Any]] = []
        self._open: ExitStack | None = None  # of the shard that is being written
        self._bytes = self._records = self._captions = 0

    def __enter__(self) -> _ShardWriter:
        return self

    def __exit__(self, *error: Any) -> None:
        if self._open is not None:
            self._open.__exit__(*error)

    def add(self, key: str, suffix: str, image: bytes, text: bytes, captions: int) -> None:
        """Write one record."""
        members = ((f"{key}.{suffix}", image), (f"{key}.json", text))
        size = sum(_TAR_BLOCK + _up(len(content), _TAR_BLOCK) for _, content in members)
        if self._open and _up(self._bytes + size + 2 * _TAR_BLOCK, _TAR_RECORD) > self.max_bytes:
            self._end()
        if self._open is None:
            self._begin()
        for name, content in members:
            member = tarfile.TarInfo(name)  # time, owner and rights are the same for all
            member.size = len(content)
            self._tar.addfile(member, io.BytesIO(content))
        self._bytes += size
        self._records += 1
        self._captions += captions

    def close(self) -> list[dict[str, Any]]:
        """End the last shard; the shards as an index lists them, but without ".tar"."""
        if self._open is not None:
            self._end()
        return self.finished

    def _begin(self) -> None:
        self._open = ExitStack()
        self._stem = f"{self.name}-{len(self.finished):03d}"
        self._part = self._open.enter_context(atomic_file(self.folder / f"{self._stem}.tar"))
        self._tar = self._open.enter_context(tarfile.TarFile(self._part, "w", format=tarfile.USTAR_FORMAT))
        self._bytes = self._records = self._captions = 0

    def _end(self) -> None:
        assert self._open is not None
        self._tar.close()
        write_json(self.folder / (self._stem + RECORDS_SUFFIX), {"records": scan_tar(self._part)}, indent=None)
        shard = {"file": self._stem, "records": self._records, "captions": self._captions}
        self.finished.append(shard | size_and_hash(self._part))
        self._open.close()
        self._open = None


def size_and_hash(path: Path) -> dict[str, Any]:
    """{"bytes", "sha256"} of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
        return {"bytes": file.tell(), "sha256": digest.hexdigest()}


def _up(size: int, unit: int) -> int:
    return -(-size // unit) * unit
