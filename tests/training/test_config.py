"""Configuration files: what is wrong is named, overrides win."""

from __future__ import annotations

import inspect
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from galip.errors import GalipError, InputError
from galip.models.discriminator import MateDiscriminator
from galip.models.generator import MateGenerator
from galip.models.presets import PRESETS
from galip.training.config import TrainConfig
from galip.training.config_file import RENAMED, load_config, named_configs

FILE = "name: a\ndata: {source: images}\nschedule: {images: 100, batch: 8}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(FILE)
    return path


def test_overrides_win_and_defaults_are_the_papers(file: Path) -> None:
    config = load_config(file, ["schedule.batch=16", "optimizer.betas=[0.5, 0.9]"])
    assert (config.schedule.batch, config.schedule.images, config.optimizer.betas) == (16, 100, (0.5, 0.9))
    paper = load_config(file)
    assert (paper.loss.penalty_k, paper.loss.penalty_p, paper.loss.similarity) == (2.0, 6.0, 4.0)
    assert (paper.optimizer.lr_generator, paper.optimizer.lr_discriminator) == (1e-4, 4e-4)
    assert paper.optimizer.betas == (0.0, 0.9)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("schedule.bacth=16", r"unknown field schedule\.bacth; did you mean batch\?"),
        ("run.bacth=16", r"unknown field run\.bacth; did you mean schedule\.batch\?"),
        ("optimizer.batch=16", r"unknown field optimizer\.batch; did you mean schedule\.batch\?"),
        ("schedule.batch=1", r"schedule\.batch is 1"),
        ("schedule.images=many", r"schedule\.images is 'many'"),
        ("performance.precision=fp8", r"performance\.precision is 'fp8'"),
        ("loss.zzz=1", r"unknown field loss\.zzz; known: heads, heads_warmup, mismatch, noise, objective, paired"),
        ("no-equals", "is not section.field=value"),
        ("name.x=1", "is a value, not a section"),
    ],
)
def test_what_is_wrong_is_named(file: Path, override: str, message: str) -> None:
    with pytest.raises(GalipError, match=message):
        load_config(file, [override])


def test_files_that_are_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(GalipError, match=r"missing\.yaml: there is no such file; name a YAML file, or one of cc12m"):
        load_config(tmp_path / "missing.yaml")
    for content, message in [
        ("- a\n", "mapping"),
        ("a: [", "not YAML that can be read"),
        ("name: a\n", "data is missing"),
    ]:
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


OLD = """
name: a
model: {preset: mini-64, generator: {stem_channels: 24}, discriminator: {tap_blocks: [1]}}
data: {source: images, most_broken: 0.5}
loss: {shift: 0.1, paired: 2}
optimizer: {lr_generator: 3.0e-4, warmup: 5, decay: cosine}
run: {seed: 3, images: 100, batch: 8, precision: bf16, ema_ramp: null, log_every: 7, keep: 4, keep_grids_as: webp}
evaluation: {pictures: 12}
guard: {most_returns: 1, least_diversity: 0.2}
"""
NEW = """
name: a
seed: 3
model: {preset: mini-64}
generator: {stem_channels: 24}
discriminator: {tap_blocks: [1]}
data: {source: images, max_broken: 0.5}
augmentation: {shift: 0.1}
loss: {paired: 2}
optimizer: {lr_generator: 3.0e-4}
schedule: {images: 100, batch: 8, warmup: 5, decay: cosine}
ema: {ramp: null}
guard: {max_returns: 1, min_diversity: 0.2}
checkpoints: {keep: 4}
logging: {every: 7, grid_format: webp}
performance: {precision: bf16}
evaluation: {images: 12}
"""


def test_names_of_the_last_version_are_read_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(OLD)
    new.write_text(NEW)
    assert load_config(new) == load_config(old)
    assert "run.batch -> schedule.batch" in caplog.text and "model.generator -> generator" in caplog.text
    assert len(caplog.records) == 1 and "old.yaml" in caplog.text
    assert load_config(new, ["run.batch=16", "model.generator.z_dim=5"]).generator.z_dim == 5
    both = tmp_path / "both.yaml"
    both.write_text(NEW + "run: {batch: 4}\n")
    with pytest.raises(GalipError, match=r"run\.batch is now called schedule\.batch, and both are given"):
        load_config(both)


