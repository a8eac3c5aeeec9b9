"""`galip train DIR --recipe small`: CLIP, eye, reconstruction, sharpening, a model folder; resumed in each of them."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from training import toy

import galip
from galip.errors import GalipError, InputError
from galip.training import preparation
from galip.training.checkpoint import best_checkpoint, images_of, list_checkpoints
from galip.training.config import TrainConfig
from galip.training.eye.learner import load_eye
from galip.training.recipes import fit_recipe, recipe_config
from galip.training.stages import stages_of

TINY = [
    "clip_training.images=48",
    "clip_training.batch=8",
    "clip_training.text_layers=1",
    "clip_training.vocabulary=600",
    "eye.images=48",
    "eye.batch=8",
    "eye.width=8",
    "generator.bridge_blocks=1",
    "generator.stem_channels=16",
    "generator.block_channels=[16, 8, 8]",
    "stages.reconstruct.schedule.images=16",
    "stages.reconstruct.schedule.batch=4",
    "stages.reconstruct.schedule.warmup=4",
    "stages.sharpen.schedule.images=16",
    "schedule.batch=4",
    "stages.sharpen.schedule.batch=4",
    "checkpoints.every=8",
    "checkpoints.keep=9",
    "logging.every=8",
    "logging.trackers=[]",
    "logging.grid_every=1000",
    "evaluation.every=8",
    "evaluation.captions=4",
    "performance.device=cpu",
]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dozen images of four captions, on nothing."""
    return toy.pictures(tmp_path_factory.mktemp("images") / "icons", alpha=True)


