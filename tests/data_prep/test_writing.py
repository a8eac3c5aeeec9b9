"""Shards: what is in them, their bound, their reports, and commands that are killed and run again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from data.trees import captioned, encoded, files_of, noise, put, records_of
from filelock import FileLock
from PIL import Image

from galip.data.open import open_source
from galip.data.shards import INDEX, scan_tar
from galip.data.skips import MAX_EXAMPLES
from galip.data_prep.base import Item, WritingOptions, choose, key_of, listed
from galip.data_prep.encoding import ImageOptions
from galip.data_prep.folder import folder
from galip.data_prep.parallel import Tick, work_on
from galip.data_prep.unfinished import FOLDER
from galip.data_prep.writing import prepare
from galip.errors import GalipError, InputError

SMALL = WritingOptions(shard_mb=0.03)


def test_what_is_written(tmp_path: Path) -> None:
    root = captioned(tmp_path / "in", 9)
    put(root / "sub/ünï.png", noise(99, kind="PNG"))
    put(root / "sub/ünï.txt", "une image\n\n  Ünïcode  &amp; co  \n\x00\x01\n")
    report = prepare(folder(root, SMALL), tmp_path / "out", SMALL)
    out = tmp_path / "out" / "train"
    index = json.loads((out / INDEX).read_text())
    assert {name: index[name] for name in ("format", "source", "split", "records", "captions")} == {
        "format": "galip-shards-1",
        "source": "folder",
        "split": "train",
        "records": 10,
        "captions": 11,
    }
    assert index["options"]["shard_mb"] == 0.03
    assert [shard["file"] for shard in index["shards"]] == sorted(path.name for path in out.glob("*.tar"))
    assert len(index["shards"]) > 1
    for shard in index["shards"]:
        content = (out / shard["file"]).read_bytes()
        assert shard["bytes"] == len(content) <= 30_000
        assert shard["sha256"] == hashlib.sha256(content).hexdigest()
        assert shard["records"] == shard["captions"] or shard["captions"] == shard["records"] + 1
        places = json.loads((out / (Path(shard["file"]).stem + ".records.json")).read_text())["records"]
        assert places == [list(place) for place in scan_tar(out / shard["file"])]
    found = records_of(out)
    assert [record.fields["file"] for record in found] == [f"{number:03d}.jpg" for number in range(9)] + ["sub/ünï.png"]
    assert [record.content for record in found[:9]] == [noise(number) for number in range(9)]
    # Captions stay as they were written; they are cleaned where they are read.
    assert found[9].captions == ["une image", "  Ünïcode  &amp; co  "]
    assert all(set(record.key) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_") for record in found)
    assert report["splits"] == {
        "train": {
            "records": 10,
            "captions": 11,
            "shards": len(index["shards"]),
            "bytes": sum(shard["bytes"] for shard in index["shards"]),
        }
    }
    assert (report["kept"], report["encoded"], report["captions_dropped"], report["skipped"]) == (10, 0, 1, {})
    assert report == json.loads((tmp_path / "out" / "report.json").read_text())
    assert sorted(os.listdir(tmp_path / "out")) == ["report.json", "train"]


def test_training_and_webdataset_read_them(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    prepare(folder(captioned(tmp_path / "in", 7), SMALL), tmp_path / "out", SMALL)
    source = open_source(str(tmp_path / "out" / "train"))
    read = [source.read(number) for number in range(len(source))]
    assert [captions for _, captions in read] == [(f"noise number {number}",) for number in range(7)]
    assert all(image.size == (40, 30) for image, _ in read)
    tars = [str(tar) for tar in sorted((tmp_path / "out" / "train").glob("*.tar"))]
    samples = list(webdataset.WebDataset(tars, shardshuffle=False))
    assert [sample["jpg"] for sample in samples] == [noise(number) for number in range(7)]
    assert json.loads(samples[3]["json"]) == {"captions": ["noise number 3"], "file": "003.jpg"}


def test_what_is_left_out_is_counted_and_named(tmp_path: Path) -> None:
    root = captioned(tmp_path / "in", 3)
    for number in range(MAX_EXAMPLES + 5):
        put(root / f"silent-{number:02d}.png", noise(number, kind="PNG"))
    put(root / "cut.jpg", noise(5)[:-300])
    put(root / "cut.txt", "a cut image")
    put(root / "tiny.png", encoded(Image.new("RGB", (40, 5))))
    put(root / "tiny.txt", "a tiny image")
    put(root / "blank.png", noise(6, kind="PNG"))
    put(root / "blank.txt", " \n\x07\n")
    put(root / "latin.png", noise(7, kind="PNG"))
    put(root / "latin.txt", "caf\xe9".encode("latin-1"))
    put(root / "alone.txt", "no image")
    writing = WritingOptions(images=ImageOptions(min_side=8))
    report = prepare(folder(root, writing), tmp_path / "out", writing)
    silent = [f"silent-{number:02d}.png" for number in range(MAX_EXAMPLES + 5)]
    assert report["skipped"] == {
        "captions are not UTF-8": {"count": 1, "examples": ["latin.png"]},
        "caption file without an image": {"count": 1, "examples": ["alone.txt"]},
        "no caption": {"count": MAX_EXAMPLES + 6, "examples": ["blank.png", *silent][:MAX_EXAMPLES]},
        "unreadable": {"count": 1, "examples": ["cut.jpg"]},
        "too small": {"count": 1, "examples": ["tiny.png"]},
    }
    assert report["splits"]["train"]["records"] == 3
    assert report["captions_dropped"] == 1


def test_a_shard_is_never_above_its_bound_whatever_encoding_makes_of_images(tmp_path: Path) -> None:
    """Noise as JPEG of low quality grows when it is encoded again at high quality, which no plan can foresee."""
    root = tmp_path / "in"
    for number in range(12):
        image = Image.open(put(root / f"{number}.jpg", noise(number, (120, 120))))
        put(root / f"{number}.jpg", encoded(image.convert("L"), "JPEG", quality=5))
        put(root / f"{number}.txt", "noise")
    bound = WritingOptions(shard_mb=0.05)
    source = folder(root, bound)
    assert len(source.blocks) == 1 + (12 - 1) // len(source.blocks[0].listed)  # type: ignore[attr-defined]
    report = prepare(source, tmp_path / "out", bound)
    assert report["splits"]["train"]["shards"] > len(source.blocks)
    names = sorted(path.name for path in (tmp_path / "out" / "train").glob("*.tar"))
    assert names == [f"shard-{number:05d}.tar" for number in range(len(names))]
    assert all(path.stat().st_size <= 50_000 for path in (tmp_path / "out" / "train").glob("*.tar"))
    # One record that is larger has a shard to itself.
    tiny = WritingOptions(shard_mb=0.001)
    prepare(folder(root, tiny), tmp_path / "tiny", tiny)
    assert len(list((tmp_path / "tiny" / "train").glob("*.tar"))) == 12


def test_one_worker_and_two_write_the_same(tmp_path: Path) -> None:
    root = captioned(tmp_path / "in", 20)
    put(root / "bad.jpg", b"nothing")
    put(root / "bad.txt", "bad")
    writing = WritingOptions(shard_mb=0.03, validation=0.25, seed=3, images=ImageOptions(shorter_side=20))
    for workers in (1, 2):
        prepare(folder(root, writing), tmp_path / f"out{workers}", writing, workers)
    assert files_of(tmp_path / "out1") == files_of(tmp_path / "out2")
    assert len(records_of(tmp_path / "out1" / "validation")) == 5


def test_the_choice_for_validation_depends_on_names_and_seed_alone() -> None:
    names = [f"image {number}" for number in range(200)]
    chosen = choose(names, 0.1, 0)
    assert len(chosen) == 20 and chosen == choose(reversed(names), 0.1, 0)
    assert chosen != choose(names, 0.1, 1)
    assert len(choose(names, 0.0001, 0)) == 1
    # More images later: few of those chosen before are given back.
    assert len(chosen & choose([*names, *(f"new {number}" for number in range(20))], 0.1, 0)) >= 15


def test_keys_are_made_of_any_name() -> None:
    assert key_of("000000000009") == "000000000009"
    keys = [key_of(name) for name in ("a/b.jpg", "a-b.jpg", "a.b.jpg", "..", "é" * 300, "x" * 300, "")]
    assert len(set(keys)) == len(keys)
    assert all(0 < len(key) <= 72 and set(key) <= set("abx-jpgicturefed0123456789") for key in keys)


def test_two_items_of_one_key_are_an_error() -> None:
    items = [Item("same", ("caption",), "train", b"", name) for name in ("first", "second")]
    with pytest.raises(GalipError, match="first and second would have the same key, same"):
        listed("folder", items, WritingOptions())


@pytest.mark.parametrize(
    ("options", "message"), [({"shard_mb": 0}, "--shard-mb 0"), ({"validation": 1.0}, "--validation 1")]
)
def test_options_out_of_range_are_named(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        WritingOptions(**options)  # type: ignore[arg-type]


def test_a_finished_folder_is_left_alone_and_other_wishes_are_refused(tmp_path: Path) -> None:
    root, out = captioned(tmp_path / "in", 4), tmp_path / "out"
    report = prepare(folder(root, SMALL), out, SMALL)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert prepare(folder(root, SMALL), out, SMALL) == report
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path != out} == {
        path: time_ for path, time_ in before.items() if path != out
    }
    other = WritingOptions(shard_mb=0.03, images=ImageOptions(min_side=5, quality=90))
    with pytest.raises(GalipError, match="other options, min side 1, quality 95 instead of min side 5, quality 90"):
        prepare(folder(root, other), out, other)
    with pytest.raises(GalipError, match="made from the source folder, not coco"):
        prepare(listed("coco", [Item("a", ("b",), "train", noise(0), "a")], SMALL), out, SMALL)
    put(root / "000.txt", "another caption")
    with pytest.raises(GalipError, match="made from other images or captions than are there now"):
        prepare(folder(root, SMALL), out, SMALL)
    (tmp_path / "taken").mkdir()
    put(tmp_path / "taken" / "thesis.txt", "precious")
    with pytest.raises(GalipError, match="taken: the folder is not empty"):
        prepare(folder(root, SMALL), tmp_path / "taken", SMALL)
    with pytest.raises(GalipError, match="thesis.txt: this is a file"):
        prepare(folder(root, SMALL), tmp_path / "taken" / "thesis.txt", SMALL)
    assert files_of(tmp_path / "taken") == {"thesis.txt": b"precious"}


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("what", ["image", "caption"])
def test_input_that_changed_between_two_runs_is_found(tmp_path: Path, finished: bool, what: str) -> None:
    root = captioned(tmp_path / "in", 4)
    out = tmp_path / "out"
    prepare(folder(root, SMALL), out, SMALL)
    if not finished:  # as after a kill: the plan is there and no report
        plan = json.loads((out / "report.json").read_text())
        put(out / FOLDER / "plan.json", json.dumps(plan))
        (out / "report.json").unlink()
    path = sorted(root.glob("*.jpg" if what == "image" else "*.txt"))[0]
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # as large as before
    os.utime(path, (2e9, 2e9))
    why = "files that it is made from have been written anew" if what == "image" else "other images or captions"
    with pytest.raises(GalipError, match=f"out: .*{why}.*name another folder, or remove this one"):
        prepare(folder(root, SMALL), out, SMALL)
    path.write_bytes(content)
    os.utime(path, (1e9, 1e9))
    with pytest.raises(GalipError) if what == "image" else contextlib.nullcontext():
        prepare(folder(root, SMALL), out, SMALL)


def test_nothing_usable_is_an_error_and_leaves_room_for_another_try(tmp_path: Path) -> None:
    put(tmp_path / "in" / "a.jpg", b"nothing")
    put(tmp_path / "in" / "a.txt", "a caption")
    with pytest.raises(GalipError, match=r"none of its images can be used, nothing .*: unreadable: 1 \(a.jpg"):
        prepare(folder(tmp_path / "in", SMALL), tmp_path / "out", SMALL)
    put(tmp_path / "in" / "a.jpg", noise(0))
    assert prepare(folder(tmp_path / "in", SMALL), tmp_path / "out", SMALL)["splits"]["train"]["records"] == 1


def test_only_one_command_writes_into_a_folder(tmp_path: Path) -> None:
    root, out = captioned(tmp_path / "in", 2), tmp_path / "out"
    (out / FOLDER).mkdir(parents=True)
    with (
        FileLock(out / FOLDER / "lock"),
        pytest.raises(GalipError, match="another galip command is writing"),
    ):
        prepare(folder(root, SMALL), out, SMALL)
    prepare(folder(root, SMALL), out, SMALL)


def command(root: Path, out: Path, workers: int) -> list[str]:
    options = ["--shard-mb", "0.1", "--shorter-side", "250", "--workers", str(workers)]
    return [sys.executable, "-m", "galip", "data", "prepare", "folder", str(root), "-o", str(out), *options]


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks at processes through /proc")
def test_killed_and_run_again_it_writes_the_same_bytes(tmp_path: Path) -> None:
    root = captioned(tmp_path / "in", 60, (900, 900))
    options = WritingOptions(shard_mb=0.1, images=ImageOptions(shorter_side=250))
    prepare(folder(root, options), tmp_path / "whole", options)
    blocks = len(folder(root, options).blocks)
    assert blocks >= 20
    out, random_, kept = tmp_path / "out", random.Random(), []
    for workers, how in ((2, signal.SIGKILL), (2, signal.SIGINT)):
        process = subprocess.Popen(command(root, out, workers), stderr=subprocess.PIPE, start_new_session=True)
        enough = len(kept) + random_.randint(1, blocks // 6)  # at least two thirds are left to do
        while process.poll() is None and len(list((out / FOLDER).glob("?????.json"))) < enough:
            time.sleep(0.005)
        time.sleep(random_.random() * 0.02)  # anywhere within a block
        workers_ = children_of(process.pid)
        # As a terminal does it, Ctrl-C reaches the workers too.
        os.kill(process.pid, how) if how is signal.SIGKILL else os.killpg(process.pid, how)
        assert process.wait(20) == (-9 if how is signal.SIGKILL else 130)
        if how is signal.SIGINT:
            assert process.stderr is not None and process.stderr.read() == b""
        deadline = time.monotonic() + 10
        while any(map(alive, workers_)):
            assert time.monotonic() < deadline, "workers outlive their command"
            time.sleep(0.02)
        assert (out / FOLDER / "plan.json").exists() and not (out / "report.json").exists()
        parts = {path: path.stat().st_mtime_ns for path in (out / FOLDER).glob("?????.json")}
        assert len(parts) > len(kept)
        kept = list(parts)
    parts = {path.stem: path.stat().st_mtime_ns for path in (out / FOLDER).glob("[0-9]*.tar")}
    with pytest.raises(GalipError, match="other options, shard mb 0.1, shorter side 250 instead of"):
        prepare(folder(root, SMALL), out, SMALL)
    subprocess.run(command(root, out, 1), check=True, capture_output=True)
    assert files_of(out) == files_of(tmp_path / "whole")
    written = Counter(path.stat().st_mtime_ns for path in (out / "train").glob("*.tar"))  # two may share a tick
    assert (written & Counter(parts.values())).total() >= len(kept), "finished shards are kept, not written again"


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks at processes through /proc")
def test_ctrl_c_while_workers_are_starting_ends_it(tmp_path: Path) -> None:
    root = captioned(tmp_path / "in", 60, (900, 900))
    process = subprocess.Popen(command(root, tmp_path / "out", 2), stderr=subprocess.PIPE, start_new_session=True)
    while process.poll() is None and len(children_of(process.pid)) < 3:  # two workers, and Python's own tracker
        time.sleep(0.002)
    time.sleep(0.05)  # they import now, and do not listen
    os.killpg(process.pid, signal.SIGINT)
    try:
        assert process.wait(30) == 130
        assert process.stderr is not None and process.stderr.read() == b""
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_killed_while_names_are_given_it_goes_on(tmp_path: Path) -> None:
    """Every file that the end of a preparation writes or moves is a moment to die at."""
    root = captioned(tmp_path / "in", 8)
    prepare(folder(root, SMALL), tmp_path / "whole", SMALL)
    script = """
