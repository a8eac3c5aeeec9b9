"""The places of records in a tar, and random access by them."""

from __future__ import annotations

import io
import json
import multiprocessing
import pickle
import tarfile
from pathlib import Path

import pytest
from data.tars import image_bytes, read_in_child, record, write_index, write_shards, write_tar

from galip.data import shard_set
from galip.data.open import open_source
from galip.data.protocol import BrokenRecordError
from galip.data.shard_set import ShardSet
from galip.data.shards import scan_tar
from galip.data.skips import Skipped, Skips
from galip.errors import GalipError


def test_scanning_finds_records_as_webdataset_groups_them(tmp_path: Path) -> None:
    members = {
        "a.JPG": b"image of a",
        "a.txt": b"one\ntwo",
        "lonely.png": b"x" * 700,
        "deep/b.txt": b"three",
        "deep/b.webp": b"image of b",
        "__meta__/c.jpg": b"",
        "__meta__/c.txt": b"",
        "d.json": b'{"caption": "metadata"}',
        "d.txt": b"four",
        "d.jpeg": b"image of d",
        "words.txt": b"no image",
        "e.mask.png": b"",
    }
    tar = write_tar(tmp_path / "a.tar", members.items())
    content, places = tar.read_bytes(), scan_tar(tar)
    members_of = [(content[p.image_offset :][: p.image_size], content[p.text_offset :][: p.text_size]) for p in places]
    assert [(p.key, p.image_suffix, p.text_suffix, *found) for p, found in zip(places, members_of, strict=True)] == [
        ("a", "jpg", "txt", b"image of a", b"one\ntwo"),
        ("deep/b", "webp", "txt", b"image of b", b"three"),
        ("d", "jpeg", "json", b"image of d", b'{"caption": "metadata"}'),
    ]


def test_names_with_dots_and_what_is_left_out(tmp_path: Path) -> None:
    members = {
        "p.v1.jpg": b"1",
        "p.v1.txt": b"one",
        "p.V2.JPG": b"2",
        "p.V2.txt": b"two",
        "q.jpg": b"3",
        "q.mask.png": b"4",
        "q.txt": b"three",
        "r.gif": b"5",
        "r.txt": b"four",
        "s.heic": b"6",
        "s.txt": b"five",
        "t.jpg": b"7",
        "u.txt": b"six",
        "v.flac": b"8",
        "._w.jpg": b"9",
        "._w.txt": b"seven",
        "__MACOSX/x.jpg": b"10",
        "__MACOSX/x.txt": b"eight",
        "sub.dir/y.jpg": b"11",
        "sub.dir/y.txt": b"nine",
        "z.jpg": b"12",
        "z.json": b'{"captions": ["ten"], "big": "' + b"x" * (1 << 22) + b'"}',
        "caf\udce9.jpg": b"13",
        "caf\udce9.txt": b"eleven",
        f"{'l' * 5000}.jpg": b"14",
        f"{'l' * 5000}.txt": b"twelve",
    }
    skipped: list[Skipped] = []
    places = scan_tar(write_tar(tmp_path / "a.tar", members.items()), skipped)
    assert [(place.key, place.image_suffix) for place in places] == [
        ("p.v1", "jpg"),
        ("p.V2", "jpg"),
        ("q", "jpg"),
        ("r", "gif"),
        ("sub.dir/y", "jpg"),
        ("caf\\udce9", "jpg"),
    ]
    assert [(skip.reason, skip.name) for skip in skipped] == [
        ("no caption file", "a.tar: q.mask"),
        ("image type that cannot be read", "a.tar: s.heic"),
        ("no caption file", "a.tar: t"),
        ("caption file without an image", "a.tar: u"),
        ("member too large", "a.tar: z"),
        ("member too large", f"a.tar: {'l' * 80}..."),
    ]
    source = open_source(str(tmp_path))
    assert len(source) == 6 and source.skipped == Skips.of(skipped)
    assert source.captions_at(1) == ("two",) and source.name_of(5).endswith("a.tar:caf\\udce9")


def claim(tar: Path, member: str, size: int) -> None:
    """Let a member's header say another size; nothing else changes."""
    content = bytearray(tar.read_bytes())
    with tarfile.open(tar) as archive:
        found = archive.getmember(member)
    found.size = size
    content[found.offset : found.offset + 512] = found.tobuf(tarfile.GNU_FORMAT)[-512:]
    tar.write_bytes(content)


