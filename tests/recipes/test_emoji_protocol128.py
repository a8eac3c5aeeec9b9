"""The protocol emoji128: balanced captions, what a perfect and a blind model get, and the recipe's own eye."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

RECIPE = Path(__file__).parents[2] / "recipes" / "emoji"
MODULES = ("eyes", "images", "protocol128", "train_eye")
STYLES = ["noto", "3d"]


@pytest.fixture(scope="module")
def recipe() -> SimpleNamespace:
    """The recipe's scripts as modules; they import each other by name."""
    sys.path.insert(0, str(RECIPE))
    try:
        return SimpleNamespace(**{name: importlib.import_module(name) for name in MODULES})
    finally:
        sys.path.remove(str(RECIPE))


class PixelEye:
    """Sees small versions of images: what is alike in pixels is alike."""

    name = "pixels"

    def __init__(self, looks: type) -> None:
        self.looks = looks

    def __call__(self, images: torch.Tensor) -> object:
        small = F.adaptive_avg_pool2d(images.float() / 127.5 - 1, 6).flatten(1)
        return self.looks(small, small[:, ::3])


@pytest.fixture(scope="module")
def world(recipe: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Forty emoji of coloured squares in two styles, ten of them with a skin tone, as `prepare.py` leaves them."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "cache").mkdir()
    rng = np.random.default_rng(0)
    rows: dict[str, list[dict[str, object]]] = {split: [] for split in recipe.protocol128.SPLITS}
    images: dict[str, list[np.ndarray]] = {split: [] for split in recipe.protocol128.SPLITS}
    for number in range(40):
        base = f"{0x1F400 + number:x}"
        squares = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8).repeat(32, 0).repeat(32, 1)
        for place, style in enumerate(STYLES):
            for key in (base, f"{base}-1f3ff")[: 1 + (number < 10)]:
                split = "held_out_emoji" if number >= 36 else "train"
                if style == "3d" and 30 <= number < 36:
                    split = "held_out_pairs"
                colour = squares // (1 + place)
                images[split].append(np.dstack([colour, np.full((128, 128), 255, np.uint8)]))
                row = {"emoji": key, "base": base, "style": style, "label": f"beast {number}", "weight": 1.0}
                rows[split].append(row | {"captions": [f"{style} emoji of beast {number}"], "tags": []})
    for split in rows:
        np.save(folder / "cache" / f"{split}.npy", np.stack(images[split]))
        (folder / "cache" / f"{split}.json").write_text(json.dumps(rows[split]))
    real = recipe.protocol128.RealImages(folder, STYLES)
    return SimpleNamespace(real=real, eye=PixelEye(recipe.eyes.Looks), folder=folder)


