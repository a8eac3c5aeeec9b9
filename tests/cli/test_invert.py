"""`galip invert`, run as a user runs it, with a tiny real model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from cli.running import DrawingCommand
from PIL import Image

from galip.cli import COMMANDS
from galip.generation.load import load
from galip.utils.contact_sheet import SHEET_NAME

QUICK = ("--steps", 4, "--restarts", 2)


class Command(DrawingCommand):
    """`galip invert PICTURE --model TINY -o OUT ...` and a look at what it left there."""

    def __init__(self, model: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        super().__init__("invert", model, folder / "out", capsys, ("--device", "cpu"))
        self.picture = folder / "picture.png"
        load(model, engine="torch", device="cpu")("a red heart", seed=77).images[0].save(self.picture)

    def names(self) -> set[str]:
        return {path.name for path in self.out.iterdir()}


@pytest.fixture
def invert(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(model, tmp_path, capsys)


def test_a_picture_its_edits_and_variations(invert: Command) -> None:
    ended = invert(
        invert.picture, "--caption", "a heart", "--edit", "two birds", "--edit", "a cat", "--variations", 2, *QUICK
    )
    assert ended.code == 0
    lines = ended.err.splitlines()
    assert lines[0].startswith("reconstruction: PSNR ")
    edits = {name for name in invert.names() if name.startswith("edit-")}
    assert len(edits) == 2 and any(name.startswith("edit-two-birds-s0-") for name in edits)
    rest = {"target.png", "inverted.png", "variation-0.png", "variation-1.png", SHEET_NAME}
    assert invert.names() == edits | rest | {"inversion.json", "inversion.npz"}
    facts = json.loads((invert.out / "inversion.json").read_text())
    assert (facts["model"], facts["picture"], facts["caption"], facts["steps"]) == (
        "tiny-32",
        "picture.png",
        "a heart",
        4,
    )
    assert f"PSNR {facts['psnr_db']:.1f} dB" in lines[0]


def test_what_was_found_draws_the_picture_and_can_be_given_back(invert: Command, tmp_path: Path) -> None:
    assert invert(invert.picture, *QUICK).code == 0
    arrays = np.load(invert.out / "inversion.npz")
    pipe = load(invert.model, engine="torch", device="cpu")
    redrawn = pipe(prompt_embeds=torch.from_numpy(arrays["e"])[None], latents=arrays["z"][None]).images[0]
    with Image.open(invert.out / "inverted.png") as image:
        assert np.abs(np.asarray(image, int) - np.asarray(redrawn, int)).max() <= 1
    first, invert.out = invert.out, tmp_path / "again"
    ended = invert(first, "--edit", "two birds", "--strength", 0)
    assert ended.code == 0
    [edited] = [name for name in invert.names() if name.startswith("edit-two-birds")]
    for name in (edited, "inverted.png"):  # at strength 0 the same picture
        with Image.open(invert.out / name) as image:
            assert np.abs(np.asarray(image, int) - np.asarray(redrawn, int)).max() <= 1
    assert "inversion.json" not in invert.names()


def test_options_of_the_search_are_refused_where_there_is_none(invert: Command) -> None:
    assert invert(invert.picture, *QUICK).code == 0
    for option in (("--steps", 5), ("--per-stage",), ("--clip", "x"), ("--fit", "pad")):
        ended = invert(invert.out, *option)
        assert ended.code == 2
        assert ended.err.startswith(f"Error: {option[0]}: ")
        assert "was inverted already" in ended.err


def test_other_weights_are_refused(invert: Command, tmp_path: Path) -> None:
    assert invert(invert.picture, *QUICK).code == 0
    invert.model = tiny.save(tmp_path / "other", seed=1)
    ended = invert(invert.out, "--edit", "a cat")
    assert ended.code == 2
    assert "it was inverted with other weights" in ended.err


def test_an_unknown_fit_is_an_error_of_usage(invert: Command) -> None:
    ended = invert(invert.picture, "--fit", "stretch")
    assert (ended.code, "'--fit': Value error, 'stretch' is not one of 'crop', 'pad'" in ended.err) == (2, True)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("nothing.png",), "there is neither an image nor a folder"),
        (("PICTURE", "--strength", 1.5, "--edit", "a cat"), "--strength 1.5: give 0 to 1, or the image's --caption"),
        (("PICTURE", "--strength", -1, "--caption", "a cat"), "--strength -1.0: give 0 or more"),
        (("PICTURE", "--amount", 2), "--amount 2.0: give 0 to 1"),
        (("PICTURE", "--edit", " "), "empty"),
        (("PICTURE", "--clip", "no-such"), "--clip no-such: there is no such folder"),
        (("BROKEN",), "not a readable image (unknown format)"),
    ],
)
def test_bad_options_are_one_line_and_nothing_is_written(
    invert: Command, argv: tuple[object, ...], message: str
) -> None:
    broken = invert.picture.with_name("broken.png")
    broken.write_text("no picture")
    invert.model = Path("no-such-model")  # everything else is looked at first
    ended = invert(*({"PICTURE": invert.picture, "BROKEN": broken}.get(word, word) for word in argv))
    assert ended.code == 2
    assert message in ended.err and ended.err.count("\n") == 1
    assert not (invert.out / "inversion.json").exists()


def test_it_is_a_command() -> None:
    assert "invert" in COMMANDS
