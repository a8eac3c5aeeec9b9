"""A generator with an alpha channel: its images and the real ones are seen on the same background."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from training import toy
from training.toy import open_run

import galip
from galip.errors import InputError
from galip.training import distances
from galip.training.augment import lay_on
from galip.training.config import TrainConfig


@pytest.fixture(scope="module")
def rgba_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.pictures(tmp_path_factory.mktemp("rgba") / "data", alpha=True)


def config(source: Path, clip: Path, /, **sections: object) -> TrainConfig:
    generator = {"image_channels": 4} | dict(sections.pop("generator", {}))  # type: ignore[call-overload]
    return toy.config(source, clip, generator=generator, **sections)


def test_real_and_fake_lie_on_the_same_colour(rgba_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    trainer = open_run(config(rgba_data, toy_clip, loss={"paired": 1.0}, augmentation={"shift": 0.0}), tmp_path)
    step, generator = trainer.state.step, trainer.state.networks.generator
    batch = next(iter(toy.batches(trainer)))
    assert batch.images.shape == (4, 4, 32, 32)
    (micro,) = step.micro_batches(batch, toy.caption_vectors(trainer)(batch.captions))
    background = micro.random.background
    assert background is not None and background.shape == (4, 3)
    with torch.no_grad():
        fake = step.g_forward(micro)
        plain = generator(micro.random.z, micro.text.e, trainer.state.networks.vision)
    assert plain.shape[1] == 4 and fake.images.shape == fake.augmented.shape == (4, 3, 32, 32)
    assert torch.equal(fake.images, lay_on(plain, background))
    real = step.real_images(micro)
    corners = real[:, :, 0, 0]  # nothing is there: the background shows
    torch.testing.assert_close(corners, background)
    stats = step(batch, micro.text)
    assert stats.paired == pytest.approx(distances.pyramid_l1(fake.images, real).item(), rel=1e-4)
    assert stats.loss_d is not None and stats.similarity is not None


def test_a_run_with_alpha_writes_grids_scores_and_a_model_on_white(
    rgba_data: Path, toy_clip: Path, tmp_path: Path
) -> None:
    evaluation = {"every": 8, "captions": 4}
    run = config(rgba_data, toy_clip, schedule={"images": 8}, logging={"grid_every": 8}, evaluation=evaluation)
    model = open_run(run, tmp_path / "run").fit()
    (grid,) = (tmp_path / "run" / "grids").iterdir()
    assert Image.open(grid).mode == "RGB"
    pipe = galip.load(model, engine="torch")
    transparent = pipe("rain", seed=0, background="transparent", output_type="np").images
    on_white = pipe("rain", seed=0, output_type="np").images
    assert transparent.shape == (1, 32, 32, 4) and on_white.shape == (1, 32, 32, 3)
    alpha = transparent[..., 3:]
    np.testing.assert_allclose(transparent[..., :3] * alpha + 1 - alpha, on_white, atol=1e-5)


def test_channels_that_contradict_the_generator_are_named(rgba_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.channels is 3, but the generator makes images of 4 channels"):
        open_run(config(rgba_data, toy_clip, data={"channels": 3}), tmp_path)


def test_alpha_is_learnt(rgba_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    """What is empty in every image becomes transparent; on white alone nothing could tell it from white paint."""
    sections = {"loss": {"paired": 500.0, "similarity": 0.0}, "augmentation": {"shift": 0.0}}
    sections["schedule"], sections["logging"] = {"images": 8 * 150, "batch": 8}, {"every": 400}
    sections["optimizer"] = {"lr_generator": 2e-3}
    trainer = open_run(config(rgba_data, toy_clip, **sections), tmp_path / "run")
    trainer.fit()
    average, networks = trainer.state.average, trainer.state.networks
    e = networks.sentence_encoder.encode(["red heart", "rain"])
    with torch.no_grad():
        alpha = (average(torch.zeros(2, average.z_dim), e, networks.vision)[:, 3] + 1) / 2
    assert alpha[:, :3].mean() < 0.35 < 0.65 < alpha[:, 14:18, 14:18].mean()
