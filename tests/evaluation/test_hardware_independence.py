"""The same numbers whatever computes them, and whatever interrupts it."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from evaluation import small
from PIL import Image
from safetensors.numpy import load_file

from galip.errors import GalipError
from galip.evaluation.result import Result, read_result
from galip.evaluation.runner import evaluate

pytestmark = pytest.mark.usefixtures("one_thread")

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


class Setting:
    """The small evaluation, each in a folder of its own."""

    def __init__(self, data: Path, model: Path, clip: Path, folder: Path) -> None:
        self.data, self.model, self.clip, self.folder = data, model, clip, folder

    def here(self, name: str, batch_size: int = 7, model: Path | None = None, **more: object) -> Result:
        """In this process."""
        protocol = more.pop("protocol", small.rules())
        found = evaluate(
            model or self.model,
            protocol,  # type: ignore[arg-type]
            small.references(self.data, self.clip, self.folder / f"{name}-cache"),
            out=self.folder / f"{name}.json",
            batch_size=batch_size,
            distributed=small.alone(),
            **more,  # type: ignore[arg-type]
        )
        assert found is not None
        return found

    def arguments(self, name: str, model: Path, metrics: tuple[str, ...], batch_size: int) -> list[str]:
        """The same for `galip`."""
        words = ["evaluate", str(model), "--data", str(self.data), "-o", str(self.folder / f"{name}.json")]
        words += ["--metrics", ",".join(metrics), "--weights", f"clip={self.clip}", "--device", "cpu"]
        return [*words, "--batch-size", str(batch_size), "--cache", str(self.folder / f"{name}-cache")]


SEVERAL = """
import json, sys
from galip.cli import main
for words in json.loads(sys.argv[1]):
    try:
        main(words)
    except SystemExit as ended:
        if ended.code:
            raise
