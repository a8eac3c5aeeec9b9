"""`galip data prepare cc3m|cc12m --in-place`: tars made elsewhere become a shard folder, and stay as they are.

Beside each tar come the places of its usable records, in the end `index.json` and `report.json`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from galip.data.captions import captions_of, clean_captions
from galip.data.shards import RECORDS_SUFFIX, scan_tar
from galip.data.skips import BROKEN_TEXT, NO_CAPTION, Skipped, Skips
from galip.data_prep.base import TRAIN, Listing
from galip.data_prep.encoding import ImageOptions, UnusableError, check
from galip.data_prep.parallel import Tick, work_on
from galip.data_prep.report import Tally
from galip.data_prep.tars import BROKEN_TAR, TarBlock
from galip.data_prep.unfinished import plan_of, under_way
from galip.data_prep.writing import (
    expected,
    nothing_usable,
    read_report,
    report_of,
    size_and_hash,
    tally_of,
    write_index,
)
from galip.errors import GalipError, InputError
from galip.utils.atomic import write_json
from galip.utils.progress import Progress, no_progress


@dataclass(frozen=True)
class TarTask:
    """A tar to describe: what a worker process is sent."""

    block: TarBlock
    number: int
    folder: Path
    images: ImageOptions


def index_in_place(
    source: Listing, root: Path, images: ImageOptions, workers: int = 1, progress: Progress = no_progress
) -> dict[str, Any]:
    """Describe the tars of a folder; interrupted, the same call goes on with those that are left.

    Args:
        source: from `galip.data_prep.tars.tars`, with `in_place`.
        root: the folder of the tars.
        images: of its values, `min_side` counts.
        workers: processes.
        progress: is told how many images are checked.

    Returns:
        What `report.json` holds.

    Raises:
        GalipError: the folder was described otherwise or has changed since, or has no usable record.
    """
    plan = plan_of(source, {"min_side": images.min_side})
    with under_way(root, plan, in_place=True) as state:
        if state is None:
            return read_report(root)
        tasks = [
            TarTask(block, number, state.folder, images)
            for number, block in enumerate(source.blocks)
            if isinstance(block, TarBlock) and not state.done(number)
        ]
        for _ in work_on(index_tar, tasks, min(workers, len(tasks)), "checking", expected(source, tasks), progress):
            pass
        tally = tally_of(source, state)
        done = [state.done(number) for number in range(len(source.blocks))]
        shards = [shard for block in done if block for shard in block["shards"].get(TRAIN, ())]
        if not shards:
            state.abandon()
            raise GalipError(nothing_usable(source, tally))
        write_index(root, state, TRAIN, shards)
        report = report_of(plan, {TRAIN: shards}, tally, source)
        state.finish(report)
        return report


def index_tar(task: TarTask, tick: Tick) -> None:
    """Check the records of one tar, write their places beside it, then the record that it is done."""
    (tar,) = task.block.tars
    tally = Tally()
    places, captions = _usable(tar, task.images, tally, tick)
    shards = {}
    if places:
        write_json(tar.with_suffix(RECORDS_SUFFIX), {"records": places}, indent=None, begin_in=task.folder)
        shard = {"file": tar.name, "records": len(places), "captions": captions}
        shards[TRAIN] = [shard | size_and_hash(tar)]
    write_json(task.folder / f"{task.number:05d}.json", {"shards": shards, "tally": tally.as_json()})


def _usable(tar: Path, images: ImageOptions, tally: Tally, tick: Tick) -> tuple[list[Any], int]:
    """(places, captions) of the records that can be used."""
    skipped: list[Skipped] = []
    try:
        places = scan_tar(tar, skipped)
    except GalipError:
        tally.skipped.add(BROKEN_TAR, tar.name)
        return [], 0
    tally.skipped.update(Skips.of(skipped))
    kept, count = [], 0
    with tar.open("rb") as file:
        for place in places:
            tick()
            name = f"{tar.name}: {place.key}"
            file.seek(place.text_offset)
            try:
                raw = captions_of(file.read(place.text_size), place.text_suffix)
                captions = clean_captions(raw)
                tally.captions_dropped += len(raw) - len(captions)
                if not captions:
                    tally.skipped.add(NO_CAPTION, name)
                    continue
                file.seek(place.image_offset)
                check(file.read(place.image_size), images)
            except InputError:
                tally.skipped.add(BROKEN_TEXT, name)
            except UnusableError as error:
                tally.skipped.add(error.reason, name)
            else:
                kept.append(place)
                count += len(captions)
    tally.kept += len(kept)
    return kept, count
