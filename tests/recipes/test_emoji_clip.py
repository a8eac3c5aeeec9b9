"""The recipe's CLIP: what is said of emoji, which images come together, and the parts that it learns by."""

from __future__ import annotations

import importlib
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from galip.training.clip_training.tokenizer import train_tokenizer
from galip.training.muon import orthogonalised

RECIPE = Path(__file__).parents[2] / "recipes" / "emoji"
MODULES = ("clip_losses", "clip_text", "interruptible", "muon")


@pytest.fixture(scope="module")
def recipe() -> SimpleNamespace:
    """The recipe's scripts as modules; they import each other by name."""
    sys.path.insert(0, str(RECIPE))
    try:
        return SimpleNamespace(**{name: importlib.import_module(name) for name in MODULES})
    finally:
        sys.path.remove(str(RECIPE))


def rows(count: int = 30) -> list[dict[str, Any]]:
    return [
        {"emoji": key, "base": f"{n:x}", "style": style, "label": label, "tags": ["beast", "pet"], "weight": 1.0}
        for n in range(count)
        for style in ("noto", "3d")
        for key, label in ((f"{n:x}", f"animal {n}"), (f"{n:x}-1f3ff", f"animal {n}: dark skin tone"))
    ]


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ---- what is said


def test_what_is_said_of_an_image(recipe: SimpleNamespace) -> None:
    speaker, rng = recipe.clip_text.Speaker(rows(3), ["castle", "kitten"], phrases=10, seed=0), random.Random(0)
    assert speaker.canonical(1).words == "noto emoji of animal 0: dark skin tone"
    assert speaker.subjects[speaker.canonical(1).subject] == "animal 0: dark skin tone"
    said = [speaker.any(1, rng) for _ in range(400)]
    nameless = [text for text in said if text.style == recipe.clip_text.NO_STYLE]
    assert 20 < len(nameless) < 90 and not any("noto" in text.words for text in nameless)
    assert all("dark skin tone" in text.words for text in said)
    assert any("google" in text.words for text in said)  # another word for the style
    assert all(speaker.subjects[text.subject] in text.words for text in said)
    naming = [speaker.naming_style(2, rng) for _ in range(50)]
    assert all(text.style == recipe.clip_text.STYLES.index("3d") for text in naming)
    phrases = {speaker.subjects[speaker.phrase(rng).subject] for _ in range(300)}
    assert {"castle", "kitten"} <= phrases and len(phrases) > 8


def test_a_tokenizer_knows_every_byte_and_ends_its_texts(recipe: SimpleNamespace) -> None:
    tokenizer = train_tokenizer(["noto emoji of cat", "3d emoji of dog"] * 5, 600, recipe.clip_text.CONTEXT)
    ids = recipe.clip_text.token_ids(tokenizer, ["noto emoji of cat", "é 漢"])
    assert ids.shape[0] == 2 and (ids[:, 0] == tokenizer.bos_token_id).all()
    assert (ids[:, -1] == tokenizer.eos_token_id).all()
    assert tokenizer.decode(ids[1], skip_special_tokens=True).strip() == "é 漢"


# ---- which images come together


