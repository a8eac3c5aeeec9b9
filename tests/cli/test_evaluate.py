"""`galip evaluate`, run as a user runs it, with a tiny model and a tiny CLIP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
import torch
from cli.running import Ended
from cli.running import run as run_command
from evaluation import random_inception, small

from galip.evaluation.metrics.registry import METRICS
from galip.evaluation.protocols import PROTOCOLS
from galip.evaluation.result import read_result

FEW = "fd_clip,clip_score,r_precision"


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("COLUMNS", "200")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Command:
    """`galip evaluate ...`, and what lies around."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = small.images(folder / "data")
        self.model = tiny.save(folder / "tiny-32")
        self.clip = tiny.save(folder / "clip", seed=1)

    def __call__(self, capsys: pytest.CaptureFixture[str], *words: object) -> Ended:
        return run_command(capsys, "evaluate", "--device", "cpu", "--cache", self.folder / "cache", *words)

    @property
    def usual(self) -> list[object]:
        return ["--data", self.data, "--weights", f"clip={self.clip}", "--metrics", FEW]


@pytest.fixture(scope="module")
def evaluate(tmp_path_factory: pytest.TempPathFactory) -> Command:
    return Command(tmp_path_factory.mktemp("evaluate"))


@pytest.fixture(scope="module")
def results(evaluate: Command, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two models on the same data, and one of them is the other's better."""
    from galip.cli import main

    folder = tmp_path_factory.mktemp("results")
    for name, model in (("one", evaluate.model), ("two", evaluate.clip)):
        words = ["evaluate", model, *evaluate.usual, "-o", folder / f"{name}.json", "--device", "cpu"]
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in [*words, "--cache", evaluate.folder / "cache"]])
        assert not ended.value.code
    return folder / "one.json", folder / "two.json"