"""
"""Starting processes takes far longer than what they do here, so they do several things."""


def on_two_processes(script: Path, *commands: list[str]) -> str:
    """Commands of `galip`, one after the other, on two processes that torchrun starts; what they said."""
    script.write_text(SEVERAL)
    command = [sys.executable, *TORCHRUN, str(script), json.dumps(commands)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        said, _ = running.communicate(timeout=240)
    except subprocess.TimeoutExpired:
        family = [psutil.Process(running.pid), *psutil.Process(running.pid).children(recursive=True)]
        for process in family:
            process.kill()
        raise
    assert running.returncode == 0, said
    return said


@pytest.fixture
def setting(small_data: Path, small_model: Path, small_clip: Path, tmp_path: Path) -> Setting:
    return Setting(small_data, small_model, small_clip, tmp_path)


@pytest.fixture(scope="module")
def uninterrupted(
    small_data: Path, small_model: Path, small_clip: Path, tmp_path_factory: pytest.TempPathFactory
) -> Result:
    return Setting(small_data, small_model, small_clip, tmp_path_factory.mktemp("whole")).here("one")


BYTES = tuple(name for name in small.METRICS if name not in ("diversity", "clip_score_own"))
"""What can be measured of images that were generated earlier."""


@pytest.fixture(scope="module")
def two(small_data: Path, small_model: Path, small_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Setting:
    """On two processes: a model, `model.json`; and images that were generated earlier, `generated.json`."""
    setting = Setting(small_data, small_model, small_clip, tmp_path_factory.mktemp("two") / "out")
    generated = small.images(setting.folder.with_name("generated"), 150, seed=3)
    on_two_processes(
        setting.folder.with_name("several.py"),
        setting.arguments("model", small_model, small.METRICS, 4),
        setting.arguments("generated", generated, BYTES, 4),
    )
    return setting


def test_two_processes_give_the_numbers_of_one_end_to_end(two: Setting, uninterrupted: Result) -> None:
    found = read_result(two.folder / "model.json")
    assert small.values(found) == pytest.approx(small.values(uninterrupted), rel=1e-3, abs=1e-6)
    assert found.n_generated == small.COUNT and found.machine["processes"] == 2
    for name in ("model_digest", "data_digest", "protocol_digest", "extractors", "flags", "n_reference"):
        assert getattr(found, name) == getattr(uninterrupted, name)
    # The work is gone, and nothing else lies about.
    names = [f"{name}{ending}" for name in ("generated", "model") for ending in ("-cache", ".files", ".json")]
    assert sorted(path.name for path in two.folder.iterdir()) == names


def test_two_processes_give_the_numbers_of_one_from_the_same_bytes(two: Setting, setting: Setting) -> None:
    one = setting.here("one", model=two.folder.with_name("generated"), protocol=small.rules(*BYTES))
    found = read_result(two.folder / "generated.json")
    assert small.values(found) == pytest.approx(small.values(one), rel=1e-6, abs=1e-9)
    assert found.n_generated == one.n_generated == 150


def test_the_batch_size_changes_no_number(setting: Setting, uninterrupted: Result) -> None:
    other = setting.here("other", batch_size=64)
    assert small.values(other) == pytest.approx(small.values(uninterrupted), rel=1e-3, abs=1e-6)


class StoppedError(Exception):
    pass


class StopAt:
    """Progress that stops the evaluation as soon as `what` is so far, and remembers how much of each there was."""

    def __init__(self, what: str = "", done: int = 0) -> None:
        self.what, self.done = what, done
        self.totals: dict[str, int] = {}

    def __call__(self, what: str, done: int, total: int) -> None:
        self.totals[what] = total
        if what == self.what and done >= self.done:
            raise StoppedError


@pytest.mark.parametrize(
    ("what", "done", "generating_left"),
    [("captions", 1, 3), ("generating", 0, 3), ("generating", 1, 2), ("real images", 1, 0), ("metrics", 0, 0)],
)
def test_stopped_anywhere_the_same_call_goes_on(
    setting: Setting, uninterrupted: Result, what: str, done: int, generating_left: int
) -> None:
    with pytest.raises(StoppedError):
        setting.here("again", progress=StopAt(what, done))
    assert (setting.folder / "again.work").is_dir() and not (setting.folder / "again.json").exists()
    told = StopAt()
    found = setting.here("again", progress=told)
    # 70 images and 64 of families are three blocks, less what was done.
    assert told.totals["generating"] == generating_left
    assert small.values(found) == small.values(uninterrupted)
    assert read_result(setting.folder / "again.json") == found
    assert not (setting.folder / "again.work").exists()


def test_blocks_that_were_lost_are_made_again(setting: Setting, uninterrupted: Result) -> None:
    with pytest.raises(StoppedError):
        setting.here("again", progress=StopAt("real images", 1))
    work = setting.folder / "again.work"
    for lost in ("generated-clip/000000", "generated-own/000001", "captions-clip/000001", "generated-pixels/000001"):
        (work / f"{lost}.safetensors").unlink()
    # Two CLIPs: the judging one, and the model's own.
    kept = sorted((setting.folder / "again-cache").glob("evaluation/*/clip-*/000000.safetensors"))
    before = [load_file(path)["features"] for path in kept]
    told = StopAt()
    found = setting.here("again", progress=told)
    assert told.totals["generating"] == 2 and told.totals["captions"] == 1 and told.totals["real images"] == 1
    assert small.values(found) == small.values(uninterrupted)
    whole = [np.load(path.with_name("features.npy"))[:64] for path in kept]
    assert len(kept) == 2 and all(map(np.array_equal, whole, before))


def test_a_damaged_block_is_named_and_the_call_goes_on_without_it(setting: Setting, uninterrupted: Result) -> None:
    with pytest.raises(StoppedError):
        setting.here("again", progress=StopAt("real images", 1))
    broken = setting.folder / "again.work" / "generated-clip" / "000001.safetensors"
    broken.write_bytes(broken.read_bytes()[:-9])
    with pytest.raises(
        GalipError, match=r"again.work/generated-clip/000001.safetensors: missing or damaged .*remove it"
    ):
        setting.here("again")
    broken.unlink()
    assert small.values(setting.here("again")) == small.values(uninterrupted)


KILLED = """
import os, signal, sys
from pathlib import Path
from galip.evaluation import References, evaluate, get_protocol
from galip.distributed import Distributed

def progress(what, done, total):
    if what == "metrics":
        os.kill(os.getpid(), signal.SIGKILL)

