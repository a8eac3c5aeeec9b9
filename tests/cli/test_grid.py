"""`galip grid`, run as a user runs it, with a tiny real model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
from cli.running import DrawingCommand
from PIL import Image

from galip import __version__


class Command(DrawingCommand):
    """`galip grid --model TINY --engine torch -o OUT ...`"""

    def sheet(self) -> np.ndarray:
        with Image.open(self.out) as image:
            return np.asarray(image).astype(int)

    def text(self, name: str) -> str:
        with Image.open(self.out) as image:
            return str(image.text[name])

    def holds(self, picture: Image.Image) -> bool:
        """Whether the sheet shows a picture somewhere, at the model's own size."""
        sheet, wanted = self.sheet(), np.asarray(picture).astype(int)
        windows = np.lib.stride_tricks.sliding_window_view(sheet, (2, 2, 3))[:, :, 0]
        near = (np.abs(windows - wanted[:2, :2]).max(axis=(2, 3, 4)) <= 1).nonzero()
        return any(
            np.abs(cut - wanted).max() <= 1
            for y, x in zip(*near, strict=True)
            if (cut := sheet[y : y + 32, x : x + 32]).shape == wanted.shape
        )


@pytest.fixture
def grid(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command("grid", model, tmp_path / "grid.png", capsys, ("--engine", "torch"))


def test_captions_by_seeds(grid: Command) -> None:
    ended = grid("a cat", "two birds", "--seed", "3,5", "--size", 32)
    assert ended.code == 0
    assert ended.out == f"{grid.out}\n"
    assert ended.err.startswith(f"4 images generated: {grid.out} (")
    assert ended.err.splitlines()[1] == "seeds: 3,5"
    pipe = tiny.pipeline()
    for caption in ("a cat", "two birds"):
        for picture in pipe(caption, num_images_per_prompt=2, seed=[3, 5]).images:
            assert grid.holds(picture)
    assert not grid.holds(pipe("a cat", seed=4).images[0])
    assert grid.text("prompt") == "a cat\ntwo birds"
    assert grid.text("seed") == "3,5"
    assert (grid.text("model"), grid.text("galip")) == ("tiny-32", __version__)


def test_seeds_are_the_same_without_saying(grid: Command) -> None:
    assert grid("a cat").err.splitlines()[1] == "seeds: 0-3"
    first = grid.sheet()
    grid("a cat")
    assert (grid.sheet() == first).all()


@pytest.mark.parametrize(
    ("argv", "pictures", "told"),
    [
        (["a cat", "two birds", "--steps", "4"], 4 * 5, "steps 4"),
        (["a cat", "two birds", "a heart", "kitten", "--square", "5"], 25, "square 5"),
        (["a cat", "two birds", "a heart", "kitten", "--square", "3", "--seed", "1-4"], 9, "square 3"),
        (
            ["a heart", "--direction", "a cat", "a red cat", "--strengths=-1,0,2"],
            4 * 3,
            "direction a cat -> a red cat, strengths -1,0,2",
        ),
        (["a cat", "two birds", "--fine", "a heart", "--fine", "kitten"], 4, "mixtures with a heart | kitten"),
        (["a cat", "--fine", "a heart", "--fine-from", "0"], 1, "mixtures with a heart, fine from stage 0"),
    ],
)
def test_every_way_to_lay_it_out(grid: Command, argv: list[str], pictures: int, told: str) -> None:
    ended = grid(*argv)
    assert ended.code == 0
    assert ended.err.startswith(f"{pictures} image")
    assert grid.text("grid") == told


def test_quiet_prints_the_path_alone(grid: Command) -> None:
    grid.out = grid.out.with_name("new") / "grid.webp"
    ended = grid("a cat", "--quiet", "--size", 32)
    assert (ended.code, ended.out, ended.err) == (0, f"{grid.out}\n", "")
    with Image.open(grid.out) as image:
        assert image.format == "WEBP"


def test_a_square_has_its_corners(grid: Command) -> None:
    captions = ["a cat", "two birds", "a heart", "kitten"]
    assert grid(*captions, "--square", 3, "--seed", "1-4", "--size", 32).code == 0
    pipe = tiny.pipeline()
    for caption, seed in zip(captions, (1, 2, 3, 4), strict=True):
        assert grid.holds(pipe(caption, seed=seed).images[0])


def test_fine_from_0_is_the_fine_caption(grid: Command) -> None:
    assert grid("a cat", "--fine", "two birds", "--fine-from", 0, "--seed", 6, "--size", 32).code == 0
    assert grid.holds(tiny.pipeline()("two birds", seed=6).images[0])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], 'nothing to generate: give prompts, as in galip grid "a red heart" "a sleepy cat"'),
        (["a cat", ""], "it is empty"),
        (["a cat", "--seed", "x"], "'x' is not a seed"),
        (["a cat", "--steps", "3"], "--steps leads from one prompt to another"),
        (["a cat", "a heart", "--steps", "1"], "'--steps'"),
        (["a cat", "a heart", "--square", "3"], "--square with 2 prompts and 1 seed: give four prompts"),
        (["a cat", "--square", "3", "--seed", "1,2"], "--square with 1 prompt and 2 seeds"),
        (["a cat", "a heart", "--steps", "3", "--fine", "kitten"], "--steps and --fine are given"),
        (["a cat", "--fine", "kitten", "--seed", "1,2"], "--fine with --seed 1,2"),
        (["a cat", "--fine-from", "2"], "--fine-from belongs to --fine"),
        (["a cat", "--strengths", "1,2"], "--strengths belongs to --direction"),
        (["a cat", "--direction", "a cat", "a red cat", "--strengths", "1,x"], "--strengths 1,x: 'x' is not a number"),
        (["a cat", "--direction", "a cat", "a cat"], "there is no direction between them"),
        (["a cat", "-o", "grid.txt"], "grid.txt: an image file is written; name it .png, .webp"),
        (["a cat", "--resample", "cubic"], "'--resample': Value error, 'cubic' is not one of 'lanczos'"),
        (["a cat", "--seed", "0-4999"], "a grid of 1 x 5000 is 5,000 images"),
        (["a cat", "--size", "8192", "--seed", "0-9"], "give a smaller --size"),
        (["a cat"], "no such folder and no such bundled model"),
    ],
)
def test_a_mistake_is_one_clean_line_before_the_model_is_loaded(grid: Command, argv: list[str], message: str) -> None:
    grid.model = Path("no-such-model")
    check_mistake(grid, argv, message)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["a cat", "--fine", "kitten", "--fine-from", "9"], "fine_from is 9: this model has the stages 0 bridge"),
        (["a cat", "--direction", "a cat", "a heart", "--strengths=-1e30"], "nothing of the sentence is left"),
    ],
)
def test_a_mistake_that_only_the_model_can_tell(grid: Command, argv: list[str], message: str) -> None:
    check_mistake(grid, argv, message)


def check_mistake(grid: Command, argv: list[str], message: str) -> None:
    ended = grid(*argv)
    assert ended.code == 2
    assert message in ended.err
    assert "Traceback" not in ended.err
    assert ended.out == ""
    assert not grid.out.exists()


def test_the_file_is_checked_before_the_model(grid: Command) -> None:
    grid.out.mkdir()
    grid.model = Path("no-such-model")
    assert "this is a folder; give a file" in grid("a cat").err
