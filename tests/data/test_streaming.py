"""Shards read as streams: nothing lost, nothing twice, what is broken is named."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path

import fsspec
import pytest
from data.tars import image_bytes, number_in, write_shards, write_tar

from galip.data.open import open_source
from galip.data.protocol import BrokenRecordError
from galip.data.streaming import StreamedShards
from galip.errors import GalipError


def stream(pattern: str) -> StreamedShards:
    source = open_source(pattern)
    assert isinstance(source, StreamedShards)
    return source


def numbers(records: Iterator[object]) -> list[int]:
    return [number_in(record.captions[0]) for record in records]  # type: ignore[attr-defined]


@pytest.fixture
def shards(tmp_path: Path) -> str:
    """Seven shards of 1 to 7 records, 28 in all."""
    write_shards(tmp_path, range(1, 8))
    return f"file:{tmp_path}/shard-{{00000..00006}}.tar"


@pytest.mark.parametrize("shares", [1, 4, 7])
def test_the_shares_of_an_epoch_have_each_record_once(shards: str, shares: int) -> None:
    source = stream(shards)
    for epoch in range(3):
        parts = [numbers(source.epoch("0", epoch, share, shares, shuffle_buffer=5)) for share in range(shares)]
        assert sorted(number for part in parts for number in part) == list(range(28))
        assert all(parts)


def test_shards_and_records_are_shuffled_anew_in_every_epoch(shards: str) -> None:
    source = stream(shards)
    epochs = [tuple(numbers(source.epoch(order, epoch))) for order in ("0", "1") for epoch in range(2)]
    assert len(set(epochs)) == 4
    assert tuple(numbers(source.epoch("0", 1))) == epochs[1]
    in_order = numbers(source.epoch("0", 0, shuffle_buffer=1))
    shard_of = [shard for shard in range(7) for _ in range(shard + 1)]
    runs = [shard_of[number] for number in in_order]
    assert runs != sorted(runs) and sum(a != b for a, b in pairwise(runs)) == 6


def test_a_share_goes_on_alone_epoch_after_epoch(shards: str) -> None:
    source = stream(shards)
    first = numbers(source.epoch("0", 0, 2, 7))
    later = numbers(islice(source.forever("0", 2, 7), 40))
    assert later[: len(first)] == first and len(later) == 40


def test_commands_web_addresses_and_buckets_give_the_same_records(tmp_path: Path, shards: str) -> None:
    memory = fsspec.filesystem("memory")
    for tar in tmp_path.glob("*.tar"):
        memory.pipe(f"/reading-test/{tar.name}", tar.read_bytes())
        (tmp_path / f"{tar.name}.gz").write_bytes(gzip.compress(tar.read_bytes()))
    patterns = [
        shards,
        f"pipe:cat {tmp_path}/shard-{{00000..00006}}.tar",
        f"pipe:gunzip < {tmp_path}/shard-{{00000..00006}}.tar.gz",
        f"file:{tmp_path}/shard-{{00000..00006}}.tar.gz",
        "memory://reading-test/shard-{00000..00006}.tar",
        "memory://reading-test/*.tar",
        f"local://{tmp_path}/*.tar",
    ]
    for pattern in patterns:
        source, broken = stream(pattern), []
        records = list(source.epoch("0", 0, note=broken.append))
        assert len(source.urls) == 7 and broken == []
        assert sorted(numbers(iter(records))) == list(range(28))
        assert all(record.image == image_bytes(number_in(record.captions[0])) for record in records)
    assert len({stream(pattern).digest for pattern in patterns}) == len(patterns)
    memory.rm("/reading-test", recursive=True)


def epoch_with_notes(pattern: str) -> tuple[list[int], list[BrokenRecordError]]:
    notes: list[BrokenRecordError] = []
    return sorted(numbers(stream(pattern).epoch("0", 0, note=notes.append))), notes


@pytest.mark.parametrize("how", ["file:{}/shard-{{00000..00002}}.tar", "pipe:cat {}/shard-{{00000..00002}}.tar"])
@pytest.mark.parametrize("damage", ["missing", "inside a member", "between members", "header", "empty"])
def test_a_broken_shard_is_named_and_the_others_are_read(tmp_path: Path, how: str, damage: str) -> None:
    shard = write_shards(tmp_path, [2, 40, 2])[1]
    content = shard.read_bytes()
    if damage == "missing":
        shard.unlink()
    else:
        damaged = {  # every member here is a header and one block
            "inside a member": content[: 2 * 1024 + 700],
            "between members": content[: 2 * 1024],
            "header": content[: 4 * 1024] + b"\xff" * 512 + content[4 * 1024 + 512 :],
            "empty": b"",
        }
        shard.write_bytes(damaged[damage])
    found, notes = epoch_with_notes(how.format(tmp_path))
    assert [note.shard for note in notes] == [stream(how.format(tmp_path)).urls[1]]
    assert set(found) >= {0, 1, 42, 43}
    assert Counter(found).most_common(1)[0][1] == 1
    why = {"inside a member": "unexpected end", "between members": "ends before its end", "header": "damaged"}
    if damage in why:
        assert why[damage] in notes[0].why
        assert 2 in found
    elif damage == "missing":
        assert ("ended with status 1" if how.startswith("pipe") else "No such file") in notes[0].why


def test_a_command_that_fails_after_a_whole_tar_is_named(tmp_path: Path) -> None:
    tar = write_shards(tmp_path, [2])[0]
    _, notes = epoch_with_notes(f"pipe:cat {tar}; exit 3")
    assert [note.why for note in notes] == ["the command that reads it ended with status 3"]


def test_broken_records_are_noted_and_passed_over(tmp_path: Path) -> None:
    members = [
        *[("a.png", b""), ("a.txt", b" ")],
        *[("b.png", b""), ("b.json", b"{")],
        *[("lonely.png", b""), ("words.txt", b""), ("strange.heic", b""), ("strange.txt", b"d"), ("README.md", b"")],
        *[("c.jpg", b"image"), ("c.mask.png", b""), ("c.txt", b"not\nthis"), ("c.json", b'{"caption": "caption\\n1"}')],
    ]
    tar = write_tar(tmp_path / "x.tar", members)
    found, notes = epoch_with_notes(f"file:{tar}")
    assert found == [1]
    assert [(note.name, note.shard) for note in notes] == [
        (f"file:{tar}:{name}", None) for name in ("a", "b", "lonely", "words", "strange.heic")
    ]
    why = [note.why for note in notes]
    assert "no caption" in why[0] and "not JSON" in why[1]
    assert why[2:] == ["no caption file", "caption file without an image", "image type that cannot be read"]


def test_a_share_without_a_record_is_an_error_not_a_hang(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "x.tar", [("a.txt", json.dumps("").encode())])
    with pytest.raises(GalipError, match="no captioned image in share 0 of 1"):
        next(stream(f"file:{tar}").forever("0"))


def test_captions_of_a_stream_come_from_its_beginning(shards: str, tmp_path: Path) -> None:
    source = stream(shards)
    assert source.some_captions(4) == [f"image {number}" for number in range(4)]
    assert source.distinct_captions(10**9) is None and not source.broken_shards and not source.skipped
    assert len(source.some_captions(99)) == 28
    with pytest.raises(GalipError, match="no captioned image in its first shards .*No such file"):
        stream(f"file:{tmp_path}/gone-{{0..9999}}.tar").some_captions(1)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("nonsense://bucket/x.tar", "no known scheme"),
        ("memory://nowhere/*.tar", "no shard matches"),
        ("file:x-{0..3.tar", "braces do not match"),
    ],
)
def test_what_cannot_be_streamed_is_named(pattern: str, message: str) -> None:
    with pytest.raises(GalipError, match=message):
        open_source(pattern)


def test_a_missing_package_is_named() -> None:
    for package, pattern in (("webdataset", "pipe:true"), ("braceexpand", "x-{0..1}.tar")):
        program = f"import sys; sys.modules[{package!r}] = None\nfrom galip.data.open import open_source\n"
        program += f"try: open_source({pattern!r})\nexcept Exception as error: print(type(error).__name__, error)"
        answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        assert answer.startswith(f"GalipError {pattern}: ") and f"package {package}; pip install" in answer
