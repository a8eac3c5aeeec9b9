"""The state of a preparation that is under way, so that the same command goes on where it was.

In OUT there is a hidden folder until all is done. It holds `plan.json` (what is being prepared, and how), and for every
finished block its shards and a `NNNNN.json`, written last. When all blocks are finished, shards get their final names,
then come the indices, then the report; each of these steps can be repeated.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from galip.data.shards import FORMAT
from galip.data_prep.base import Listing, WritingOptions, digest_of
from galip.data_prep.report import REPORT
from galip.errors import GalipError
from galip.utils.atomic import write_json

FOLDER = ".unfinished"
_PLAN = "plan.json"


class Unfinished:
    """The hidden folder of a preparation.

    Args:
        out: what is being prepared.
        plan: from `plan_of`.
    """

    def __init__(self, out: Path, plan: dict[str, Any]) -> None:
        self.out, self.plan, self.folder = out, plan, out / FOLDER

    def done(self, block: int) -> dict[str, Any] | None:
        """What was recorded of a finished block; None while it is not."""
        path = self.folder / f"{block:05d}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def finish(self, report: dict[str, Any]) -> None:
        """Write the report and remove the folder."""
        write_json(self.out / REPORT, report, begin_in=self.folder)
        self.abandon()

    def abandon(self) -> None:
        """Remove the folder and all that is in it."""
        shutil.rmtree(self.folder)


def plan_of(source: Listing, options: dict[str, Any]) -> dict[str, Any]:
    """What a preparation is: equal plans give equal bytes.

    Args:
        source: what is prepared.
        options: of the writing, as JSON.
    """
    return {
        "format": FORMAT,
        "source": source.name,
        "options": source.options | options,
        "input": digest_of([digest_of(block.identity()) for block in source.blocks]),
        **({"modified": source.modified} if source.modified else {}),
    }


def recorded(source: Listing, writing: WritingOptions) -> dict[str, Any]:
    """All options of a preparation that writes shards."""
    return source.options | writing.recorded()


@contextmanager
def under_way(out: Path, plan: dict[str, Any], in_place: bool = False) -> Iterator[Unfinished | None]:
    """Begin a preparation or go on with it; nobody else can until the end.

    Args:
        out: the folder to prepare; it may not exist yet.
        plan: from `plan_of`.
        in_place: the folder holds the shards already, made elsewhere.

    Yields:
        The state, or None if everything is finished already.

    Raises:
        GalipError: the folder holds something else, was prepared differently, or is being prepared right now.
    """
    if out.exists() and not out.is_dir():
        raise GalipError(f"{out}: this is a file; name the folder that the shards shall go to")
    state = Unfinished(out, plan)
    begun = (out / REPORT).exists() or (state.folder / _PLAN).exists()
    if not begun and not in_place and out.is_dir() and any(path.name != FOLDER for path in out.iterdir()):
        raise GalipError(f"{out}: the folder is not empty, and holds no shards of galip's; name another one")
    state.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(state.folder / "lock", timeout=0):
            for path in (out / REPORT, state.folder / _PLAN):
                if path.exists():
                    _compare(out, _read(path), plan)
            if (out / REPORT).exists():
                state.abandon()
                yield None
                return
            write_json(state.folder / _PLAN, plan)
            yield state
    except Timeout:
        raise GalipError(f"{out}: another galip command is writing there; wait for it") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found["options"], dict):
            raise TypeError("options")
        return {key: found[key] for key in ("format", "source", "options", "input")} | {
            "modified": found.get("modified")  # missing in a folder that version 0.1 has made
        }
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise GalipError(f"{path}: not written by galip; name another folder, or remove this one") from error


def _compare(out: Path, was: dict[str, Any], plan: dict[str, Any]) -> None:
    """Raise where the folder was, or is being, made of something else or otherwise."""
    remedy = "name another folder, or remove this one"
    if was["format"] != plan["format"]:
        raise GalipError(f"{out}: its format is {was['format']}, but this version writes {plan['format']}; {remedy}")
    if was["source"] != plan["source"]:
        raise GalipError(f"{out}: it was made from the source {was['source']}, not {plan['source']}; {remedy}")
    if was["options"] != plan["options"]:
        names = sorted(
            name for name in was["options"] | plan["options"] if was["options"].get(name) != plan["options"].get(name)
        )
        before, now = (
            ", ".join(f"{name.replace('_', ' ')} {options.get(name, 'not given')}" for name in names)
            for options in (was["options"], plan["options"])
        )
        raise GalipError(f"{out}: it was made with other options, {before} instead of {now}; {remedy}")
    if was["input"] != plan["input"]:
        raise GalipError(f"{out}: it was made from other images or captions than are there now; {remedy}")
    if was["modified"] and was["modified"] != plan.get("modified"):
        raise GalipError(f"{out}: files that it is made from have been written anew since it was begun; {remedy}")