@pytest.mark.parametrize("size", [1 << 40, 1 << 33, (1 << 63) - 1])
@pytest.mark.parametrize("member", ["00000.png", "00002.png", "00002.json", "00003.json"])
def test_a_member_that_claims_more_than_there_is_costs_one_record(tmp_path: Path, member: str, size: int) -> None:
    tar = write_shards(tmp_path, [4])[0]
    claim(tar, member, size)
    skipped: list[Skipped] = []
    kept = [f"{number:05d}" for number in range(4) if f"{number:05d}" != member[:5]]
    assert [place.key for place in scan_tar(tar, skipped)] == kept
    assert skipped == [Skipped("member too large", f"shard-00000.tar: {member[:5]}")]
    assert len(open_source(str(tar))) == 3


def hole(archive: tarfile.TarFile, about: tarfile.TarInfo) -> None:
    """Add a member of zeros that take no place on the disk."""
    archive.addfile(about)
    assert archive.fileobj is not None
    archive.fileobj.seek(about.size, 1)
    archive.offset += about.size


def test_a_member_of_two_gigabytes_is_left_out(tmp_path: Path) -> None:
    tar = tmp_path / "sparse.tar"
    with tarfile.open(tar, "w") as archive:
        for name, content in [("a.png", b""), ("a.txt", b"a"), *record(1)]:
            about = tarfile.TarInfo(name)
            about.size = len(content) if content else 2 << 30
            archive.addfile(about, io.BytesIO(content)) if content else hole(archive, about)
    skipped: list[Skipped] = []
    assert [place.key for place in scan_tar(tar, skipped)] == ["00001"]
    assert skipped == [Skipped("member too large", "sparse.tar: a")]


def test_a_cut_or_damaged_tar_is_named_wherever_it_is_cut(tmp_path: Path) -> None:
    tar = write_shards(tmp_path, [3])[0]
    content = tar.read_bytes()
    with tarfile.open(tar) as archive:
        headers = [member.offset for member in archive] + [archive.offset]
    for end in [*headers, *(header + 100 for header in headers[:-1]), *(header + 520 for header in headers[:-1])]:
        tar.write_bytes(content[:end])
        with pytest.raises(GalipError, match="shard-00000.tar: (not a whole|truncated)"):
            scan_tar(tar)
    tar.write_bytes(content[: headers[2]] + b"\xff" + content[headers[2] + 1 :])
    with pytest.raises(GalipError, match="damaged after 1 records"):
        scan_tar(tar)


def contents(source: ShardSet) -> list[tuple[tuple[int, ...], tuple[str, ...]]]:
    found = []
    for number in range(len(source)):
        image, captions = source.read(number)
        found.append((image.getpixel((0, 0)), captions))
    return found


EXPECTED = [((n, 255 - n, 0), (f"image {n}", f"number {n}")) for n in range(7)]


def test_every_way_to_name_local_shards_gives_the_same_records(tmp_path: Path) -> None:
    plain, indexed = tmp_path / "plain", tmp_path / "indexed"
    for folder in (plain, indexed):
        write_shards(folder, [3, 2, 2])
    write_index(indexed)
    names = [plain, indexed, plain / "*.tar", plain / "shard-{00000..00002}.tar", indexed / "shard-0000[0-2].tar"]
    for name in names:
        source = open_source(str(name))
        assert isinstance(source, ShardSet)
        assert contents(source) == EXPECTED
        assert source.broken_shards == {}
    one = open_source(str(plain / "shard-00001.tar"))
    assert isinstance(one, ShardSet) and contents(one) == EXPECTED[3:5]
    assert one.name_of(1) == f"{plain / 'shard-00001.tar'}:00004"
    assert open_source(str(indexed)).digest == open_source(str(indexed / "*.tar")).digest != one.digest


def test_an_index_is_believed_without_reading_the_tars(tmp_path: Path) -> None:
    write_shards(tmp_path, [2, 2])
    write_index(tmp_path)
    for tar in tmp_path.glob("*.tar"):
        tar.write_bytes(bytes(tar.stat().st_size))
    assert len(ShardSet.indexed(tmp_path)) == 4
    assert ShardSet.indexed(tmp_path).distinct_captions(7) is None


def test_captions_are_listed_where_they_are_few(tmp_path: Path) -> None:
    write_shards(tmp_path, [3, 2])
    for indexed in (False, True):
        if indexed:
            write_index(tmp_path)
        source = open_source(str(tmp_path))
        assert source.distinct_captions(10) == sorted(f"{w} {n}" for n in range(5) for w in ("number", "image"))
        assert source.distinct_captions(9) is None
        assert source.some_captions(2) == ["image 0", "image 2"]
        assert len(source.some_captions(99)) == 5


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_read_beside_this_one(tmp_path: Path, method: str) -> None:
    write_shards(tmp_path, [4, 3])
    source = open_source(str(tmp_path))
    source.read(0)  # a file is open before the other process starts
    context = multiprocessing.get_context(method)
    answers, end = context.Pipe(duplex=False)
    child = context.Process(target=read_in_child, args=(source, [0, 6] * 50, end))
    child.start()
    here = [source.read(number)[1][0] for number in [1, 5] * 50]
    assert answers.poll(120), "the other process has not answered"
    assert answers.recv() == ["image 0", "image 6"] * 50
    child.join()
    assert here == ["image 1", "image 5"] * 50


