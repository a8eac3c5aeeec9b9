"""`galip walk`, run as a user runs it, with a tiny real model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
from cli.running import DrawingCommand
from PIL import Image

from galip import __version__
from galip.export.exporting import Source, export


class Command(DrawingCommand):
    """`galip walk --model TINY --engine torch -o OUT ...`"""

    def frame(self, number: int) -> np.ndarray:
        with Image.open(self.out / f"frame-{number:06d}.png") as image:
            return np.asarray(image).astype(int)

    def text(self, name: str) -> str:
        with Image.open(self.out / "frame-000000.png") as image:
            return str(image.text[name])


@pytest.fixture
def walk(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command("walk", model, tmp_path / "walk", capsys, ("--engine", "torch"))


def test_frames_between_two_captions(walk: Command) -> None:
    ended = walk("a cat", "two birds", "--seed", 3, "--frames", 4, "--batch-size", 2)
    assert ended.code == 0
    assert ended.out == f"{walk.out}\n"
    lines = ended.err.splitlines()
    assert lines[0] == f"5 frames, 0.2 seconds at 24 per second: {walk.out}"
    assert lines[1:3] == ["  a cat (seed 3)", "  two birds (seed 3)"]
    pipe = tiny.pipeline()
    for number, caption in ((0, "a cat"), (4, "two birds")):
        assert np.abs(walk.frame(number) - np.asarray(pipe(caption, seed=3).images[0]).astype(int)).max() <= 1
    assert walk.text("walk") == "a cat (seed 3)\ntwo birds (seed 3)"
    assert walk.text("frames") == "5, linear, even speed"
    assert (walk.text("model"), walk.text("galip")) == ("tiny-32", __version__)
    assert len(walk.text("weights")) >= 12


@pytest.mark.parametrize("name", ["walk.mp4", "walk.gif", "walk.webp"])
def test_films(walk: Command, name: str) -> None:
    walk.out = walk.out.with_name(name)
    ended = walk("a cat", "two birds", "--frames", 3, "--loop", "--size", 48, "--fps", 10, "--easing", "smooth")
    assert ended.code == 0
    assert ended.err.startswith("6 frames, 0.6 seconds at 10 per second")
    if name == "walk.mp4":
        import av

        with av.open(str(walk.out)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
            told = json.loads(container.metadata["comment"])
        assert len(frames) == 6
        assert frames[0].shape == (48, 48, 3)
    else:
        with Image.open(walk.out) as image:
            assert (image.n_frames, image.size) == (6, (48, 48))
            told = json.loads(image.info["comment"] if name == "walk.gif" else image.getexif()[0x010E])
    assert told["frames"] == "6, looping, smooth, even speed"
    assert told["model"] == "tiny-32"


def test_size_and_resampling(walk: Command, model: Path, tmp_path: Path) -> None:
    assert walk("a cat", "two birds", "--seed", 3, "--frames", 1, "--size", 64, "--resample", "nearest").code == 0
    large = walk.frame(0)
    assert large.shape == (64, 64, 3)
    assert (large[::2, ::2] == large[1::2, 1::2]).all()
    walk.out = tmp_path / "plain"
    assert walk("a cat", "two birds", "--seed", 3, "--frames", 1).code == 0
    assert (walk.frame(0) == large[::2, ::2]).all()


def test_style_or_caption_is_kept(walk: Command, tmp_path: Path) -> None:
    pairs = ("a cat", "two birds", "--seed", "3,4", "--frames", 1)
    ends = {}
    for keep in (None, "style", "caption"):
        walk.out = tmp_path / str(keep)
        assert walk(*pairs, *(() if keep is None else ("--keep", keep))).code == 0
        ends[keep] = walk.text("walk").splitlines()[1]
    assert ends == {None: "two birds (seed 4)", "style": "two birds (seed 3)", "caption": "a cat (seed 4)"}


def test_one_caption_through_several_seeds(walk: Command) -> None:
    assert walk("a cat", "--seed", "0-2", "--frames", 2, "--loop").code == 0
    assert walk.text("walk") == "a cat (seed 0)\na cat (seed 1)\na cat (seed 2)"
    assert len(list(walk.out.glob("*.png"))) == 6


def test_a_random_seed_is_told_and_repeats_the_walk(walk: Command, tmp_path: Path) -> None:
    ended = walk("a cat", "two birds", "--frames", 1)
    seed = ended.err.splitlines()[1].removeprefix("  a cat (seed ").removesuffix(")")
    first, walk.out = walk.frame(1), tmp_path / "again"
    assert walk("a cat", "two birds", "--frames", 1, "--seed", seed).code == 0
    assert (walk.frame(1) == first).all()


def test_keyframes_from_a_file(walk: Command, tmp_path: Path) -> None:
    file = tmp_path / "keyframes.yaml"
    file.write_text("- a cat\n- {seed: 8}\n- {prompt: two birds, fine: a heart}\n")
    assert walk("--keyframes", file, "--seed", 7, "--frames", 2).code == 0
    assert walk.text("walk") == "a cat (seed 7)\na cat (seed 8)\ntwo birds / a heart (seed 8)"
    walk.out = tmp_path / "many"
    file.write_text(json.dumps([{"prompt": "a cat", "seed": seed} for seed in range(200)]))
    ended = walk("--keyframes", file, "--frames", 1, "--batch-size", 64)
    assert ended.err.splitlines()[9] == "  ... 200 in all"
    assert len(json.loads((walk.out / "film.json").read_text())["walk"].splitlines()) == 200
    with Image.open(walk.out / "frame-000000.png") as image:
        assert "walk" not in image.text  # longer than the picture


@pytest.mark.parametrize("speed", ["pixels", "clip"])
def test_a_measured_speed(walk: Command, speed: str) -> None:
    ended = walk("a cat", "two birds", "--seed", 3, "--frames", 6, "--speed", speed)
    assert ended.code == 0
    assert walk.text("frames") == f"7, linear, {speed} speed"
    assert len(list(walk.out.glob("*.png"))) == 7


@pytest.mark.engines
def test_an_engine_walks_the_same_way(
    walk: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GALIP_CACHE", str(tmp_path / "cache"))
    argv = ("a cat", "two birds", "--seed", "3,4", "--frames", 4, "--speed", "clip", "--loop")
    assert walk(*argv).code == 0
    theirs = [walk.frame(number) for number in range(8)]
    walk.out = tmp_path / "engine"
    assert walk(*argv, "--engine", "onnxruntime", "--threads", 1, "--device", "cpu").code == 0
    for number in range(8):
        assert np.abs(walk.frame(number) - theirs[number]).max() <= 2
    export(tiny.pipeline(), Source("tiny-32", model), tmp_path / "exported", "onnx")
    walk.model, walk.out = tmp_path / "exported", tmp_path / "from-export"
    ended = walk(*argv, "--engine", "auto")
    assert "has no CLIP of its own that sees images; use --speed pixels" in ended.err
    assert walk(*argv[:-3], "--engine", "auto").code == 0


def test_a_bar_is_shown_on_a_terminal(walk: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    ended = walk("a cat", "two birds", "--frames", 20, "--batch-size", 4, "--speed", "pixels", "--loop")
    assert "measuring" in ended.err
    assert "generating" in ended.err
    assert "40/40" in ended.err
    assert "generating" not in ended.out


# ---- errors worth trying


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], 'nowhere to go: give prompts, as in galip walk "a red heart" "a sleepy cat", or --keyframes'),
        (["a cat"], "one keyframe is not a walk: give two prompts or more, or one with several seeds"),
        (["a cat", "two birds", "--seed", "1,2,3"], "2 prompts and 3 seeds: give as many of both"),
        (["a cat", ""], "it is empty; say what to generate"),
        (["a cat", "two birds", "--keep", "both"], "'--keep': Value error, 'both' is not one of 'style'"),
        (["a cat", "two birds", "--easing", "bounce"], "'--easing': Value error, 'bounce' is not one of"),
        (["a cat", "two birds", "--speed", "warp"], "'--speed': Value error, 'warp' is not one of"),
        (["a cat", "two birds", "--resample", "cubic"], "'--resample': Value error, 'cubic' is not one of"),
        (["a cat", "two birds", "--truncation", "inf"], "--truncation inf: give a finite number"),
        (["a cat", "two birds", "--fps", "0"], "0.0 frames per second"),
        (["a cat", "two birds", "-o", "walk.avi"], ".avi is not the ending of a video"),
        (["a cat", "two birds", "-o", "walk.mp4", "--size", "33"], "an MP4 needs even sides"),
        (["a cat", "two birds", "--engine", "warp"], "'--engine': Value error, 'warp' is not one of"),
        (["a cat", "two birds", "--keyframes", "no-such.yaml"], "the prompts of a walk come from one of them"),
        (["--keyframes", "no-such.yaml"], "no-such.yaml: No such file or directory"),
        (["--keyframes", "no-such.yaml", "--seed", "1,2"], "--seed 1,2 with --keyframes: give one seed"),
        (["a cat", "two birds"], "there is no such folder and no such bundled model"),
        (["a cat", "two birds", "--frames", "0"], "'--frames'"),
    ],
)
def test_a_mistake_is_one_clean_line_before_the_model_is_loaded(walk: Command, argv: list[str], message: str) -> None:
    walk.model = Path("no-such-model")
    ended = walk(*argv)
    assert ended.code == 2
    assert message in ended.err
    assert "Traceback" not in ended.err
    assert ended.out == ""
    assert not walk.out.exists()


def test_the_film_is_checked_before_the_model(walk: Command) -> None:
    walk.out.write_text("a file")
    walk.model = Path("no-such-model")
    ended = walk("a cat", "two birds")
    assert ended.code == 2
    assert "it is there already and not an empty folder" in ended.err
