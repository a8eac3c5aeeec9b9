"""The loop: bit-for-bit resume, what is written, what stops it, and that a toy run really learns."""

from __future__ import annotations

import json
import os
import shutil
import signal
import warnings
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from training import toy
from training.toy import open_run

import galip
from galip.data.folder import CaptionedFolder
from galip.data_prep.base import WritingOptions
from galip.data_prep.folder import folder as folder_source
from galip.data_prep.writing import prepare
from galip.errors import GalipError, InputError
from galip.training.checkpoint import find_checkpoint, images_of, list_checkpoints, read_info
from galip.training.ema import update_ema
from galip.training.export import export_checkpoint
from galip.training.guards import TrainingDiedError
from galip.training.hooks import Hook
from galip.training.loop import Trainer
from galip.training.plan import plan
from galip.training.step_base import StepStats
from galip.training.text_vectors import VectorTable


def last_weights(run: Path) -> dict[str, torch.Tensor]:
    folder = list_checkpoints(run / "checkpoints")[-1]
    return {
        f"{path.stem}.{key}": tensor for path in folder.glob("*.safetensors") for key, tensor in load_file(path).items()
    }


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_six_steps_equal_three_and_a_resume_and_three(
    toy_data: Path, toy_clip: Path, tmp_path: Path, precision: str
) -> None:
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    open_run(toy.config(toy_data, toy_clip, performance={"precision": precision}), whole).fit()
    open_run(
        toy.config(toy_data, toy_clip, performance={"precision": precision}, schedule={"images": 12}), halves
    ).fit()
    resumed = open_run(toy.config(toy_data, toy_clip, performance={"precision": precision}), halves, resume="latest")
    assert resumed.state.seen == 12
    assert resumed.differences == ["schedule.images: 12 -> 24"]
    resumed.fit()
    a, b = last_weights(whole), last_weights(halves)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)
    rows = [json.loads(line) for line in (halves / "log.jsonl").read_text().splitlines()]
    assert [row["images"] for row in rows] == [4, 8, 12, 16, 20, 24]
    unbroken = [json.loads(line) for line in (whole / "log.jsonl").read_text().splitlines()]
    for ours, theirs in zip(rows, unbroken, strict=True):
        assert {k: v for k, v in ours.items() if k != "images_per_second"} == {
            k: v for k, v in theirs.items() if k != "images_per_second"
        }