model, data, clip, out, cache, metrics = sys.argv[1:]
references = References(data=data, weights={"clip": clip}, cache=Path(cache))
rules = get_protocol("custom").changed(metrics=tuple(metrics.split(",")))
evaluate(model, rules, references, out=Path(out), batch_size=7, distributed=Distributed("cpu"), progress=progress)
"""


def test_killed_between_generating_and_metrics(setting: Setting, uninterrupted: Result) -> None:
    places = [setting.model, setting.data, setting.clip, setting.folder / "again.json", setting.folder / "again-cache"]
    command = [sys.executable, "-c", KILLED, *map(str, places), ",".join(small.METRICS)]
    ended = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    told = StopAt()
    found = setting.here("again", progress=told)
    assert told.totals["generating"] == 0 and told.totals["real images"] == 0
    assert small.values(found) == pytest.approx(small.values(uninterrupted), rel=1e-6, abs=1e-9)


def test_the_real_images_features_are_computed_once(setting: Setting, uninterrupted: Result) -> None:
    setting.here("first")
    shutil.move(setting.folder / "first-cache", setting.folder / "second-cache")
    told = StopAt()
    assert small.values(setting.here("second", progress=told)) == small.values(uninterrupted)
    assert told.totals["real images"] == 0 and told.totals["generating"] == 3


def test_other_real_images_are_not_taken_from_the_cache(setting: Setting, tmp_path: Path) -> None:
    setting.here("first")
    other = small.images(tmp_path / "other", seed=9)
    setting.data = other
    shutil.move(setting.folder / "first-cache", setting.folder / "second-cache")
    told = StopAt()
    setting.here("second", progress=told)
    assert told.totals["real images"] == 2


@pytest.mark.parametrize("change", ["model", "settings", "data", "networks"])
def test_the_work_of_another_evaluation_is_refused(setting: Setting, tmp_path: Path, change: str) -> None:
    with pytest.raises(StoppedError):
        setting.here("again", progress=StopAt("generating", 1))
    work = setting.folder / "again.work"
    before = {path: path.read_bytes() for path in work.rglob("*") if path.is_file()}
    more: dict[str, object] = {}
    if change == "model":
        more["model"] = setting.clip
    elif change == "settings":
        more["protocol"] = small.rules(seed=5)
    elif change == "data":
        setting.data = small.images(tmp_path / "other", seed=9)
    else:
        setting.clip = setting.model
    with pytest.raises(GalipError, match=rf"again.work: holds an unfinished evaluation with other .*{change}.*--out"):
        setting.here("again", **more)  # type: ignore[arg-type]
    assert {path: path.read_bytes() for path in work.rglob("*") if path.is_file()} == before


def test_work_that_says_nothing_of_itself_is_refused(setting: Setting) -> None:
    (setting.folder / "again.work").mkdir()
    (setting.folder / "again.work" / "evaluation.json").write_text("{")
    with pytest.raises(GalipError, match="again.work: cannot be used .*remove it"):
        setting.here("again")


def test_without_out_nothing_is_left(setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    references = small.references(setting.data, setting.clip, tmp_path / "cache")
    assert evaluate(setting.model, small.rules("clip_score"), references, distributed=small.alone()) is not None
    with pytest.raises(StoppedError):
        evaluate(
            setting.model,
            small.rules("clip_score"),
            references,
            distributed=small.alone(),
            progress=StopAt("generating", 1),
        )
    assert list((tmp_path / "tmp").iterdir()) == []


def test_the_files_beside_a_result_hold_every_image(setting: Setting) -> None:
    found = setting.here("one")
    folder = setting.folder / "one.files"
    samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    ranked = {rank: [row["score"] for row in samples if row["rank"] == rank] for rank in ("best", "middle", "worst")}
    assert min(ranked["best"]) >= max(ranked["middle"]) and min(ranked["middle"]) >= max(ranked["worst"])
    assert all(len(part) == 16 for part in ranked.values())
    for row in samples:
        with Image.open(folder / row["picture"]) as generated, Image.open(folder / row["real"]) as real:
            assert generated.size == real.size == (small.SIDE, small.SIDE)
    with gzip.open(folder / "per_picture.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    assert [row["number"] for row in rows] == list(range(small.COUNT + 64))
    cosines = [row["scores"]["clip_score"] for row in rows[: small.COUNT]]
    assert np.mean(cosines) == pytest.approx(found.metrics["clip_score"].value, abs=1e-5)
