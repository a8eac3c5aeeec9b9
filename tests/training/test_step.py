"""A step depends on its batch alone, however the batch is held; what the options add; who trains and who does not."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import tiny
import torch
from models import tiny as parts
from training import toy
from training.toy import open_run

import galip
from galip.data.rng import Stream
from galip.errors import InputError
from galip.models.text import T5SentenceEncoder
from galip.training import distances
from galip.training.batches import per_rank_batch_size
from galip.training.loop import Trainer
from galip.training.rng import sample_noise
from galip.training.text_vectors import TextVectors


def rows(trainer: Trainer, steps: int = 2) -> list[dict[str, float]]:
    vectors = toy.caption_vectors(trainer)
    return [
        trainer.state.step(batch, vectors(batch.captions)).numbers() for batch in islice(toy.batches(trainer), steps)
    ]


@pytest.mark.parametrize("micro", [1, 2, 4])
def test_micro_batches_change_nothing_but_the_order_of_sums(
    toy_data: Path, toy_clip: Path, tmp_path: Path, micro: int
) -> None:
    augmentation, loss = {"colour": 0.5, "cutout": 0.2}, {"r1": 0.1, "paired": 1.0}
    config = toy.config(toy_data, toy_clip, schedule={"batch": 8}, augmentation=augmentation, loss=loss)
    whole = rows(open_run(config, tmp_path))
    parted = rows(open_run(toy.change(config, performance={"micro_batch": micro}), tmp_path))
    for ours, theirs in zip(parted, whole, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5)


def test_a_micro_batch_that_does_not_fit_is_named(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"performance\.micro_batch is 3.*a divisor of 4"):
        open_run(toy.config(toy_data, toy_clip, performance={"micro_batch": 3}), tmp_path)


@pytest.mark.parametrize("world", [1, 4, 8, 16, 64])
def test_the_papers_batch_can_be_shared(world: int) -> None:
    assert per_rank_batch_size(512, 64, world) == 512 // world


@pytest.mark.parametrize("option", ["checkpoint_vit", "channels_last"])
def test_how_it_is_computed_changes_no_number(toy_data: Path, toy_clip: Path, tmp_path: Path, option: str) -> None:
    plain = rows(open_run(toy.config(toy_data, toy_clip), tmp_path))
    trainer = open_run(toy.config(toy_data, toy_clip, performance={option: True}), tmp_path)
    assert trainer.state.networks.vision.checkpointing == (option == "checkpoint_vit")
    weight = trainer.state.networks.generator.image_generator.stem.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) == (option == "channels_last")
    for ours, theirs in zip(rows(trainer), plain, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5)


def test_the_mismatch_is_looked_for_in_the_whole_batch(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    trainer = open_run(toy.config(toy_data, toy_clip, performance={"micro_batch": 1}), tmp_path)
    batch = next(iter(toy.batches(trainer)))
    e = torch.arange(4.0)[:, None]

    def mismatched(*captions: str) -> list[torch.Tensor | None]:
        asked = type(batch)(batch.images, list(captions), batch.indices)
        return [micro.e_mis for micro in trainer.state.step.micro_batches(asked, TextVectors(e, e))]

    assert [None if e_mis is None else e_mis.item() for e_mis in mismatched("a", "a", "b", "a")] == [2, 2, 3, 2]
    assert mismatched("a", "a", "a", "a") == [None] * 4


def test_one_caption_for_the_whole_batch_leaves_the_term_out(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    trainer = open_run(toy.config(toy_data, toy_clip), tmp_path)
    batch = next(iter(toy.batches(trainer)))
    batch = type(batch)(batch.images, ["rain"] * 4, batch.indices)
    row = trainer.state.step(batch, toy.caption_vectors(trainer, cached=False)(batch.captions)).numbers()
    assert row["d_mismatch"] == row["score_mismatch"] == 0 < row["d_real"]


def test_diversity_is_the_mean_pairwise_distance(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    trainer = open_run(toy.config(toy_data, toy_clip, augmentation={"shift": 0.0}), tmp_path)
    batch = next(iter(toy.batches(trainer)))
    text = toy.caption_vectors(trainer)(batch.captions)
    (micro,) = trainer.state.step.micro_batches(batch, text)
    with torch.no_grad():
        vectors = torch.nn.functional.normalize(trainer.state.step.g_forward(micro).vectors, dim=1)
    cosines = vectors @ vectors.T
    pairs = cosines[~torch.eye(4, dtype=torch.bool)]
    assert trainer.state.step(batch, text).diversity == pytest.approx(1 - pairs.mean().item(), abs=1e-5)


def test_options_of_the_loss_are_logged_and_reach_the_weights(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    other_clip = tiny.save(tmp_path / "other", seed=5)
    plain = toy.config(toy_data, toy_clip)
    terms = {"r1": 5.0, "similarity_second": 2.0, "paired": 1.0}
    stabilised = toy.change(plain, loss=terms, model={"second_clip": str(other_clip)})
    trainers = [open_run(config, tmp_path / "run") for config in (plain, stabilised)]
    first, second = (rows(trainer)[-1] for trainer in trainers)
    assert second["r1"] > 0 and -1 <= second["similarity_second"] <= 1 and 0 < second["spread"] < second["paired"] < 2
    assert not {"r1", "similarity_second", "paired", "spread"} & first.keys()
    for name in ("generator", "discriminator"):
        a, b = (getattr(trainer.state.networks, name).state_dict() for trainer in trainers)
        assert any(not torch.equal(a[key], b[key]) for key in a)


def test_the_paired_term_compares_with_the_captions_own_picture(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    """As they lie, whatever the augmentation of what D sees."""
    loss, augmentation = {"paired": 2000.0, "similarity": 0}, {"shift": 0.25, "colour": 0.5}
    config = toy.config(toy_data, toy_clip, loss=loss, augmentation=augmentation)
    trainer = open_run(config, tmp_path)
    generator = trainer.state.networks.generator
    batch = next(iter(toy.batches(trainer)))
    text = toy.caption_vectors(trainer)(batch.captions)
    noises = [
        sample_noise(config.seed, batch.indices, generator.z_dim, stream)
        for stream in (Stream.NOISE, Stream.OTHER_NOISE)
    ]
    with torch.no_grad():
        drawn, again = (generator(z, text.e, trainer.state.networks.vision) for z in noises)
    distance = distances.pyramid_l1(drawn, batch.images.float() / 127.5 - 1).item()
    spread = distances.pyramid_l1(drawn, again).item()
    row = trainer.state.step(batch, text).numbers()
    assert (row["paired"], row["spread"]) == (pytest.approx(distance, rel=1e-4), pytest.approx(spread, rel=1e-4))
    assert row["loss_g"] == pytest.approx(row["adversarial"] + 2000 * (distance - spread), rel=1e-4)


def test_a_penalty_of_nothing_is_not_computed(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    row = rows(open_run(toy.config(toy_data, toy_clip, loss={"penalty_k": 0}), tmp_path), 1)[0]
    assert row["penalty"] == 0


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_stays_near_full(toy_data: Path, toy_clip: Path, tmp_path: Path, precision: str) -> None:
    full = rows(open_run(toy.config(toy_data, toy_clip), tmp_path), 1)[0]
    trainer = open_run(toy.config(toy_data, toy_clip, performance={"precision": precision}), tmp_path)
    half = rows(trainer, 1)[0]
    assert half == pytest.approx(full, rel=0.1, abs=0.05)
    assert half != pytest.approx(full, rel=1e-6)  # something was computed in less
    assert trainer.state.step.scalers["generator"].is_enabled() == (precision == "fp16")
    assert all(p.dtype == torch.float32 for p in trainer.state.networks.generator.parameters())


def test_dead_weights_of_the_release_are_not_trained(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    config = toy.config(toy_data, toy_clip)
    config = toy.change(config, discriminator={"dead_shortcuts": True})
    trainer = open_run(config, tmp_path)
    dead = [p for name, p in trainer.state.networks.discriminator.named_parameters() if ".dead_shortcut." in name]
    before = [p.clone() for p in dead]
    rows(trainer)
    assert dead and all(torch.equal(a, b) and not a.requires_grad for a, b in zip(dead, before, strict=True))


def test_fine_tuning_of_a_released_model_keeps_its_input_mapping(
    toy_data: Path, toy_clip: Path, tmp_path: Path
) -> None:
    config = toy.config(toy_data, toy_clip, schedule={"images": 4})
    changed = {"generator": {"clip_input": "released", "block_sizes": [7, 14, 28]}}
    changed["discriminator"] = {"dead_shortcuts": True}
    released = open_run(toy.change(config, **changed), tmp_path / "first").fit()
    config = toy.trained_on_from(config, released)
    trainer = open_run(config, tmp_path / "second")
    assert trainer.state.networks.vision.clip_input == "released"
    assert trainer.state.networks.generator.image_size == 28
    model = trainer.fit()
    assert galip.load(model, engine="torch").vision.clip_input == "released"
    assert (model / "discriminator" / "config.json").exists()


@pytest.fixture(scope="module")
def toy_t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("t5")
    tokenizer = parts.tokenizer(start=None)
    parts.t5_model(len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_t5_conditions_while_clip_compares(toy_data: Path, toy_clip: Path, toy_t5: Path, tmp_path: Path) -> None:
    config = toy.config(toy_data, toy_clip, schedule={"images": 8})
    with pytest.raises(InputError, match=r"generator\.cond_dim is 24, but .* has 32"):
        open_run(toy.change(config, model={"text": str(toy_t5)}), tmp_path / "run")
    wide = {"cond_dim": 32}
    config = toy.change(config, model={"text": str(toy_t5)}, generator=wide, discriminator=wide)
    trainer = open_run(config, tmp_path / "run")
    captions = trainer.data.source.some_captions(100)
    vectors = toy.caption_vectors(trainer)(captions)
    assert vectors.e.shape[1] == 32 and vectors.clip.shape[1] == 24
    assert vectors.e.norm(dim=1).mean().item() == pytest.approx(10, rel=1e-3)
    model = trainer.fit()
    pipe = galip.load(model, engine="torch")
    assert isinstance(pipe.sentence_encoder, T5SentenceEncoder)
    assert pipe.sentence_encoder.scale == pytest.approx(trainer.state.networks.t5.scale)  # type: ignore[union-attr]
    resumed = open_run(toy.change(config, schedule={"images": 12}), tmp_path / "run", resume="latest")
    assert resumed.state.networks.t5 is not None and resumed.state.networks.t5.scale == trainer.state.networks.t5.scale  # type: ignore[union-attr]
    resumed.fit()


@pytest.mark.parametrize(("kept", "scale"), [("released", 16384.0), ("dynamic", 32.0)])
def test_a_loss_scale_that_has_fallen_is_reset_where_that_is_asked_for(
    toy_data: Path, toy_clip: Path, tmp_path: Path, kept: str, scale: float
) -> None:
    performance = {"precision": "fp16", "loss_scale": kept}
    trainer = open_run(
        toy.config(toy_data, toy_clip, performance=performance, schedule={"images": 4}), tmp_path / "run"
    )
    for scaler in trainer.state.step.scalers.values():
        scaler.load_state_dict(scaler.state_dict() | {"scale": 32.0})
    trainer.fit()
    assert {scaler.get_scale() for scaler in trainer.state.step.scalers.values()} == {scale}