def test_batches_hold_what_is_easily_confused(recipe: SimpleNamespace) -> None:
    images = rows()
    confusing = recipe.clip_losses.Confusing(images, torch.ones(len(images)))
    vectors = F.normalize(noise(len(confusing.bases) // 2, 16), dim=1).repeat_interleave(2, 0)
    confusing.refresh(F.normalize(vectors + 0.01 * noise(*vectors.shape, seed=1), dim=1), count=1)
    assert all(number ^ 1 == near[0] for number, near in enumerate(confusing.near))
    together = 0
    for seed in range(40):
        torch.manual_seed(seed)
        chosen, grouped = confusing.draw(32, random.Random(seed))
        assert len(chosen) == len(set(chosen.tolist())) == 32 and 10 <= grouped <= 32
        places = {confusing.bases.index(images[n]["base"]) for n in chosen[8:grouped].tolist()}
        together += sum(place ^ 1 in places for place in places) / len(places)
    assert together / 40 > 0.8  # a group may be cut, and one of its images have come before


# ---- what is learned


def test_a_bank_finds_the_image_of_a_text(recipe: SimpleNamespace) -> None:
    bank = recipe.clip_losses.ImageBank(50, 8)
    vectors, scale = noise(50, 8), torch.tensor(20.0)
    bank.put(torch.arange(50), 3 * vectors)
    right = bank.loss(vectors[:10], torch.arange(10), scale)
    assert right < 0.2 < bank.loss(vectors[:10], torch.arange(10).roll(1), scale)


def test_patches_begin_at_their_principal_components(recipe: SimpleNamespace) -> None:
    patches = noise(4000, 3 * 16) @ noise(48, 48, seed=1)
    weight = torch.zeros(12, 3, 4, 4)
    recipe.clip_losses.seed_patches(weight, patches)
    read = patches @ weight.flatten(1).T
    centred = patches - patches.mean(0)
    solution = torch.linalg.lstsq(read - read.mean(0), centred).solution
    lost = (centred - (read - read.mean(0)) @ solution).square().sum() / centred.square().sum()
    values = torch.linalg.eigvalsh(centred.T @ centred).flip(0)
    assert lost == pytest.approx(float(values[12:].sum() / values.sum()), rel=0.01)


def test_pixels_and_thumbnails_can_be_read_from_what_holds_them(recipe: SimpleNamespace) -> None:
    images = torch.rand(6, 3, 8, 8) * 2 - 1
    pixels = F.unfold(images, 4, stride=4).transpose(1, 2)
    shown = torch.tensor([[2, 0]] * 6)
    states = torch.cat([torch.zeros(6, 1, 48), pixels[:, [2, 0]]], dim=1)
    reader = recipe.clip_losses.PixelReader(48, 4)
    with torch.no_grad():
        for linear in reader.readers:
            linear.weight.copy_(torch.eye(48))
            linear.bias.zero_()
    assert float(reader((states, states, states), images, shown)) == pytest.approx(0, abs=1e-6)
    assert reader((states, states, states), images, shown.flip(1)) > 0.5
    torch.manual_seed(0)
    thumbnails = recipe.clip_losses.ThumbnailReader(16)
    vectors, small = noise(32, 16), torch.rand(32, 4 * 256)
    optimiser = torch.optim.Adam(thumbnails.parameters(), 3e-3)
    for _ in range(60):
        loss = thumbnails(vectors, small, float(small.var(0).mean()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.6


def test_muon_steps_along_orthogonal_matrices(recipe: SimpleNamespace) -> None:
    made = orthogonalised(noise(3, 24, 80))
    values = torch.linalg.svdvals(made)
    assert values.min() > 0.6 and values.max() < 1.25
    assert torch.allclose(orthogonalised(noise(3, 24, 80).mT).mT, made, atol=1e-4)
    kernel = torch.nn.Parameter(noise(8, 4, 3, 3))
    before = kernel.detach().clone()
    kernel.grad = noise(8, 4, 3, 3, seed=1) * 1e-6  # its length does not count
    recipe.muon.Muon([kernel], lr=0.1).step()
    step = (kernel.detach() - before).flatten(1)
    assert step.square().mean().sqrt() == pytest.approx(0.2 * 0.1, rel=0.25)
    assert (step * kernel.grad.flatten(1)).sum() < 0


def test_muon_learns(recipe: SimpleNamespace) -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(16, 32, bias=False), torch.nn.Tanh(), torch.nn.Linear(32, 4, bias=False))
    x, target = noise(64, 16), noise(64, 4, seed=1)
    optimiser = recipe.muon.Muon(net.parameters(), lr=0.01)
    for _ in range(150):
        loss = (net(x) - target).square().mean()
        net.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.3


# ---- it can be stopped


STOPPABLE = """
import sys, time, torch
sys.path.insert(0, {recipe!r})
from pathlib import Path
from interruptible import Interruptible
keeping = Interruptible(Path({out!r}) / "progress.pt", seconds=1000)
state = keeping.load()
first = state["step"] if state else 0
print("from", first, flush=True)
for step in range(first, 10**6):
    time.sleep(0.01)
    if keeping.due():
        keeping.save({{"step": step + 1}})
"""


def test_a_training_that_is_stopped_goes_on_where_it_was(recipe: SimpleNamespace, tmp_path: Path) -> None:
    code = STOPPABLE.format(recipe=str(RECIPE), out=str(tmp_path))
    for turn in range(2):
        running = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert running.stdout is not None
        first = int(running.stdout.readline().split()[1])
        assert (first > 0) == (turn > 0)
        assert (tmp_path / "pid").read_text().strip() == str(running.pid)
        time.sleep(0.3)
        running.send_signal(signal.SIGTERM)
        _, errors = running.communicate(timeout=60)
        assert running.returncode == 1 and b"goes on from" in errors
        assert torch.load(tmp_path / "progress.pt", weights_only=True)["step"] > first
