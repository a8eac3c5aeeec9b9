"""Small tars of captioned images, and the index beside them."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable
from multiprocessing.connection import Connection
from pathlib import Path

from PIL import Image

from galip.data.shard_set import ShardSet
from galip.data.shards import FORMAT, INDEX, RECORDS_SUFFIX, scan_tar


def image_bytes(number: int, kind: str = "png", size: tuple[int, int] = (8, 8)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (number, 255 - number, 0)).save(file, kind)
    return file.getvalue()


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            about = tarfile.TarInfo(name)
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))
    return path


def record(number: int) -> list[tuple[str, bytes]]:
    """An image of its own colour with two captions that say its number."""
    captions = {"captions": [f"image {number}", f"number {number}"]}
    return [(f"{number:05d}.png", image_bytes(number)), (f"{number:05d}.json", json.dumps(captions).encode())]


def write_shards(folder: Path, per_shard: Iterable[int]) -> list[Path]:
    """Tars with records 0, 1, ..., as many in each as asked."""
    tars, number = [], 0
    for shard, count in enumerate(per_shard):
        members = [member for n in range(number, number + count) for member in record(n)]
        tars.append(write_tar(folder / f"shard-{shard:05d}.tar", members))
        number += count
    return tars


def write_index(folder: Path) -> None:
    """Describe a folder's tars as `galip data prepare` does."""
    shards = []
    for tar in sorted(folder.glob("*.tar")):
        places, content = scan_tar(tar), tar.read_bytes()
        (folder / (tar.stem + RECORDS_SUFFIX)).write_text(json.dumps({"records": places}))
        about = {"records": len(places), "captions": 2 * len(places)}
        shards.append({"file": tar.name, **about, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()})
    totals = {name: sum(shard[name] for shard in shards) for name in ("records", "captions")}
    index = {"format": FORMAT, "source": "test", "split": "train", **totals, "options": {}, "shards": shards}
    (folder / INDEX).write_text(json.dumps(index))


def number_in(caption: str) -> int:
    return int(caption.split()[-1])


def read_in_child(source: ShardSet, numbers: list[int], answers: Connection) -> None:
    """For another process, which must find this function in a module that it can import."""
    answers.send([source.read(number)[1][0] for number in numbers])