import os, sys
from pathlib import Path
from galip.data_prep.base import WritingOptions
from galip.data_prep.folder import folder
from galip.data_prep.writing import prepare
writing = WritingOptions(shard_mb=0.03)
source = folder(Path(sys.argv[1]), writing)
left = [0]
def die_at(event, arguments):
    if event in ("os.rename", "os.remove", "os.rmdir"):
        left[0] -= 1
        if left[0] == 0:
            os._exit(9)
sys.addaudithook(die_at)
number = 0
while True:
    number += 1
    if not (pid := os.fork()):
        left[0] = number
        prepare(source, Path(sys.argv[2]) / str(number), writing)
        left[0] = -1
        os._exit(0)
    if os.waitpid(pid, 0)[1] == 0:
        break
    prepare(source, Path(sys.argv[2]) / str(number), writing)
print(number)
"""
    arguments = [sys.executable, "-c", script, str(root), str(tmp_path / "killed")]
    moments = int(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout)
    whole = files_of(tmp_path / "whole")
    assert moments > len(whole)
    assert all(files_of(tmp_path / "killed" / str(number)) == whole for number in range(1, moments + 1))


def fail_on_three(task: int, tick: Tick) -> int:
    tick()
    if task == 3:
        raise GalipError("three")
    return task * task


def die_on_three(task: int, tick: Tick) -> int:
    if task == 3:
        os._exit(7)
    return task


def test_work_in_processes_passes_errors_on() -> None:
    seen: list[int] = []
    with pytest.raises(GalipError, match="three"):
        seen.extend(work_on(fail_on_three, iter([1, 2, 4, 5, 3, *range(6, 200)]), 2, "working"))
    assert len(seen) < 20 and set(seen) <= {task * task for task in range(20)}
    with pytest.raises(GalipError, match="a worker process died"):
        list(work_on(die_on_three, range(1, 9), 2, "working"))
