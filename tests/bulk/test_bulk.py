"""Large jobs: what is drawn, what is refused, and commands that are killed and run again."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from cli.running import run as command
from data.trees import files_of, put, records_of
from PIL import Image
from serving.ray.ray_command import descendants, title

import galip
from galip.bulk.blocks import GenerationOptions, list_blocks
from galip.bulk.job import BulkJob, run
from galip.data.open import open_source
from galip.data_prep.unfinished import FOLDER
from galip.errors import GalipError, InputError
from galip.model_repo.resolve import weights_of
from galip.serving.model_worker import ModelSpec

CAPTIONS = "a red heart\n\n  a blue   car \na &amp; b\n" + "".join(f"a picture of {number}\n" for number in range(5))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("models") / "tiny")


def job(model: Path, captions: Path, out: Path, per_shard: int = 3, **options: Any) -> BulkJob:
    spec = ModelSpec(str(model), None, "torch", "cpu", 1, 4)
    return BulkJob(captions, out, GenerationOptions(spec, weights_of(str(model)), **options), per_shard)


def same(content: bytes, picture: Image.Image) -> bool:
    """Whether two pictures are the same up to rounding: a batch of another size adds in another order."""
    found = np.asarray(Image.open(io.BytesIO(content)), dtype=np.int16)
    return bool(np.abs(found - np.asarray(picture, dtype=np.int16)).max() <= 1)


# ---- what is drawn


def test_every_line_is_the_picture_of_its_caption_and_seed(model: Path, tmp_path: Path) -> None:
    captions = put(tmp_path / "captions.txt", CAPTIONS)
    report = run(job(model, captions, tmp_path / "out", seed=7), workers=1)
    assert report["skipped"] == {}
    records = records_of(tmp_path / "out" / "drawn")
    lines = [1, 3, 4, 5, 6, 7, 8, 9]
    cleaned = ["a red heart", "a blue car", "a & b", *(f"a picture of {number}" for number in range(5))]
    assert [record.key for record in records] == [f"{line:09d}" for line in lines]
    assert [record.captions for record in records] == [[caption] for caption in cleaned]
    seeds = [7 + line - 1 for line in lines]
    assert [record.fields["seed"] for record in records] == seeds
    assert {record.fields["weights"] for record in records} == {weights_of(str(model))}
    pipe = galip.load(model, engine="torch", device="cpu")
    pipe.set_progress_bar_config(disable=True)
    expected = pipe(cleaned, seed=seeds).images
    assert all(same(record.content, picture) for record, picture in zip(records, expected, strict=True))
    texts = records[1].image.info
    assert (texts["prompt"], texts["seed"], texts["truncation"]) == ("a blue car", "9", "1")
    index = json.loads((tmp_path / "out" / "drawn" / "index.json").read_text())
    assert [shard["records"] for shard in index["shards"]] == [3, 3, 2]


def test_json_lines_bring_their_seeds_and_keys(model: Path, tmp_path: Path) -> None:
    rows = [
        {"caption": "a red heart", "seed": 5, "key": "heart"},
        {"prompt": "a blue car", "key": "cars/1", "source": {"list": [1, "ü"]}},
        {"text": "a cat", "key": 17, "seed": None},
    ]
    captions = put(tmp_path / "captions.jsonl", "\ufeff" + "".join(json.dumps(row) + "\r\n" for row in rows))
    run(job(model, captions, tmp_path / "out", number=2, size=64, truncation=0.5, format="webp"), workers=1)
    records = records_of(tmp_path / "out" / "drawn")
    keys = [record.key for record in records]
    assert [keys[0], keys[1], keys[4], keys[5]] == ["heart-0", "heart-1", "17-0", "17-1"]
    assert keys[2].startswith("cars-1-0-") and keys[3].startswith("cars-1-1-")
    assert [record.fields["seed"] for record in records] == [5, 6, 2, 3, 4, 5]
    assert records[2].fields["source"] == {"list": [1, "ü"]}
    assert {record.suffix for record in records} == {"webp"}
    assert all(record.image.size == (64, 64) for record in records)
    assert records[0].fields["truncation"] == 0.5
    pipe = galip.load(model, engine="torch", device="cpu")
    own = pipe(["a red heart"], seed=6, truncation=0.5).images[0]
    run(job(model, captions, tmp_path / "exact", number=2, truncation=0.5), workers=1)
    assert same(records_of(tmp_path / "exact" / "drawn")[1].content, own)


def test_training_and_webdataset_read_them(model: Path, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    captions = put(tmp_path / "captions.txt", CAPTIONS)
    run(job(model, captions, tmp_path / "out", format="jpeg"), workers=1)
    source = open_source(str(tmp_path / "out" / "drawn"))
    picture, found = source.read(1)
    assert (picture.size, found) == ((tiny.IMAGE_SIZE, tiny.IMAGE_SIZE), ("a blue car",))
    tars = [str(tar) for tar in sorted((tmp_path / "out" / "drawn").glob("*.tar"))]
    samples = list(webdataset.WebDataset(tars, shardshuffle=False))
    assert len(samples) == len(source) == 8
    assert json.loads(samples[2]["json"])["captions"] == ["a & b"]
    assert Image.open(io.BytesIO(samples[2]["jpg"])).format == "JPEG"


def test_what_cannot_be_drawn_is_named_and_does_not_hinder_the_rest(model: Path, tmp_path: Path) -> None:
    captions = put(tmp_path / "captions.txt", "a red heart\n&nbsp;\na\x00b\na blue car\n")
    report = run(job(model, captions, tmp_path / "out"), workers=1)
    assert report["splits"]["drawn"]["records"] == 2
    found = report["skipped"]["no prompt"]
    assert found["count"] == 2
    assert [name.partition(":")[0] for name in found["examples"]] == ["line 2", "line 3"]
    # Noise that is no number any more; every picture fails, which a job must say.
    with pytest.raises(GalipError, match="cannot be generated: 1 .line 1: truncation 3e"):
        run(job(model, put(tmp_path / "one.txt", "a red heart"), tmp_path / "none", truncation=3e38), workers=1)


@pytest.mark.slow
def test_the_number_of_workers_changes_nothing(model: Path, tmp_path: Path) -> None:
    captions = put(tmp_path / "captions.txt", CAPTIONS)
    for workers in (1, 2):
        run(job(model, captions, tmp_path / f"out{workers}"), workers)
    assert files_of(tmp_path / "out1") == files_of(tmp_path / "out2")


# ---- what is refused


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"fine\ncaf\xe9\n", "a.txt, line 2: it is not UTF-8"),
        ("a.txt", b"\n \n", "a.txt: it holds no prompts"),
        ("a.txt", b"x" * (1 << 20) + b"yz\n", "a.txt, line 1: it has more than 1,048,576 bytes"),
        ("a.jsonl", b'{"caption": "x"}\n{"caption"\n', "a.jsonl, line 2: it is not JSON"),
        ("a.jsonl", b'["x"]\n', "line 1: a JSON object with a prompt is needed"),
        ("a.jsonl", b'{"caption": 3}\n', "line 1: a JSON object with a prompt is needed"),
        ("a.jsonl", b'{"caption": "x", "seed": -1}\n', "line 1: seed"),
        ("a.jsonl", b'{"caption": "x", "seed": 9223372036854775807}\n', "line 1: seed"),
        ("a.jsonl", b'{"caption": "x", "key": 1.5}\n', "line 1: key 1.5"),
        ("a.jsonl", b'{"caption": "x", "key": "\\ud800"}\n', "line 1: it holds halves of characters"),
        ("a.jsonl", b'{"caption": "x", "key": "k"}\n{"caption": "y"}\n', "line 2: it has no key, unlike lines before"),
        ("a.jsonl", b'{"caption": "x"}\n{"caption": "y", "key": 1}\n', "line 2: it has a key, unlike lines before"),
        (
            "a.jsonl",
            b'{"caption": "x", "key": "1"}\n{"caption": "y", "key": 2}\n{"caption": "z", "key": 1}\n',
            "line 3: the key '1' is that of line 1 too",
        ),
    ],
)
def test_a_wrong_line_is_named_before_anything_is_drawn(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = put(tmp_path / name, content)
    with pytest.raises(InputError, match=message):
        list_blocks(path, GenerationOptions(ModelSpec("none"), "none", number=2), 100)


def test_a_long_file_is_not_kept_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "captions.txt"
    with path.open("w") as file:
        for number in range(200_000):
            file.write(f"a picture with a number, and the number is {number}\n")
    script = (
        "import resource, sys; from pathlib import Path\n"
        "from galip.serving.model_worker import ModelSpec\n"
        "from galip.bulk.blocks import GenerationOptions, list_blocks\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "blocks = list_blocks(Path(sys.argv[1]), GenerationOptions(ModelSpec('none'), 'none'), 1000)\n"
        "print(len(blocks), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    words = [sys.executable, "-c", script, str(path)]
    blocks, grown = map(int, subprocess.run(words, check=True, capture_output=True, text=True).stdout.split())
    assert blocks == 200
    assert grown < path.stat().st_size / 1024 / 4


def test_another_job_does_not_go_into_the_same_folder(model: Path, tmp_path: Path) -> None:
    captions, out = put(tmp_path / "captions.txt", "a red heart\na blue car\n"), tmp_path / "out"
    mine = job(model, captions, out)
    report = run(mine, workers=1)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    # Another engine, batch or number of threads draws the same pictures.
    other = replace(mine.options, spec=ModelSpec(str(model), None, "torch", "cpu", 2, 1))
    assert run(replace(mine, options=other), workers=1) == report
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    for changed, message in (
        ({"seed": 1}, "seed 0 instead of seed 1"),
        ({"truncation": 0.5}, "truncation 1.0 instead of truncation 0.5"),
        ({"format": "webp"}, "picture format png instead of picture format webp"),
        ({"number": 2}, "number 1 instead of number 2"),
    ):
        with pytest.raises(GalipError, match=message):
            run(job(model, captions, out, **changed), workers=1)
    tuned = tiny.save(tmp_path / "tuned", seed=1)
    with pytest.raises(GalipError, match="other options, weights"):
        run(job(tuned, captions, out), workers=1)
    put(captions, "a red heart\na blue cat\n")
    with pytest.raises(GalipError, match="made from other images or captions than are there now"):
        run(mine, workers=1)


def test_captions_that_change_while_they_are_drawn_end_the_job(model: Path, tmp_path: Path) -> None:
    captions = put(tmp_path / "captions.txt", "a red heart\n")
    (block,) = job(model, captions, tmp_path / "out").source().blocks
    put(captions, "a red horse\n")
    with pytest.raises(GalipError, match="has changed since"):
        list(block.items())


# ---- the command


def words(model: Path, captions: Path, out: Path, *options: object) -> list[str]:
    fixed = ["--model", model, "--engine", "torch", "--device", "cpu", "--per-shard", 4, "--batch-size", 4]
    return [str(word) for word in ("bulk", captions, "-o", out, *fixed, *options)]


def test_the_command_says_what_was_drawn(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    captions = put(tmp_path / "captions.txt", CAPTIONS)
    out = tmp_path / "out"
    ended = command(capsys, *words(model, captions, out, "--workers", 1))
    assert ended.code == 0
    assert ended.out.splitlines()[0] == f"{out}: 8 images with 8 captions"
    put(captions, "a red heart\n\x01\n")
    ended = command(capsys, *words(model, captions, tmp_path / "some", "--workers", 1))
    assert ended.code == 1
    assert "skipped, no prompt: 1 (line 2: caption" in ended.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "tiff"], "'--format': Value error, 'tiff'"),
        (["--cluster", "slurm"], "'--cluster': Value error, 'slurm'"),
        (["--cluster", "ray", "--workers", "2"], "--workers is for this machine alone"),
        (["--seed", "-1"], "seed -1"),
        (["--truncation", "nan"], "--truncation nan"),
        (["--engine", "magic"], "magic"),
        (["--model", "nowhere"], "nowhere"),
    ],
)
def test_wrong_options_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    captions = put(tmp_path / "captions.txt", "a red heart\n")
    ended = command(capsys, "bulk", captions, tmp_path / "out", *options)
    assert ended.code == 2
    assert message in ended.err
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "missing.txt" in command(capsys, "bulk", tmp_path / "missing.txt", tmp_path / "out").err
    assert "standard input" in command(capsys, "bulk", "-", tmp_path / "out").err


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks at processes through /proc")
def test_killed_and_run_again_it_writes_the_same_bytes(model: Path, tmp_path: Path) -> None:
    captions = put(tmp_path / "captions.txt", "".join(f"a picture of {number}\n" for number in range(60)))
    out = tmp_path / "out"
    again = [sys.executable, "-m", "galip", *words(model, captions, out, "--size", 1024, "--workers", 1)]
    process = subprocess.Popen(again, stderr=subprocess.DEVNULL)
    while process.poll() is None and len(list((out / FOLDER).glob("?????.json"))) < 2:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = {path.name: path.stat().st_mtime_ns for path in (out / FOLDER).glob("?????-drawn-000.tar")}
    assert 2 <= len(done) < 15
    assert not (out / "drawn").exists()
    ended = subprocess.run(again, check=True, capture_output=True, text=True)
    assert "60 images" in ended.stdout
    whole = job(model, captions, tmp_path / "whole", per_shard=4, size=1024)
    run(whole, workers=1)
    assert files_of(out) == files_of(tmp_path / "whole")
    kept = {path.stat().st_mtime_ns for path in (out / "drawn").glob("*.tar")}
    assert len(kept & set(done.values())) >= 2, "finished shards are kept, not drawn again"


@pytest.mark.cluster
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks at processes through /proc")
def test_on_ray_a_lost_process_is_replaced_and_the_bytes_are_the_same(model: Path, tmp_path: Path) -> None:
    captions = put(tmp_path / "captions.txt", "".join(f"a picture of {number}\n" for number in range(40)))
    out = tmp_path / "out"
    options = ["--size", 1024, "--threads", 1, "--cluster", "ray", "--replicas", 2]
    again = [sys.executable, "-m", "galip", *words(model, captions, out, *options)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    process = subprocess.Popen(again, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    while process.poll() is None and not list((out / FOLDER).glob("?????.json")):
        time.sleep(0.05)
    writers = [pid for pid in descendants(process.pid) if title(pid).startswith("ray::BlockWriter.write")]
    os.kill(writers[0], signal.SIGKILL)
    said, complained = process.communicate()
    assert process.returncode == 0, complained
    assert "40 images" in said
    assert "a process has died; its images are generated again" in complained
    run(job(model, captions, tmp_path / "whole", per_shard=4, size=1024), workers=1)
    assert files_of(out) == files_of(tmp_path / "whole")