def test_a_resume_between_two_log_rows_logs_the_same_means(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    open_run(toy.config(toy_data, toy_clip, logging={"every": 16}), whole).fit()
    open_run(toy.config(toy_data, toy_clip, logging={"every": 16}, schedule={"images": 12}), halves).fit()
    open_run(toy.config(toy_data, toy_clip, logging={"every": 16}), halves, resume="latest").fit()
    (a,), (b,) = (
        [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()] for run in (whole, halves)
    )
    assert a["loss_d"] == b["loss_d"] and a["similarity"] == b["similarity"]


def test_a_run_leaves_what_a_user_needs(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    trainer = open_run(toy.config(toy_data, toy_clip, logging={"grid_every": 12}, checkpoints={"every": 8}), run)
    model = trainer.fit()
    row = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
    terms = {"d_real", "d_fake", "d_mismatch", "penalty", "adversarial", "similarity", "loss_d", "loss_g"}
    assert terms | {"score_real", "score_fake", "score_mismatch", "images_per_second"} <= row.keys()
    assert len(list((run / "grids").iterdir())) == 2
    assert yaml.safe_load((run / "config.yaml").read_text())["schedule"]["images"] == 24
    assert any((run / "tensorboard").iterdir())
    first = galip.load(model)("red heart", seed=3, output_type="np").images
    # The checkpoint exported by itself is the same model.
    again = export_checkpoint(list_checkpoints(run / "checkpoints")[-1], tmp_path / "again")
    assert (galip.load(again)("red heart", seed=3, output_type="np").images == first).all()
    with pytest.raises(InputError, match="--resume latest"):
        open_run(toy.config(toy_data, toy_clip), run)


def test_d_learns_to_tell_real_from_fake_then_similarity_rises(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    rates = {"lr_generator": 1e-3, "lr_discriminator": 4e-3}
    config = toy.config(
        toy_data,
        toy_clip,
        schedule={"images": 8 * 32, "batch": 8},
        logging={"every": 8},
        optimizer=rates,
        loss={"similarity": 20.0},
    )
    open_run(config, tmp_path / "run").fit()
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]

    def mean(name: str, part: slice) -> float:
        return sum(row[name] for row in rows[part]) / len(rows[part])

    assert abs(rows[0]["score_real"] - rows[0]["score_fake"]) < 0.2
    assert mean("score_real", slice(-16, None)) - mean("score_fake", slice(-16, None)) > 1
    # Without the similarity term it stays near its start, 0.2.
    assert mean("similarity", slice(-8, None)) > rows[0]["similarity"] + 0.15


def test_the_frozen_parts_do_not_move(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    trainer = open_run(toy.config(toy_data, toy_clip), tmp_path / "run")
    frozen = (trainer.state.networks.vision, trainer.state.networks.text_encoder)
    before = [{k: v.clone() for k, v in network.state_dict().items()} for network in frozen]
    trainer.fit()
    for network, old in zip(frozen, before, strict=True):
        assert all(torch.equal(value, old[key]) for key, value in network.state_dict().items())
        assert not any(p.requires_grad or p.grad is not None for p in network.parameters())


def test_a_value_that_is_not_finite_stops_the_run(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    open_run(toy.config(toy_data, toy_clip, schedule={"images": 8}), run).fit()
    trainer = open_run(toy.config(toy_data, toy_clip), run, resume="latest")
    with torch.no_grad():
        trainer.state.networks.discriminator.quality_assessor.conv2.weight.fill_(float("nan"))
    with pytest.raises(TrainingDiedError, match=r"d_real.*became nan.*images-000000008"):
        trainer.fit()
    assert [path.name for path in list_checkpoints(run / "checkpoints")] == ["images-000000008"]


def test_loss_scalers_are_resumed(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    unlike = 1024.0  # a fresh scaler would begin at 65536
    for run, images in ((whole, 24), (halves, 12)):
        trainer = open_run(
            toy.config(toy_data, toy_clip, performance={"precision": "fp16"}, schedule={"images": images}), run
        )
        for scaler in trainer.state.step.scalers.values():
            scaler.load_state_dict(scaler.state_dict() | {"scale": unlike})
        trainer.fit()
    resumed = open_run(toy.config(toy_data, toy_clip, performance={"precision": "fp16"}), halves, resume="latest")
    assert {scaler.get_scale() for scaler in resumed.state.step.scalers.values()} == {unlike}
    resumed.fit()
    a, b = last_weights(whole), last_weights(halves)
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_the_best_checkpoint_by_score_is_kept(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    evaluation = {"every": 4, "captions": 6, "keep_best": "clip_score_own"}
    config = toy.config(toy_data, toy_clip, checkpoints={"keep": 1}, evaluation=evaluation)
    run = tmp_path / "run"
    open_run(config, run).fit()
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    scores = {row["images"]: row["clip_score_own"] for row in rows if "clip_score_own" in row}
    assert sorted(scores) == [4, 8, 12, 16, 20, 24]
    best = find_checkpoint(run, "best")
    assert images_of(best) == max(scores, key=lambda images: scores[images])
    assert json.loads((best / "state.json").read_text())["scores"]["clip_score_own"] == max(scores.values())
    assert all(0 <= row["drawn_diversity"] <= 2 for row in rows if "clip_score_own" in row)


class Collapse(Hook):
    """Lets the generator give one and the same image from `at` images on, until the run has returned."""

    def __init__(self, at: int) -> None:
        self.at = at

    def after_step(self, trainer: Trainer, stats: StepStats) -> bool:
        if trainer.state.seen >= self.at and trainer.state.lr_scale == 1:
            with torch.no_grad():
                trainer.state.networks.generator.image_generator.to_rgb.weight.zero_()
        return False


@pytest.mark.parametrize("what", ["warn", "return"])
def test_collapse_is_told_or_undone(
    toy_data: Path, toy_clip: Path, tmp_path: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    guard = {"collapse": what, "patience": 2}
    schedule = {"images": 40}
    config = toy.config(toy_data, toy_clip, checkpoints={"every": 4, "keep": 4}, schedule=schedule, guard=guard)
    run = tmp_path / "run"
    trainer = open_run(config, run)
    trainer.hooks.append(Collapse(at=16))
    trainer.fit()
    told = caplog.text
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert "collapse since 16 images: diversity 0.000, less than 0.4 of its best" in told
    assert [row["images"] for row in rows] == list(range(4, 44, 4))
    if what == "warn":
        assert "consider --resume best" in told and rows[-1]["rate"] == 1
    else:
        assert "returned to images-000000016, rates now 0.5 of the configuration's" in told
        assert [row["rate"] for row in rows] == [1.0] * 4 + [0.5] * 6
        assert all(row["diversity"] > 0 for row in rows)
        # What the collapsed run left is gone, and what the run knows of its return outlives it.
        assert [images_of(path) for path in list_checkpoints(run / "checkpoints")] == [28, 32, 36, 40]
        resumed = open_run(config, run, resume="latest")
        assert resumed.state.lr_scale == 0.5
        assert read_info(list_checkpoints(run / "checkpoints")[-1]).guard["returns"] == 1


def test_going_on_from_an_earlier_checkpoint_forgets_the_later_ones(
    toy_data: Path, toy_clip: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    open_run(toy.config(toy_data, toy_clip, checkpoints={"every": 4, "keep": 9}), run).fit()
    config = toy.config(toy_data, toy_clip, checkpoints={"every": 4, "keep": 1}, schedule={"images": 12})
    open_run(config, run, resume="images-000000008").fit()
    assert [images_of(path) for path in list_checkpoints(run / "checkpoints")] == [12]


def test_a_broken_weight_is_never_saved(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    trainer = open_run(toy.config(toy_data, toy_clip), tmp_path / "run")
    with torch.no_grad():
        trainer.state.networks.generator.image_generator.to_rgb.bias[0] = float("inf")
    with pytest.raises(TrainingDiedError, match="weights became infinite"):
        trainer.save()
    assert not list_checkpoints(tmp_path / "run" / "checkpoints")


def test_betas_and_data_that_changed_are_taken_and_told(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    run, other = tmp_path / "run", toy.pictures(tmp_path / "other", copies=2)
    open_run(toy.config(toy_data, toy_clip, schedule={"images": 4}), run).fit()
    changed = toy.config(other, toy_clip, schedule={"images": 8}, optimizer={"betas": [0.5, 0.99]})
    resumed = open_run(changed, run, resume="latest")
    assert resumed.state.step.optimizers["generator"].param_groups[0]["betas"] == (0.5, 0.99)
    assert any(line.startswith("the data's hash: ") for line in resumed.differences)
    assert any(line.startswith("optimizer.betas: ") for line in resumed.differences)


def test_a_stream_trains_and_draws_its_grids(toy_clip: Path, tmp_path: Path) -> None:
    pictures = toy.pictures(tmp_path / "pictures")
    shards = tmp_path / "shards"
    prepare(folder_source(pictures, WritingOptions()), shards, WritingOptions())
    tars = "|".join(str(path) for path in (shards / "train").glob("*.tar"))
    config = toy.config(pictures, toy_clip, schedule={"images": 8}, logging={"grid_every": 4})
    config = toy.change(config, data={"source": f"file:{tars}"})
    trainer = open_run(config, tmp_path / "run")
    assert trainer.data.records is None
    trainer.fit()
    assert len(list((tmp_path / "run" / "grids").iterdir())) == 2


def test_without_a_sound_checkpoint_a_collapse_ends_the_run(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    guard = {"collapse": "return", "patience": 1}
    trainer = open_run(toy.config(toy_data, toy_clip, schedule={"images": 40}, guard=guard), tmp_path / "run")
    trainer.hooks.append(Collapse(at=8))
    with pytest.raises(TrainingDiedError, match="no sound checkpoint is there"):
        trainer.fit()


def test_the_plan_counts_and_writes_nothing(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    trainer = open_run(toy.config(toy_data, toy_clip, schedule={"images": 1000}), tmp_path / "run")
    made = plan(trainer)
    generator = sum(p.numel() for p in trainer.state.networks.generator.parameters())
    assert made.trained["generator"] == generator
    assert (made.steps, made.batch, made.micro_batch, made.processes, made.records) == (250, 4, 4, 1, 12)
    assert made.seconds_per_step > 0 and made.peak_gib > made.state_gib > 0
    assert any("250 steps to 1,000 images, 83.3 epochs of 12 images" in line for line in made.lines())
    assert not (tmp_path / "run").exists()


def test_trackers_that_are_not_there_are_named_before_anything_starts(
    toy_data: Path, toy_clip: Path, tmp_path: Path
) -> None:
    if find_spec("wandb"):
        pytest.skip("wandb is installed here")
    with pytest.raises(InputError, match="pip install wandb"):
        open_run(toy.config(toy_data, toy_clip, logging={"trackers": ["wandb"]}), tmp_path / "run")


def test_sigterm_ends_with_a_checkpoint(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    trainer = open_run(toy.config(toy_data, toy_clip, schedule={"images": 4_000_000}), tmp_path / "run")

    class Signal(Hook):
        def after_step(self, trainer: Trainer, stats: StepStats) -> bool:
            if trainer.state.seen == 12:
                os.kill(os.getpid(), signal.SIGTERM)
            return False

    trainer.hooks.append(Signal())
    trainer.fit()
    assert list_checkpoints(tmp_path / "run" / "checkpoints")[-1].name == "images-000000012"
    assert (tmp_path / "run" / "model" / "model_index.json").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"preset": "mini"}}, "known: released-b32-224"),
        ({"model": {"clip": "/nowhere/clip"}}, "no CLIP could be loaded"),
        ({"generator": {"vision_width": 64}}, r"generator\.vision_width is 64.*has 32"),
        ({"generator": {"block_channels": [4]}}, r"generator: block_sizes is .* and block_channels is \(4,\)"),
        ({"discriminator": {"tap_blocks": [0, 9]}}, "block 9 is prompted or tapped"),
    ],
)
def test_networks_that_do_not_fit_are_found_before_training(
    toy_data: Path, toy_clip: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    with pytest.raises(GalipError, match=message):
        open_run(toy.config(toy_data, toy_clip, **change), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_text_vectors_have_the_same_bits_from_the_table_as_its_block(
    toy_data: Path, toy_clip: Path, tmp_path: Path
) -> None:
    trainer = open_run(toy.config(toy_data, toy_clip), tmp_path / "run")
    captions, encoder = CaptionedFolder(toy_data).captions, trainer.state.networks.sentence_encoder
    device = torch.device("cpu")
    table = VectorTable(encoder, captions)
    assert torch.equal(table(captions[2:5], device), encoder.encode(captions)[2:5])
    without = VectorTable(encoder, None)
    torch.testing.assert_close(without(captions[2:5], device), table(captions[2:5], device), rtol=1e-4, atol=1e-5)


def test_ema_half_life_is_counted_in_images() -> None:
    average, network = torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(average.weight)
    torch.nn.init.ones_(network.weight)
    for step in range(5):
        update_ema(average, network, batch=20, seen=20 * (step + 1), half_life=100, ramp=None)
    assert average.weight.item() == pytest.approx(0.5)
    update_ema(average, network, batch=20, seen=200, half_life=100, ramp=0.05)  # half-life 10: two of them pass
    assert average.weight.item() == pytest.approx(0.875)


def test_training_on_from_a_model_keeps_its_weights_and_licence(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    model = open_run(toy.config(toy_data, toy_clip), tmp_path / "first").fit()
    card = model / "README.md"
    card.write_text(card.read_text().replace("library_name: galip\n", "library_name: galip\nlicense: research-only\n"))
    config = toy.trained_on_from(toy.config(toy_data, toy_clip, name="second"), model)
    trainer = open_run(config, tmp_path / "second")
    started, saved = (
        trainer.state.networks.generator.state_dict(),
        load_file(next((model / "generator").glob("*.safetensors"))),
    )
    assert all(torch.equal(tensor, saved[key]) for key, tensor in started.items())
    exported = trainer.fit()
    assert "research-only" in (exported / "README.md").read_text()
    said = json.loads((tmp_path / "second" / "start.json").read_text())
    assert said == {"model": str(model), "training": json.loads((model / "training.json").read_text())}
    assert said["training"]["images"] > 0 and not (tmp_path / "first" / "start.json").exists()
    with pytest.raises(InputError, match=r"generator\.stem_channels is 20, but the model .* has 16"):
        open_run(toy.change(config, generator={"stem_channels": 20}), tmp_path / "third")


def test_numbers_that_break_in_the_first_step_get_advice_that_fits(
    toy_data: Path, toy_clip: Path, tmp_path: Path
) -> None:
    trainer = open_run(toy.config(toy_data, toy_clip), tmp_path / "run")
    with torch.no_grad():
        trainer.state.networks.generator.image_generator.to_rgb.bias.fill_(float("nan"))
    with pytest.raises(TrainingDiedError, match=r"after 0 images .* became nan; no rate is too high before the first"):
        trainer.fit()


@pytest.mark.parametrize("captions", [["one cat"], ["one cat", "one cat"]])
def test_one_caption_for_everything_is_refused(
    toy_clip: Path, tmp_path: Path, captions: list[str], toy_data: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for number, caption in enumerate(captions):
        (data / f"{number}.txt").write_text(caption)
        shutil.copy(next(toy_data.glob("*.png")), data / f"{number}.png")
    with pytest.raises(InputError, match=r"data: fewer than 2 different captions"):
        open_run(toy.config(data, toy_clip), tmp_path / "run")


def test_progress_after_a_changed_batch_never_passes_the_end(
    toy_data: Path, toy_clip: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "galip")
    told: list[tuple[str, int, int]] = []
    config = toy.config(toy_data, toy_clip, schedule={"images": 10, "batch": 4})
    open_run(config, tmp_path / "run", progress=lambda *progress: told.append(progress)).fit()
    assert told[-1] == ("training", 12, 12) and all(done <= total for _, done, total in told)
    assert "12/12 images" in caplog.text and "-0 min" not in caplog.text and "0 min left" in caplog.text


@pytest.mark.parametrize("cached", [True, False])
def test_captions_that_are_too_long_are_one_line_with_a_count(
    toy_clip: Path, tmp_path: Path, toy_data: Path, caplog: pytest.LogCaptureFixture, cached: bool
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for number in range(4):
        lines = [f"red {'rain ' * 40}{number} {line}" for line in range(30)]
        (data / f"{number}.txt").write_text("\n".join(lines))
        shutil.copy(next(toy_data.glob("*.png")), data / f"{number}.png")
    trainer = open_run(toy.config(data, toy_clip), tmp_path / "run")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vectors = toy.caption_vectors(trainer, cached=cached)
        for batch in islice(toy.batches(trainer), 3):
            vectors(batch.captions)
    told = [record.getMessage() for record in caplog.records if "too long" in record.getMessage()]
    assert len(told) == 1 and "red rain rain" in told[0]
    assert told[0].startswith("120 captions are too long and are truncated" if cached else "captions that are too long")
