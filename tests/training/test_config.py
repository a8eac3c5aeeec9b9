"""Configuration files: what is wrong is named, overrides win."""

from __future__ import annotations

from pathlib import Path

import pytest

from galip.errors import GalipError, InputError
from galip.training.config import load_config

FILE = "name: a\ndata: {source: pictures}\nrun: {images: 100, batch: 8}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(FILE)
    return path


def test_overrides_win_and_defaults_are_the_papers(file: Path) -> None:
    config = load_config(file, ["run.batch=16", "optimizer.betas=[0.5, 0.9]"])
    assert (config.run.batch, config.run.images, config.optimizer.betas) == (16, 100, (0.5, 0.9))
    paper = load_config(file)
    assert (paper.loss.penalty_k, paper.loss.penalty_p, paper.loss.similarity) == (2.0, 6.0, 4.0)
    assert (paper.optimizer.lr_generator, paper.optimizer.lr_discriminator) == (1e-4, 4e-4)
    assert paper.optimizer.betas == (0.0, 0.9)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("run.bacth=16", r"unknown field run\.bacth; did you mean batch\?"),
        ("run.batch=1", r"run\.batch is 1"),
        ("run.images=many", r"run\.images is 'many'"),
        ("run.precision=fp8", r"run\.precision is 'fp8'"),
        ("loss.zzz=1", r"unknown field loss\.zzz; known: colour, cutout, paired, penalty_form"),
        ("no-equals", "is not section.field=value"),
        ("name.x=1", "is a value, not a section"),
    ],
)
def test_what_is_wrong_is_named(file: Path, override: str, message: str) -> None:
    with pytest.raises(GalipError, match=message):
        load_config(file, [override])


def test_files_that_are_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(GalipError, match=r"missing\.yaml: cannot be read"):
        load_config(tmp_path / "missing.yaml")
    for content, message in [("- a\n", "mapping"), ("a: [", "not YAML"), ("name: a\n", "data is missing")]:
        path = tmp_path / "bad.yaml"
        path.write_text(content)
        with pytest.raises(GalipError, match=message):
            load_config(path)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["loss.similarity_second=1"], "asks for model.second_clip, which is empty"),
        (["evaluation.keep_best=clip_score_second", "evaluation.every=10"], "asks for model.second_clip"),
        (["evaluation.keep_best=clip_score_own"], "evaluation.every is 0; say after how many images"),
        (["evaluation.metrics=[fdi]"], "there is no metric fdi for a run; known: fid, kid"),
        (["evaluation.keep_best=fid", "evaluation.every=10"], "keep_best is 'fid'; known: clip_score_own"),
    ],
)
def test_options_that_need_another_are_named(file: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(GalipError, match=message):
        load_config(file, overrides)


def test_the_committed_configurations_are_valid() -> None:
    for path in (Path(__file__).parents[2] / "configs").glob("*.yaml"):
        assert load_config(path).name


def test_an_override_error_is_an_input_error(file: Path) -> None:
    with pytest.raises(InputError):
        load_config(file, ["=3"])
