"""Opening what `data.source` names."""

from __future__ import annotations

import glob
import re
from pathlib import Path

from galip.data.folder import ARCHIVE, CaptionedFolder, read_folder
from galip.data.patterns import expand
from galip.data.protocol import ImageSource
from galip.data.shard_set import ShardSet
from galip.data.shards import INDEX, tars_in
from galip.data.skips import Skipped, Skips
from galip.data.streaming import StreamedShards
from galip.errors import GalipError

BESIDE_TARS = "image beside tars, not read"

# Two letters at least: "C:" is a drive.
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+:")


def open_source(source: str) -> ImageSource | StreamedShards:
    """Open what `data.source` names.

    Args:
        source: a shard folder (or one of its tars); a folder of tars without index, or a pattern of local tars
            ("tars/{00000..00099}.tar", "tars/*.tar"), which are scanned; anything with a scheme ("pipe:", "https://",
            "s3://", "hf://"), which is streamed; or a plain folder of captioned images.

    Raises:
        GalipError: there is nothing, or nothing that can be read; the message says what was looked for.
    """
    path = Path(source)
    if path.is_dir():
        if (path / INDEX).exists():
            return ShardSet.indexed(path)
        if tars := tars_in(path):
            beside = beside_tars(path)
            shards = ShardSet(tars)
            shards.skipped.update(Skips.of(beside))
            return shards
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


def beside_tars(folder: Path) -> list[Skipped]:
    """What lies beside the tars of a folder and is not read with them.

    Raises:
        GalipError: these are captioned images, and nobody can know which of the two is meant.
    """
    records, skipped = read_folder(folder)
    if captioned := [record.name for record in records if record.captions and not record.missing]:
        tars = [path.name for path in tars_in(folder)]
        raise GalipError(
            f"{folder}: it holds tars ({', '.join(tars[:3])}) and captioned images ({', '.join(captioned[:3])}), "
            f"{len(tars):,} and {len(captioned):,} of them; which are meant? For the tars name "
            f"{folder / '*.tar'}, for the images move the tars elsewhere"
        )
    found = [skip for skip in skipped if skip.reason != ARCHIVE]
    return found + [Skipped(BESIDE_TARS, record.name) for record in records]


def _matching(part: str) -> list[str]:
    """The files of a glob, sorted; a plain name is kept although it may not exist: then it is a broken shard."""
    return sorted(glob.glob(part)) if glob.has_magic(part) else [part]
