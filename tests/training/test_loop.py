"""The loop: bit-for-bit resume, what is written, what stops it, and that a toy run really learns."""

from __future__ import annotations

import json
import os
import signal
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from training import toy

import galip
from galip.data.folder import CaptionedFolder
from galip.data_prep.base import WritingOptions
from galip.data_prep.folder import folder as folder_source
from galip.data_prep.writing import prepare
from galip.errors import GalipError, InputError
from galip.training.checkpoint import find_checkpoint, images_of, list_checkpoints
from galip.training.config import EvaluationConfig, GuardConfig
from galip.training.ema import update_ema
from galip.training.export import export_checkpoint
from galip.training.guards import TrainingDiedError
from galip.training.loop import Trainer
from galip.training.plan import plan
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
    Trainer(toy.config(toy_data, toy_clip, precision=precision), whole).fit()
    Trainer(toy.config(toy_data, toy_clip, precision=precision, images=12), halves).fit()
    resumed = Trainer(toy.config(toy_data, toy_clip, precision=precision), halves, resume="latest")
    assert resumed.seen == 12
    assert resumed.differences == ["run.images: 12 -> 24"]
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
    Trainer(toy.config(toy_data, toy_clip, log_every=16), whole).fit()
    Trainer(toy.config(toy_data, toy_clip, log_every=16, images=12), halves).fit()
    Trainer(toy.config(toy_data, toy_clip, log_every=16), halves, resume="latest").fit()
    (a,), (b,) = (
        [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()] for run in (whole, halves)
    )
    assert a["loss_d"] == b["loss_d"] and a["similarity"] == b["similarity"]