@pytest.fixture(autouse=True)
def _few_synonyms(recipe: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [("hound", "beast 3"), ("steed", "beast 31"), ("nobody", "beast 99")]
    monkeypatch.setattr(recipe.protocol128, "read_synonyms", lambda: pairs)


def perfect(real: object) -> dict[str, torch.Tensor]:
    subjects = [subject for of_style in real.subjects.values() for subject in of_style]  # type: ignore[attr-defined]
    made = real.images(subjects)  # type: ignore[attr-defined]
    shown = {subject.caption: image for subject, image in zip(subjects, made, strict=True)}
    return shown | {
        "noto emoji of hound": shown["noto emoji of beast 3"],
        "3d emoji of steed": shown["3d emoji of beast 31"],
    }


def test_a_perfect_model_is_recognised_everywhere(recipe: SimpleNamespace, world: SimpleNamespace) -> None:
    shown = perfect(world.real)
    asked: list[str] = []

    def generate(captions: list[str], seeds: list[int]) -> torch.Tensor:
        asked.extend(captions)
        renamed = [caption.replace("google", "noto") for caption in captions]
        return torch.stack([shown[caption] for caption in renamed])

    figures = recipe.protocol128.evaluate(generate, world.real, [world.eye], 30, {"noto": "google"})
    assert figures.keys() == {"training captions", "held-out pairs", "held-out emoji", "synonyms"}
    for part in figures.values():
        assert part["pixels"]["top 1"]["value"] == part["pixels"]["top 5"]["value"] == 1
        assert part["paired"]["value"] == 0 and part["pixels"]["distance"]["value"] == pytest.approx(0, abs=1e-3)
    counts = {name: part["pixels"]["captions"] for name, part in figures.items()}
    assert counts == {"training captions": 30, "held-out pairs": 6, "held-out emoji": 8, "synonyms": 2}
    assert figures["training captions"]["pixels"]["frechet"]["generated / real"] == pytest.approx(1)
    assert all(caption.startswith(("google ", "3d ")) for caption in asked)
    assert (world.folder / "eyes" / "pixels-noto.safetensors").exists()


def test_a_model_that_heeds_no_caption(recipe: SimpleNamespace, world: SimpleNamespace) -> None:
    one = torch.full((3, 64, 64), 90, dtype=torch.uint8)
    figures = recipe.protocol128.evaluate(
        lambda captions, seeds: one.expand(len(captions), -1, -1, -1), world.real, [world.eye], 30, {}
    )
    found = figures["training captions"]["pixels"]
    assert found["top 1"]["value"] < 0.15 and found["frechet"]["generated / real"] > 2
    assert figures["training captions"]["paired"]["value"] > 0.3


def test_captions_are_balanced_over_genders(recipe: SimpleNamespace) -> None:
    subject = recipe.protocol128.Subject
    genders = [f"1f3c{n % 8}-200d-{sign}" for n in range(100) for sign in ("2640", "2642")]
    runners = [subject("train", n, key, "noto", key, n) for n, key in enumerate(genders)]
    things = [subject("train", n, f"1f4{n:02x}", "noto", str(n), n) for n in range(8)]
    picked = sum(one in things for seed in range(60) for one in recipe.protocol128.chosen(runners + things, 2, seed))
    assert 0.35 < picked / 120 < 0.65  # eight groups on either side, whatever their sizes


def test_paired_l1_is_the_objectives(recipe: SimpleNamespace) -> None:
    from galip.training.distances import pyramid_l1

    one, other = (torch.randint(256, (1, 3, 128, 128), dtype=torch.uint8) for _ in range(2))
    expected = float(pyramid_l1(one / 127.5 - 1, other / 127.5 - 1))
    assert recipe.protocol128.paired_l1(one, other)[0] == pytest.approx(expected, rel=1e-5)
    assert recipe.protocol128.paired_l1(one[:, :, ::2, ::2], other).shape == (1,)


def test_the_own_eye_learns_and_is_read_again(recipe: SimpleNamespace, tmp_path: Path) -> None:
    torch.manual_seed(0)
    eye = recipe.eyes.EyeNet(4, width=8)
    images, classes = torch.rand(8, 4, 128, 128), torch.arange(8) % 4
    images[:, 3] = 1
    images[:, :3] *= F.one_hot(classes, 4)[:, :3, None, None]
    optimiser = torch.optim.Adam(eye.parameters(), 3e-3)
    for step in range(25):
        shown = recipe.train_eye.disturbed(images, torch.Generator().manual_seed(step))
        assert shown.shape == (8, 3, 64, 64) and shown.abs().max() <= 1
        loss = F.cross_entropy(eye(shown), classes)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 1.2
    recipe.train_eye.save_file({k: v.contiguous() for k, v in eye.state_dict().items()}, tmp_path / "eye.safetensors")
    (tmp_path / "eye.json").write_text(json.dumps({"config": eye.config}))
    looks = recipe.eyes.Own(tmp_path)(torch.randint(256, (3, 3, 128, 128), dtype=torch.uint8))
    assert looks.shape.shape[0] == looks.pooled.shape[0] == 3
    torch.testing.assert_close(looks.shape.square().sum(1), torch.full((3,), 2.0))
