"""Checkpoints: whole or not there at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from galip.errors import GalipError
from galip.training.checkpoints import find_checkpoint, list_checkpoints, load_checkpoint, save_checkpoint


def save(folder: Path, images: int, network: nn.Module, keep: int = 2) -> Path:
    return save_checkpoint(folder, images, {"generator": network}, {"step": torch.tensor(images)}, {"a": 1}, keep)


def test_round_trip_and_keep(tmp_path: Path) -> None:
    network = nn.Linear(3, 2)
    for images in (10, 20, 1_000_000_000):
        save(tmp_path / "checkpoints", images, network)
    assert [path.name for path in list_checkpoints(tmp_path / "checkpoints")] == [
        "images-000000020",
        "images-1000000000",
    ]
    other = nn.Linear(3, 2)
    about, states = load_checkpoint(find_checkpoint(tmp_path, "latest"), {"generator": other})
    assert (about["images"], about["a"], int(states["step"])) == (1_000_000_000, 1, 1_000_000_000)
    assert torch.equal(other.weight, network.weight)


def test_a_leftover_of_a_killed_save_is_never_taken_for_a_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    good = save(folder, 10, nn.Linear(3, 2))
    (folder / ".unfinished-images-000000020-1").mkdir()
    (folder / "images-000000030").mkdir()  # without state.json
    assert find_checkpoint(tmp_path, "latest") == good
    save(folder, 40, nn.Linear(3, 2))
    assert not (folder / ".unfinished-images-000000020-1").exists()


def test_damage_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "checkpoints", 10, nn.Linear(3, 2)) / "generator.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(GalipError, match=r"generator\.safetensors: missing or damaged"):
        load_checkpoint(path.parent, {"generator": nn.Linear(3, 2)})


def test_a_checkpoint_of_another_network_is_named(tmp_path: Path) -> None:
    folder = save(tmp_path / "checkpoints", 10, nn.Linear(3, 2))
    with pytest.raises(GalipError, match="does not fit the configured network"):
        load_checkpoint(folder, {"generator": nn.Linear(4, 2)})


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(GalipError, match="no checkpoint to resume from"):
        find_checkpoint(tmp_path, "latest")
    with pytest.raises(GalipError, match="nowhere: no checkpoint"):
        find_checkpoint(tmp_path, "nowhere")