def test_few_files_stay_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_set, "_OPEN_FILES", 2)
    write_shards(tmp_path, [1] * 5)
    source = ShardSet(sorted(tmp_path.glob("*.tar")))
    assert [source.read(n % 5)[1][0] for n in range(12)] == [f"image {n % 5}" for n in range(12)]
    assert len(source._files) == 2
    assert contents(pickle.loads(pickle.dumps(source))) == EXPECTED[:5]


def test_broken_records_say_what_is_wrong(tmp_path: Path) -> None:
    members = [
        *[("a.png", b"no image"), ("a.txt", b"a")],
        *[("b.png", image_bytes(1)), ("b.txt", b" \n")],
        *[("c.png", image_bytes(2)), ("c.json", b"{")],
        *record(3),
    ]
    tar = write_tar(tmp_path / "x.tar", members)
    source = ShardSet([tar])
    for number, why in enumerate(["not a readable image .unknown format", "no caption", "not JSON"]):
        with pytest.raises(BrokenRecordError, match=why) as caught:
            source.read(number)
        assert caught.value.name == f"{tar}:{'abc'[number]}" and caught.value.shard is None
    assert source.read(3)[1] == ("image 3", "number 3")
    assert source.distinct_captions(100) == ["a", "image 3", "number 3"]


@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize("gone", [True, False])
def test_a_broken_shard_is_named_and_the_others_are_read(tmp_path: Path, indexed: bool, gone: bool) -> None:
    tars = write_shards(tmp_path, [2, 2, 2])
    if indexed:
        write_index(tmp_path)
    if gone:
        tars[1].unlink()
    else:
        tars[1].write_bytes(tars[1].read_bytes()[:1500])
    source = open_source(str(tmp_path) if indexed else str(tmp_path / "shard-{00000..00002}.tar"))
    assert list(source.broken_shards) == [str(tars[1])]
    assert len(source) == (6 if indexed else 4)
    if indexed:
        with pytest.raises(BrokenRecordError, match="No such file" if gone else "1500 bytes instead of") as caught:
            source.read(2)
        assert caught.value.shard == str(tars[1])
    assert source.read(len(source) - 1)[1] == ("image 5", "number 5")


def test_a_shard_that_breaks_during_the_run(tmp_path: Path) -> None:
    tars = write_shards(tmp_path, [1, 1])
    write_index(tmp_path)
    source = ShardSet.indexed(tmp_path)
    tars[1].write_bytes(b"")
    with pytest.raises(BrokenRecordError, match="ends before its end") as caught:
        source.read(1)
    assert caught.value.shard == str(tars[1]) and list(source.broken_shards) == [str(tars[1])]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "nowhere: no such folder"),
        ("nowhere.tar", "no such file"),
        ("nothing-*.tar", "no file matches"),
        ("nothing-{0..3}.tar", "no file matches"),
        ("words.tar", "no captioned image in its tars .caption file without an image: 1 .words.tar: a.*; a record is"),
        ("no-tar.tar", "no captioned image in its tars .*no-tar.tar: not a whole, uncompressed tar"),
        ("prepared", "its shards are in train, validation; name one, e.g. .*prepared.train"),
        ("newer", "of the format 'galip-shards-9'"),
        ("odd", "not an index of shards"),
        ("lossy", r"shard-00000\.records\.json: missing"),
    ],
)
def test_what_cannot_be_opened_is_named(tmp_path: Path, name: str, message: str) -> None:
    write_tar(tmp_path / "words.tar", [("a.txt", b"a")])
    (tmp_path / "no-tar.tar").write_bytes(b"no tar at all" * 100)
    for split in ("train", "validation", "lossy"):
        folder = tmp_path / "prepared" / split if split != "lossy" else tmp_path / "lossy"
        write_shards(folder, [1])
        write_index(folder)
    (tmp_path / "lossy" / "shard-00000.records.json").unlink()
    for folder, index in (("newer", {"format": "galip-shards-9"}), ("odd", ["shards"])):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "index.json").write_text(json.dumps(index))
    with pytest.raises(GalipError, match=message):
        open_source(str(tmp_path / name))