def test_a_run_leaves_what_a_user_needs(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    trainer = Trainer(toy.config(toy_data, toy_clip, grid_every=12, checkpoint_every=8), run)
    model = trainer.fit()
    row = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
    terms = {"d_real", "d_fake", "d_mismatch", "penalty", "adversarial", "similarity", "loss_d", "loss_g"}
    assert terms | {"score_real", "score_fake", "score_mismatch", "images_per_second"} <= row.keys()
    assert len(list((run / "grids").iterdir())) == 2
    assert yaml.safe_load((run / "config.yaml").read_text())["run"]["images"] == 24
    assert any((run / "tensorboard").iterdir())
    first = galip.load(model)("red heart", seed=3, output_type="np").images
    # The checkpoint exported by itself is the same model.
    again = export_checkpoint(list_checkpoints(run / "checkpoints")[-1], tmp_path / "again")
    assert (galip.load(again)("red heart", seed=3, output_type="np").images == first).all()
    with pytest.raises(InputError, match="--resume latest"):
        Trainer(toy.config(toy_data, toy_clip), run)


def test_d_learns_to_tell_real_from_fake_then_similarity_rises(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    rates = {"lr_generator": 1e-3, "lr_discriminator": 4e-3}
    config = toy.config(toy_data, toy_clip, images=8 * 32, batch=8, log_every=8, optimizer=rates, similarity=20.0)
    Trainer(config, tmp_path / "run").fit()
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]

    def mean(name: str, part: slice) -> float:
        return sum(row[name] for row in rows[part]) / len(rows[part])

    assert abs(rows[0]["score_real"] - rows[0]["score_fake"]) < 0.2
    assert mean("score_real", slice(-16, None)) - mean("score_fake", slice(-16, None)) > 1
    # Without the similarity term it stays near its start, 0.2.
    assert mean("similarity", slice(-8, None)) > rows[0]["similarity"] + 0.15


def test_the_frozen_parts_do_not_move(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    trainer = Trainer(toy.config(toy_data, toy_clip), tmp_path / "run")
    frozen = (trainer.networks.vision, trainer.networks.text_encoder)
    before = [{k: v.clone() for k, v in network.state_dict().items()} for network in frozen]
    trainer.fit()
    for network, old in zip(frozen, before, strict=True):
        assert all(torch.equal(value, old[key]) for key, value in network.state_dict().items())
        assert not any(p.requires_grad or p.grad is not None for p in network.parameters())


def test_a_value_that_is_not_finite_stops_the_run(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    Trainer(toy.config(toy_data, toy_clip, images=8), run).fit()
    trainer = Trainer(toy.config(toy_data, toy_clip), run, resume="latest")
    with torch.no_grad():
        trainer.networks.discriminator.quality_assessor.conv2.weight.fill_(float("nan"))
    with pytest.raises(TrainingDiedError, match=r"d_real.*became nan.*images-000000008"):
        trainer.fit()
    assert [path.name for path in list_checkpoints(run / "checkpoints")] == ["images-000000008"]


def test_loss_scalers_are_resumed(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    unlike = 1024.0  # a fresh scaler would begin at 65536
    for run, images in ((whole, 24), (halves, 12)):
        trainer = Trainer(toy.config(toy_data, toy_clip, precision="fp16", images=images), run)
        for scaler in trainer.step.scalers.values():
            scaler.load_state_dict(scaler.state_dict() | {"scale": unlike})
        trainer.fit()
    resumed = Trainer(toy.config(toy_data, toy_clip, precision="fp16"), halves, resume="latest")
    assert {scaler.get_scale() for scaler in resumed.step.scalers.values()} == {unlike}
    resumed.fit()
    a, b = last_weights(whole), last_weights(halves)
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_the_best_checkpoint_by_score_is_kept(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    config = toy.config(toy_data, toy_clip, keep=1)
    config = config.model_copy(update={"evaluation": EvaluationConfig(every=4, captions=6, keep_best="clip_score_own")})
    run = tmp_path / "run"
    Trainer(config, run).fit()
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    scores = {row["images"]: row["clip_score_own"] for row in rows if "clip_score_own" in row}
    assert sorted(scores) == [4, 8, 12, 16, 20, 24]
    best = find_checkpoint(run, "best")
    assert images_of(best) == max(scores, key=lambda images: scores[images])
    assert json.loads((best / "state.json").read_text())["scores"]["clip_score_own"] == max(scores.values())
    assert all(0 <= row["drawn_diversity"] <= 2 for row in rows if "clip_score_own" in row)


def collapsing(trainer: Trainer, at: int) -> None:
    """Let the generator draw one and the same picture from `at` images on, as a collapsed one does."""
    check = trainer._check_finite

    def check_then_collapse(row: dict[str, float]) -> None:
        check(row)
        if trainer.seen >= at and trainer.watch.returns == 0:
            row["diversity"] = 0.0

    trainer._check_finite = check_then_collapse  # type: ignore[method-assign]


@pytest.mark.parametrize("what", ["warn", "return"])
def test_collapse_is_told_or_undone(
    toy_data: Path, toy_clip: Path, tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = toy.config(toy_data, toy_clip, checkpoint_every=4, keep=4, images=40)
    config = config.model_copy(update={"guard": GuardConfig.model_validate({"collapse": what, "patience": 2})})
    run = tmp_path / "run"
    trainer = Trainer(config, run)
    collapsing(trainer, at=16)
    trainer.fit()
    told = capsys.readouterr().err.replace("\n", " ")
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
        resumed = Trainer(config, run, resume="latest")
        assert resumed.watch.returns == 1 and resumed._lowered == 0.5


def test_going_on_from_an_earlier_checkpoint_forgets_the_later_ones(
    toy_data: Path, toy_clip: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    Trainer(toy.config(toy_data, toy_clip, checkpoint_every=4, keep=9), run).fit()
    config = toy.config(toy_data, toy_clip, checkpoint_every=4, keep=1, images=12)
    Trainer(config, run, resume="images-000000008").fit()
    assert [images_of(path) for path in list_checkpoints(run / "checkpoints")] == [12]


def test_a_broken_weight_is_never_saved(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    trainer = Trainer(toy.config(toy_data, toy_clip), tmp_path / "run")
    with torch.no_grad():
        trainer.networks.generator.image_generator.to_rgb.bias[0] = float("inf")
    with pytest.raises(TrainingDiedError, match="weights became infinite"):
        trainer.save()
    assert not list_checkpoints(tmp_path / "run" / "checkpoints")


def test_betas_and_data_that_changed_are_taken_and_told(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    run, other = tmp_path / "run", toy.pictures(tmp_path / "other", copies=2)
    Trainer(toy.config(toy_data, toy_clip, images=4), run).fit()
    changed = toy.config(other, toy_clip, images=8, optimizer={"betas": [0.5, 0.99]})
    resumed = Trainer(changed, run, resume="latest")
    assert resumed.step.optimizers["generator"].param_groups[0]["betas"] == (0.5, 0.99)
    assert any(line.startswith("the data's hash: ") for line in resumed.differences)
    assert any(line.startswith("optimizer.betas: ") for line in resumed.differences)


def test_a_stream_trains_and_draws_its_grids(toy_clip: Path, tmp_path: Path) -> None:
    pictures = toy.pictures(tmp_path / "pictures")
    shards = tmp_path / "shards"
    prepare(folder_source(pictures, WritingOptions()), shards, WritingOptions())
    tars = "|".join(str(path) for path in (shards / "train").glob("*.tar"))
    config = toy.config(pictures, toy_clip, images=8, grid_every=4)
    config = config.model_copy(update={"data": config.data.model_copy(update={"source": f"file:{tars}"})})
    trainer = Trainer(config, tmp_path / "run")
    assert trainer.records is None
    trainer.fit()
    assert len(list((tmp_path / "run" / "grids").iterdir())) == 2


def test_without_a_sound_checkpoint_a_collapse_ends_the_run(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    config = toy.config(toy_data, toy_clip, images=40)
    config = config.model_copy(update={"guard": GuardConfig.model_validate({"collapse": "return", "patience": 1})})
    trainer = Trainer(config, tmp_path / "run")
    collapsing(trainer, at=8)
    with pytest.raises(TrainingDiedError, match="no sound checkpoint is there"):
        trainer.fit()


def test_the_plan_counts_and_writes_nothing(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    trainer = Trainer(toy.config(toy_data, toy_clip, images=1000), tmp_path / "run")
    made = plan(trainer)
    generator = sum(p.numel() for p in trainer.networks.generator.parameters())
    assert made.trained["generator"] == generator
    assert (made.steps, made.batch, made.micro_batch, made.processes, made.records) == (250, 4, 4, 1, 12)
    assert made.seconds_per_step > 0 and made.peak_gib > made.state_gib > 0
    assert any("250 steps to 1,000 images, 83.3 epochs of 12 pictures" in line for line in made.lines())
    assert not (tmp_path / "run").exists()


def test_trackers_that_are_not_there_are_named_before_anything_starts(
    toy_data: Path, toy_clip: Path, tmp_path: Path
) -> None:
    if find_spec("wandb"):
        pytest.skip("wandb is installed here")
    with pytest.raises(InputError, match="pip install wandb"):
        Trainer(toy.config(toy_data, toy_clip, trackers=["wandb"]), tmp_path / "run")


def test_sigterm_ends_with_a_checkpoint(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    trainer = Trainer(toy.config(toy_data, toy_clip, images=4_000_000), tmp_path / "run")
    check = trainer._check_finite

    def check_then_signal(row: dict[str, float]) -> None:
        check(row)
        if trainer.seen == 8:
            os.kill(os.getpid(), signal.SIGTERM)

    trainer._check_finite = check_then_signal  # type: ignore[method-assign]
    trainer.fit()
    assert list_checkpoints(tmp_path / "run" / "checkpoints")[-1].name == "images-000000012"
    assert (tmp_path / "run" / "model" / "model_index.json").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"preset": "mini"}, "known: released-b32-224"),
        ({"clip": "/nowhere/clip"}, "no CLIP could be loaded"),
        ({"generator": {"vision_width": 64}}, r"model\.generator\.vision_width is 64.*has 32"),
        ({"generator": {"no_such": 1}}, r"model\.generator: .*no_such"),
        ({"discriminator": {"tap_blocks": [0, 9]}}, "block 9 is prompted or tapped"),
    ],
)
def test_networks_that_do_not_fit_are_found_before_training(
    toy_data: Path, toy_clip: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    config = toy.config(toy_data, toy_clip)
    model = config.model.model_dump()
    for key, value in change.items():
        model[key] = {**model[key], **value} if isinstance(value, dict) else value
    config = config.model_copy(update={"model": type(config.model)(**model)})
    with pytest.raises(GalipError, match=message):
        Trainer(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_text_vectors_have_the_same_bits_from_the_table_as_its_block(
    toy_data: Path, toy_clip: Path, tmp_path: Path
) -> None:
    trainer = Trainer(toy.config(toy_data, toy_clip), tmp_path / "run")
    captions, encoder = CaptionedFolder(toy_data).captions, trainer.networks.sentence_encoder
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
    model = Trainer(toy.config(toy_data, toy_clip), tmp_path / "first").fit()
    card = model / "README.md"
    card.write_text(card.read_text().replace("library_name: galip\n", "library_name: galip\nlicense: research-only\n"))
    config = toy.config(toy_data, toy_clip)
    config = config.model_copy(
        update={"model": config.model.model_copy(update={"start_from": str(model), "clip": ""}), "name": "second"}
    )
    trainer = Trainer(config, tmp_path / "second")
    started, saved = (
        trainer.networks.generator.state_dict(),
        load_file(next((model / "generator").glob("*.safetensors"))),
    )
    assert all(torch.equal(tensor, saved[key]) for key, tensor in started.items())
    exported = trainer.fit()
    assert "research-only" in (exported / "README.md").read_text()
    said = json.loads((tmp_path / "second" / "start.json").read_text())
    assert said == {"model": str(model), "training": json.loads((model / "training.json").read_text())}
    assert said["training"]["images"] > 0 and not (tmp_path / "first" / "start.json").exists()
    wide = config.model.model_copy(update={"generator": config.model.generator | {"stem_channels": 20}})
    with pytest.raises(InputError, match=r"model\.generator\.stem_channels is 20, but the model .* has 16"):
        Trainer(config.model_copy(update={"model": wide}), tmp_path / "third")