def test_a_model_to_a_result(evaluate: Command, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out, page = tmp_path / "result.json", tmp_path / "report.html"
    words = ["--batch-size", 5, "--training", evaluate.data, "-o", out, "--report", page]
    ended = evaluate(capsys, evaluate.model, *evaluate.usual, *words)
    assert (ended.code, "Traceback" in ended.err) == (0, False), ended.err
    result = read_result(out)
    assert result.n_generated == 70 and result.metrics.keys() == set(FEW.split(","))
    assert "custom: 70 generated images against 70 real ones" in ended.out
    for said in ("CLIP score", "real against real", "memorisation check cannot tell", f"{out}: 70 images"):
        assert said in ended.out
    assert f"{page}: open it in a browser; it needs no network" in ended.out
    html = page.read_text(encoding="utf-8")
    assert html.count("data:image/png;base64,") >= 48 and "red heart" in html
    assert (tmp_path / "result.files" / "nearest.jsonl").exists()
    assert not (tmp_path / "result.work").exists()


def test_settings_of_custom(evaluate: Command, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    words = ["--set", "images=30", "--set", "resolution=16", "--set", "among = 5"]
    ended = evaluate(capsys, evaluate.model, *evaluate.usual, *words, "-o", out)
    assert ended.code == 0, ended.err
    result = read_result(out)
    assert (result.n_generated, result.n_reference) == (30, 30)
    # Names in files stay what they were.
    assert {name: result.settings[name] for name in ("pictures", "resolution", "among")} == {
        "pictures": 30,
        "resolution": 16,
        "among": 5,
    }


def test_a_file_of_prompts_is_enough(evaluate: Command, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    rows = [("red heart", "colours"), ("red birds", "colours"), ("two birds", "counts"), ("two cats", "counts")]
    prompts.write_text("".join(json.dumps({"prompt": text, "category": kind}) + "\n" for text, kind in rows))
    out = tmp_path / "result.json"
    words = ["--prompts", prompts, "--weights", f"clip={evaluate.clip}", "-o", out]
    ended = evaluate(capsys, evaluate.model, *words)
    assert ended.code == 0, ended.err
    result = read_result(out)
    assert result.n_generated == 4 and result.groups.keys() == {"colours", "counts"}
    assert result.metrics.keys() == {"clip_score", "r_precision", "diversity"}
    assert "colours" in ended.out and "counts" in ended.out


def test_list(evaluate: Command, capsys: pytest.CaptureFixture[str]) -> None:
    ended = evaluate(capsys, "--list")
    assert ended.code == 0
    for name in (*PROTOCOLS, *METRICS, "general", "emoji (", "imaginary"):
        assert name in ended.out
    assert "galip data prepare coco" in ended.out


def test_compare(
    evaluate: Command, results: tuple[Path, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    ended = evaluate(capsys, *results, "--compare", "--report", page)
    assert ended.code == 0, ended.err
    for said in ("tiny-32", "clip", "CLIP score", "R-precision", "difference", "looks through"):
        assert said in ended.out
    values = [read_result(path).metrics["clip_score"].value for path in results]
    assert all(f"{value:.4f}"[:5] in ended.out for value in values)
    assert page.stat().st_size > 10_000


def test_compare_refuses_other_protocols(
    evaluate: Command, results: tuple[Path, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    other = tmp_path / "other.json"
    assert evaluate(capsys, evaluate.model, *evaluate.usual, "--set", "images=60", "-o", other).code == 0
    ended = evaluate(capsys, results[0], other, "--compare")
    assert ended.code == 2 and ended.out == ""
    assert "cannot be compared" in ended.err and "images" in ended.err


def bad(complaint: str, *words: object, name: str) -> object:
    return pytest.param(words, complaint, id=name)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        bad("name a model, e.g. galip evaluate emoji-64", name="no model"),
        bad("'cbu': there is no such protocol; known: fid30k", "MODEL", "--protocol", "cbu", name="protocol"),
        bad("needs captioned images: give --data", "MODEL", name="no data"),
        bad("nowhere: no such folder", "MODEL", "--data", "nowhere", name="data"),
        bad("metric 'fdi': there is no such metric", "MODEL", "--data", "DATA", "--metrics", "fid,fdi", name="metric"),
        bad("--weights clip: write NAME=VALUE", "MODEL", "--data", "DATA", "--weights", "clip", name="weights"),
        bad("--weights klip=...: no metric", "MODEL", "USUAL", "--weights", "klip=x", name="unknown weights"),
        bad("nowhere: no CLIP could be loaded", "MODEL", "USUAL", "--weights", "clip=nowhere", name="no weights"),
        bad("--set images: write NAME=VALUE", "MODEL", "USUAL", "--set", "images", name="set"),
        bad("custom, pictrues: ", "MODEL", "USUAL", "--set", "pictrues=5", name="unknown setting"),
        bad("custom, images: ", "MODEL", "USUAL", "--set", "images=lots", name="setting's kind"),
        bad("images=[: it cannot be read as a value", "MODEL", "USUAL", "--set", "images=[", name="setting's value"),
        bad("--set metrics: use the option", "MODEL", "USUAL", "--set", "metrics=fid", name="setting with an option"),
        bad("custom generates 71 images", "MODEL", "USUAL", "--set", "images=71", name="too many"),
        bad("passes=3 does nothing here", "MODEL", "USUAL", "--set", "passes=3", name="setting without effect"),
        bad("cub fixes images", "MODEL", "--protocol", "cub", "--set", "images=5", name="fixed"),
        bad("out.txt: a result is a .json file", "MODEL", "USUAL", "-o", "out.txt", name="out"),
        bad("data.work: cannot be used", "MODEL", "USUAL", "-o", "DATA/metadata.jsonl/data.json", name="out's folder"),
        bad("page.pdf: a report is an .html file", "MODEL", "--report", "page.pdf", name="report"),
        bad("give --out RESULT.json too", "MODEL", "USUAL", "--report", "page.html", name="report without out"),
        bad("'--engine': Value error, 'fast' is not one of", "MODEL", "USUAL", "--engine", "fast", name="engine"),
        bad("engine torch: nothing is generated", "DATA", "USUAL", "--engine", "torch", name="engine for images"),
        bad("leave --data and --reference out", "DATA", "DATA", "--data", "DATA", name="folders and data"),
        bad("protocol cub is of one model", "DATA", "DATA", "--protocol", "cub", name="folders and protocol"),
        bad("cub fixes inception_resize", "MODEL", "--protocol", "cub", "--resize", "clean", name="fixed resize"),
        bad("2 models are given", "MODEL", "MODEL", "USUAL", name="two models"),
        bad("model 'nobody': there is no such folder", "nobody", "USUAL", name="model"),
        bad("'generall': did you mean general?", "MODEL", "--prompts", "generall", name="prompts"),
        bad("cannot be read", "MODEL", "--prompts", "nowhere.txt", name="no prompts"),
        bad("nowhere.npz: no such file", "MODEL", "--data", "DATA", "--reference", "nowhere.npz", name="reference"),
        bad("nowhere: no such folder", "MODEL", "USUAL", "--training", "nowhere", name="training"),
        bad("nothing.json: it is missing", "nothing.json", "--compare", name="no result"),
        bad("--data makes no sense with --compare", "a.json", "--compare", "--data", "DATA", name="compare and data"),
        bad("--training makes no sense", "a.json", "--compare", "--training", "DATA", name="compare and training"),
        bad("--device is 'gpu'", "MODEL", "USUAL", "--device", "gpu", name="device"),
    ],
)
def test_mistakes_are_told_in_one_line(
    evaluate: Command,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    complaint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    meant: list[object] = []
    for word in words:
        word = word.replace("DATA", str(evaluate.data)).replace("MODEL", str(evaluate.model))
        meant += evaluate.usual if word == "USUAL" else [word]
    ended = evaluate(capsys, *meant)
    assert ended.code == 2 and ended.out == ""
    said = [line for line in ended.err.splitlines() if line.startswith("Error: ")]
    assert len(said) == 1 and complaint in said[0]
    assert list(tmp_path.iterdir()) == []


def test_interrupted_the_same_command_goes_on(
    evaluate: Command, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The first attempt ends at a broken real image, after everything has been generated."""
    data = small.images(tmp_path / "data", seed=4)
    whole = (data / "069.png").read_bytes()
    (data / "069.png").write_bytes(whole[:-1] + b"\0")
    (data / "069.png").write_bytes(b"\0" * len(whole))
    out = tmp_path / "result.json"
    words = [evaluate.model, "--data", data, "--weights", f"clip={evaluate.clip}", "--metrics", FEW, "-o", out]
    ended = evaluate(capsys, *words)
    assert ended.code == 2 and "069.png: not a readable" in ended.err
    generated = sorted((tmp_path / "result.work").glob("generated-*/*.safetensors"))
    assert len(generated) == 4
    (data / "069.png").write_bytes(whole)
    ended = evaluate(capsys, *words)
    assert ended.code == 0, ended.err
    assert read_result(out).n_reference == 70 and not (tmp_path / "result.work").exists()


def test_two_folders_of_images(evaluate: Command, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    weights = random_inception.save(tmp_path / "inception.pth")
    folders = [small.images(tmp_path / name, 4, seed=seed) for name, seed in (("generated", 1), ("real", 2))]
    found = {}
    for how in ("pytorch", "clean"):
        out = tmp_path / f"{how}.json"
        ended = evaluate(capsys, *folders, "--resize", how, "--weights", f"inception={weights}", "-o", out)
        assert ended.code == 0, ended.err
        assert "images: 4 generated images" in ended.out and "FID" in ended.out
        found[how] = read_result(out).metrics["fid"].value
    assert found["pytorch"] != found["clean"]
    ended = evaluate(capsys, tmp_path / "pytorch.json", tmp_path / "clean.json", "--compare")
    assert ended.code == 2 and "the setting inception_resize is pytorch in generated" in ended.err


def test_help(evaluate: Command, capsys: pytest.CaptureFixture[str]) -> None:
    ended = evaluate(capsys, "--help")
    assert ended.code == 0
    for word in ("--protocol", "--data", "--out", "--weights", "--compare", "--report", "--list", "accelerate launch"):
        assert word in ended.out