def test_every_old_name_means_a_field_that_exists(file: Path) -> None:
    tree = load_config(file).model_dump()
    for new in RENAMED.values():
        place = tree
        for part in new.split("."):
            place = place[part]


def test_layers_lie_over_each_other(tmp_path: Path) -> None:
    """Defaults < preset < file < command line."""
    path = tmp_path / "run.yaml"
    path.write_text(FILE + "model: {preset: mini-64}\ngenerator: {stem_channels: 24, z_dim: 9}\n")
    config = load_config(path, ["generator.z_dim=11"])
    preset = PRESETS["mini-64"]
    assert (config.generator.z_dim, config.generator.stem_channels) == (11, 24)
    assert config.generator.block_sizes == preset.generator["block_sizes"]
    assert config.discriminator.tap_blocks == preset.discriminator["tap_blocks"]
    assert config.optimizer.betas == (0, 0.9)
    assert load_config(path, ["model.preset=b32-224"]).model.clip == PRESETS["b32-224"].clip
    started = load_config(path, ["model.start_from=folder"])
    assert started.generator.given() == {"stem_channels": 24, "z_dim": 9}


@pytest.mark.parametrize(("section", "network"), [("generator", MateGenerator), ("discriminator", MateDiscriminator)])
def test_network_sections_have_the_networks_arguments(section: str, network: type) -> None:
    arguments = list(inspect.signature(network.__init__).parameters)[1:]
    fields = TrainConfig.model_fields[section].annotation.model_fields  # type: ignore[union-attr]
    # Which discriminator it is is nobody's argument.
    assert sorted(fields.keys() - {"looks_at"}) == sorted(arguments)


def test_named_configurations_and_run_folders_are_found(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_config("own", ["data.source=x"]).name == "own"
    assert {"own", "coco", "cub", "cc3m", "cc12m", "emoji"} <= named_configs().keys()
    (file.parent / "config.yaml").write_text(FILE)
    assert load_config(file.parent).name == "a"
    with pytest.raises(InputError, match=r"nowhere: there is no such file; name a YAML file, or one of .*coco"):
        load_config("nowhere")
    monkeypatch.chdir(file.parent)
    (file.parent / "own").write_text(FILE)
    assert load_config("own").name == "a", "a file of one's own comes first"


def test_a_home_folder_is_expanded(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    monkeypatch.setenv("USERPROFILE", "/somewhere")
    config = load_config(file, ["data.source=~/a", "model.clip=~/b", "evaluation.weights={clip: ~/c}"])
    assert (config.data.source, config.model.clip) == ("/somewhere/a", "/somewhere/b")
    assert config.evaluation.weights == {"clip": "/somewhere/c"}


@pytest.mark.parametrize("field", ["data", "evaluation"])
def test_a_file_may_not_name_a_command_unless_it_is_trusted(file: Path, field: str) -> None:
    tree = yaml.safe_load(FILE)
    tree.setdefault(field, {})["source"] = "pipe:touch x"
    file.write_text(yaml.safe_dump(tree))
    with pytest.raises(InputError, match=rf"{field}\.source is a command, 'pipe:touch x'.*--allow-commands"):
        load_config(file)
    assert load_config(file, allow_commands=True).model_dump()[field]["source"] == "pipe:touch x"
    assert load_config(file, [f"{field}.source=pipe:cat a.tar"])  # whoever types a command means it


def test_yaml_that_is_a_trap_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "bomb.yaml"
    lines = ["a: &a [x,x,x,x,x,x,x,x,x]"]
    lines += [f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]" for a, b in pairwise("abcdefgh")]
    for text in ("\n".join(lines), "[" * 10_000, "a: !!python/object/apply:os.getcwd []"):
        path.write_text(text)
        with pytest.raises(GalipError, match=r"bomb\.yaml: ") as caught:
            load_config(path)
        assert "\n" not in str(caught.value)
