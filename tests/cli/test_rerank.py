"""`galip generate --best-of` and `--refine`, run as a user runs them, with a tiny real model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
from cli.running import DrawingCommand
from PIL import Image

from galip.export.exporting import Source, export
from galip.generation.load import load
from galip.latent.refinement import refine
from galip.latent.reranking import best_of
from galip.torch_backend.pipeline import GALIPPipeline
from galip.utils.contact_sheet import SHEET_NAME

CAPTIONS = ("a red heart", "two birds")


@pytest.fixture(scope="module")
def pipe(model: Path) -> GALIPPipeline:
    return load(model, engine="torch", device="cpu")


class Command(DrawingCommand):
    """`galip generate --model TINY --device cpu -o OUT ...` and a look at what it left there."""

    def pictures(self) -> dict[tuple[str, int], Path]:
        paths = [path for path in self.out.iterdir() if path.name != SHEET_NAME]
        return {(texts(path)["prompt"], int(texts(path)["seed"])): path for path in paths}


@pytest.fixture
def generate(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command("generate", model, tmp_path / "out", capsys, ("--device", "cpu", "--engine", "torch"))


def texts(path: Path) -> dict[str, str]:
    with Image.open(path) as image:
        return dict(image.text)


def near(path: Path, image: Image.Image) -> bool:
    with Image.open(path) as stored:
        return bool(np.abs(np.asarray(stored, int) - np.asarray(image, int)).max() <= 1)


def test_the_best_of_the_seeds_are_kept_under_their_usual_names(
    generate: Command, pipe: GALIPPipeline, tmp_path: Path
) -> None:
    ended = generate(*CAPTIONS, "--seed", 3, "-n", 2, "--best-of", 6, "--truncation", 0.8)
    assert ended.code == 0
    expected = best_of(pipe, CAPTIONS, 6, keep=2, seed=3, truncation=0.8)
    lines = ended.err.splitlines()
    assert lines[0] == f"12 images generated, 4 of them kept: {generate.out}"
    assert lines[1] == "seeds: 3-8"
    assert lines[2:4] == [f"  {one.prompt}: {one.seeds[0]}, {one.seeds[1]}" for one in expected]
    found = generate.pictures()
    assert set(found) == {(one.prompt, seed) for one in expected for seed in one.seeds}
    for one in expected:
        for seed, score in zip(one.seeds, one.scores, strict=True):
            path = found[one.prompt, seed]
            assert near(path, pipe(one.prompt, seed=seed, truncation=0.8).images[0])
            told = texts(path)
            assert float(told["clip_score"]) == pytest.approx(score, abs=1e-3)
            assert (told["chosen"], told["clip"]) == ("2 of seeds 3-8", "the model's own")
    generate.out = tmp_path / "plain"
    assert generate(*CAPTIONS, "--seed", "3-8", "--truncation", 0.8).code == 0
    plain = generate.pictures()
    assert all(plain[key].name == path.name for key, path in found.items())


def test_a_choice_is_not_made_again(generate: Command) -> None:
    argv = ("--seed", 0, "-n", 2, "--best-of", 5)
    assert generate(*CAPTIONS, *argv).code == 0
    before = {path: path.stat().st_mtime_ns for path in generate.pictures().values()}
    ended = generate(*CAPTIONS, "a sleepy cat", *argv)
    assert ended.err.startswith("5 images generated, 2 of them kept, 4 were there already: ")
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    next(iter(before)).unlink()
    assert generate(*CAPTIONS, *argv).err.startswith("5 images generated, 2 of them kept, 2 were there already: ")
    assert set(before) < set(generate.pictures().values())
    # Out of more seeds it is another choice.
    assert generate(*CAPTIONS, "--seed", 0, "-n", 2, "--best-of", 6).err.startswith(
        "12 images generated, 4 of them kept"
    )


def test_what_is_there_already_without_a_choice_is_no_choice(generate: Command) -> None:
    assert generate("two birds", "--seed", "0-4").code == 0
    ended = generate("two birds", "--seed", 0, "--best-of", 5)
    assert ended.err.startswith("5 images generated, 1 of them kept: ")
    [chosen] = [path for path in generate.pictures().values() if "chosen" in texts(path)]
    assert ended.err.splitlines()[2] == f"  two birds: {texts(chosen)['seed']}"


def test_another_clip_may_choose(generate: Command, pipe: GALIPPipeline, tmp_path: Path) -> None:
    other = tiny.save(tmp_path / "other", seed=1)
    assert generate(*CAPTIONS, "--seed", 0, "--best-of", 9, "--clip", other).code == 0
    found = generate.pictures()
    assert set(found) == {(one.prompt, one.seeds[0]) for one in best_of(pipe, CAPTIONS, 9, seed=0, clip=other)}
    assert set(found) != {(one.prompt, one.seeds[0]) for one in best_of(pipe, CAPTIONS, 9, seed=0)}
    assert {texts(path)["clip"] for path in found.values()} == {"other"}


def test_refined_pictures_have_names_of_their_own(generate: Command, pipe: GALIPPipeline) -> None:
    assert generate(*CAPTIONS, "--seed", "4,9").code == 0
    ended = generate(*CAPTIONS, "--seed", "4,9", "--refine", 5, "--batch-size", 3)
    assert ended.code == 0
    assert ended.err.startswith("4 images generated: ")
    refined = [path for path in generate.out.iterdir() if "refined" in texts(path)]
    assert len(refined) == 4
    expected = refine(pipe, [*CAPTIONS, *CAPTIONS], seed=[4, 4, 9, 9], steps=5)
    rows = list(zip(expected.prompts, expected.seeds, expected.images, expected.scores, strict=True))
    for path in refined:
        told = texts(path)
        [(image, score)] = [row[2:] for row in rows if (row[0], str(row[1])) == (told["prompt"], told["seed"])]
        assert near(path, image)
        assert float(told["clip_score"]) == pytest.approx(score, abs=1e-3)
        assert (told["refined"], told["clip"]) == ("5 steps", "the model's own")
    assert generate(*CAPTIONS, "--seed", "4,9", "--refine", 5).err.startswith(
        "0 images generated, 4 were there already"
    )
    assert generate(*CAPTIONS, "--seed", "4,9", "--refine", 4).err.startswith("4 images generated: ")


def test_the_best_ones_may_be_refined(generate: Command, pipe: GALIPPipeline) -> None:
    assert generate(*CAPTIONS, "--seed", 0, "-n", 2, "--best-of", 5, "--refine", 3).code == 0
    found = generate.pictures()
    for one in best_of(pipe, CAPTIONS, 5, keep=2, seed=0):
        for seed, score in zip(one.seeds, one.scores, strict=True):
            assert float(texts(found[one.prompt, seed])["clip_score"]) > score - 1e-3
    assert generate(*CAPTIONS, "--seed", 0, "-n", 2, "--best-of", 5, "--refine", 3).err.startswith("0 images generated")


@pytest.mark.engines
def test_an_engine_draws_what_a_clip_chooses(
    generate: Command, pipe: GALIPPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GALIP_CACHE", str(tmp_path / "cache"))
    expected = {(one.prompt, one.seeds[0]) for one in best_of(pipe, CAPTIONS, 5, seed=0)}
    generate.options = ("--device", "cpu", "--engine", "onnxruntime", "--threads", 1)
    assert generate(*CAPTIONS, "--seed", 0, "--best-of", 5).code == 0
    assert set(generate.pictures()) == expected
    model = generate.model
    export(pipe, Source("tiny-32", model), tmp_path / "exported", "onnx")
    generate.model, generate.out = tmp_path / "exported", tmp_path / "from-export"
    ended = generate(*CAPTIONS, "--seed", 0, "--best-of", 5)
    assert "has no CLIP of its own that sees images; name one with --clip" in ended.err
    assert "is exported and only generates" in generate("a cat", "--refine", 2).err
    assert generate(*CAPTIONS, "--seed", 0, "--best-of", 5, "--clip", model).code == 0
    assert set(generate.pictures()) == expected


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--best-of", 2, "-n", 3), "-n 3 with --best-of 2: give at most as many as are generated"),
        (("--best-of", 4, "--seed", "0-2"), "--best-of 4, but --seed 0-2 names 3 seeds"),
        (("--best-of", 2, "--seed", 2**63 - 1), "--seed 9223372036854775807 with --best-of 2: the last seed"),
        (("--clip", "x"), "--clip belongs to --best-of and --refine, neither of which is given"),
        (("--best-of", 2, "--clip", "no-such"), "--clip no-such: there is no such folder"),
        (("--refine", 2, "--engine", "openvino"), "--refine with --engine openvino: gradients are torch's"),
        (("--best-of", 0), "'--best-of'"),
        (("--refine", 0), "'--refine'"),
    ],
)
def test_a_mistake_is_found_before_anything_is_loaded(
    generate: Command, argv: tuple[object, ...], message: str, tmp_path: Path
) -> None:
    (tmp_path / "broken").mkdir()
    generate.model = tmp_path / "broken"
    ended = generate("a cat", *argv)
    assert ended.code == 2
    assert message in ended.err
    assert "Traceback" not in ended.err
    assert not generate.out.exists()


def test_a_t5_cannot_choose(generate: Command, tmp_path: Path) -> None:
    tiny.pipeline(text="t5").save_pretrained(tmp_path / "t5", graphs=False)
    generate.model = tmp_path / "t5"
    for option in ("--best-of", "--refine"):
        ended = generate("a cat", option, 2)
        assert ended.code == 2
        assert f"{option}: {tmp_path / 't5'} has no CLIP of its own" in ended.err