@pytest.fixture(scope="module")
def whole(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the recipe from its beginning to its end."""
    out = tmp_path_factory.mktemp("whole") / "icons"
    assert fit_recipe(tiny(images, out), out) == out / "model"
    return out


def tiny(images: Path, out: Path) -> TrainConfig:
    return recipe_config("small", str(images), out, TINY)


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    found = sorted(folder.rglob("*.safetensors"))
    assert found
    return {f"{path.relative_to(folder)} {key}": value for path in found for key, value in load_file(path).items()}


def equal(one: Path, other: Path) -> bool:
    ours, theirs = tensors(one), tensors(other)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


# ---- the configuration


def test_it_is_worked_out_from_the_data(images: Path, toy_data: Path, tmp_path: Path) -> None:
    config = recipe_config("small", str(images), tmp_path / "my icons")
    assert (config.name, config.generator.image_channels) == ("my-icons", 4)
    assert config.model.clip == str(tmp_path / "my icons" / "clip") and config.evaluation.keep_best == "eye_score"
    first, second = stages_of(config)
    assert (first.config.loss.objective, first.config.optimizer.generator) == ("reconstruct", "muon")
    assert (second.config.loss.objective, second.config.loss.paired) == ("adversarial", 200)
    assert recipe_config("small", str(toy_data), tmp_path).generator.image_channels == 3, "nothing is transparent"
    many = toy.pictures(tmp_path / "many", copies=100)
    larger = recipe_config("small", str(many), tmp_path)
    assert larger.stages[0].schedule["images"] == 24_000 > config.stages[0].schedule["images"], "60 visits of each"
    changed = recipe_config("small", str(images), tmp_path, ["stages.sharpen.loss.paired=50", "seed=3"])
    assert changed.seed == 3 and stages_of(changed)[1].config.loss.paired == 50


@pytest.mark.parametrize(
    ("recipe", "data", "overrides", "message"),
    [
        ("smal", "", [], "--recipe smal: there is no such recipe; known: small"),
        ("small", "pipe:cat x.tar", [], "is streamed; fetch it first"),
        ("small", "", ["stages.polish.loss.paired=1"], "stages has reconstruct, sharpen"),
        ("small", "", ["eye.imagse=1"], r"unknown field eye\.imagse"),
    ],
)
def test_what_is_wrong_is_named(
    images: Path, tmp_path: Path, recipe: str, data: str, overrides: list[str], message: str
) -> None:
    with pytest.raises(GalipError, match=message):
        recipe_config(recipe, data or str(images), tmp_path, overrides)


# ---- the whole of it


def test_the_model_folder_is_whole(whole: Path) -> None:
    model = whole / "model"
    drawn = galip.load(model)("red heart", seed=0, background="transparent").images[0]
    assert (drawn.size, drawn.mode) == ((64, 64), "RGBA")
    assert (model / "generator.onnx").is_file() and (model / "contact-sheet.png").stat().st_size > 1000
    card = (model / "README.md").read_text()
    assert "reconstruct, 16 images, then sharpen, 16 images" in card and "`eye_recognised`" in card
    best = best_checkpoint(whole / "checkpoints")
    assert best is not None and best.metric == "eye_score"
    assert json.loads((model / "training.json").read_text())["images"] == images_of(best.checkpoint)
    ours = load_file(next((model / "generator").glob("*.safetensors")))
    theirs = load_file(best.checkpoint / "ema.safetensors")
    assert all(torch.equal(ours[key], value) for key, value in theirs.items() if key in ours)
    rows = [json.loads(line) for line in (whole / "log.jsonl").read_text().splitlines()]
    scored = [row for row in rows if "eye_score" in row]
    assert len(scored) == 4 and best.value == min(row["eye_score"] for row in scored)
    assert all(
        row["eye_score"] * max(row["eye_recognised"], 0.25) == pytest.approx(row["eye_distance"]) for row in scored
    )
    assert not list(whole.glob("*.pt")), "nothing unfinished is left"


def test_its_clip_and_eye_are_ready_for_other_runs(whole: Path, images: Path) -> None:
    eye, captions = load_eye(whole / "eye")
    assert captions == sorted(toy.CAPTIONS) and eye(torch.zeros(1, 3, 64, 64)).shape == (1, 4)
    run = toy.config(images, whole / "clip", generator={}, discriminator={}, model={"preset": "mini-64"})
    assert run.model.clip == str(whole / "clip")


def test_a_finished_run_is_not_begun_again(whole: Path, images: Path) -> None:
    with pytest.raises(InputError, match="a run is there already; add --resume latest"):
        fit_recipe(tiny(images, whole), whole)


@pytest.mark.parametrize("where", ["clip", "eye", "reconstruct", "sharpen"])
def test_it_is_resumed_in_each_stage_bit_for_bit(
    whole: Path,
    images: Path,
    tmp_path: Path,
    where: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Stopped after a few of a stage's steps, as SIGTERM stops it, and gone on with."""
    caplog.set_level(logging.INFO, "galip")
    out = tmp_path / "icons"
    config = tiny(images, out)
    stop, stages = threading.Event(), {stage.name: stage for stage in stages_of(config)}

    class Asked:
        def __enter__(self) -> threading.Event:
            return stop

        def __exit__(self, *_: Any) -> None:
            pass

    def watch(stage: str, done: int, total: int) -> None:
        place = stages[where].start + 8 if where in stages else 16
        if stage == ("training" if where in stages else where) and done >= place:
            stop.set()

    with monkeypatch.context() as patched:
        patched.setattr(preparation, "stop_on_signals", Asked)
        patched.setattr("galip.training.loop.stop_on_signals", Asked)
        assert fit_recipe(config, out, progress=watch) is None
    assert (out / f"{where}.pt").exists() == (where not in stages)
    assert "stopped at" in caplog.text and "stages: clip, eye, reconstruct, sharpen" in caplog.text
    if where == "sharpen":
        assert "clip: a CLIP learns which caption belongs to which image, 48 images, about" in caplog.text
        assert "reconstruct: 16 images, about" in caplog.text
    assert fit_recipe(config, out, "latest") == out / "model"
    assert equal(out / "clip", whole / "clip") and equal(out / "eye", whole / "eye")
    assert equal(list_checkpoints(out / "checkpoints")[-1], list_checkpoints(whole / "checkpoints")[-1])


# ---- what the two learn


def test_the_clip_learns_which_caption_is_whose(images: Path, tmp_path: Path) -> None:
    config = recipe_config(
        "small", str(images), tmp_path, [*TINY, "clip_training.images=960", "clip_training.batch=12"]
    )
    assert preparation.prepare(config.model_copy(update={"eye": None}))
    from galip.torch_backend.encoders import load_clip

    tokenizer, text, vision = load_clip(str(tmp_path / "clip"))
    from galip.models.text import CLIPSentenceEncoder

    said = CLIPSentenceEncoder(tokenizer, text).encode(list(toy.CAPTIONS))
    assert said.norm(dim=1).mean().item() == pytest.approx(10, rel=0.1)
    cosines = torch.nn.functional.normalize(said, dim=1) @ torch.nn.functional.normalize(said, dim=1).T
    assert (cosines - torch.eye(4)).max() < 0.7, "what looks different has different vectors"
    assert vision.config.image_size == 64


def test_the_eye_recognises_real_images(images: Path, tmp_path: Path) -> None:
    config = recipe_config("small", str(images), tmp_path, [*TINY, "eye.images=960", "eye.batch=12"])
    assert preparation.prepare(config.model_copy(update={"clip_training": None}))
    from galip.data.open import open_source
    from galip.training.eye.scores import _real_images

    eye, captions = load_eye(tmp_path / "eye")
    source = open_source(str(images))
    answers = eye(_real_images(source, list(range(12)))).argmax(1)  # type: ignore[arg-type]
    assert [captions[i] for i in answers] == [source.captions_at(i)[0] for i in range(12)]  # type: ignore[union-attr]


def test_a_progress_file_of_other_data_is_refused(images: Path, tmp_path: Path) -> None:
    config = tiny(images, tmp_path)
    torch.save({"module": {}, "optimizer": {}, "seen": 8, "data": "other"}, tmp_path / "clip.pt")
    with pytest.raises(GalipError, match=r"clip\.pt: the data has changed since; remove this file to begin anew"):
        preparation.prepare(config)
    (tmp_path / "clip.pt").write_bytes(b"nothing")
    with pytest.raises(GalipError, match=r"clip\.pt: cannot be gone on from .*remove it"):
        preparation.prepare(config)
