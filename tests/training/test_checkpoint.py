"""Checkpoints: whole or not there at all."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from galip.errors import GalipError
from galip.training.checkpoint import (
    STATE,
    SUMS,
    Best,
    CheckpointInfo,
    Keep,
    best_checkpoint,
    damage,
    find_checkpoint,
    forget_beyond,
    list_checkpoints,
    load_checkpoint,
    mark_best,
    read_info,
    save_checkpoint,
)
from galip.utils.atomic import unfinished_name


def save(folder: Path, images: int, network: nn.Module, keep: Keep | None = None) -> Path:
    info = CheckpointInfo(images=images, version="1", config={"a": 1}, data="d", scores={"fid": 0.5})
    states = {"step": torch.tensor(images)}
    return save_checkpoint(folder, info, {"generator": network}, states, keep or Keep(2))


def by_a_dead_process(goal: Path) -> Path:
    """The name under which a process that is no longer there was writing `goal`."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    own = unfinished_name(goal)
    return own.with_name(own.name.replace(f"-{os.getpid()}.", f"-{process.pid}."))


def test_round_trip_and_keep(tmp_path: Path) -> None:
    network = nn.Linear(3, 2)
    for images in (10, 20, 1_000_000_000):
        save(tmp_path / "checkpoints", images, network)
    assert [path.name for path in list_checkpoints(tmp_path / "checkpoints")] == [
        "images-000000020",
        "images-1000000000",
    ]
    other = nn.Linear(3, 2)
    info, states = load_checkpoint(find_checkpoint(tmp_path, "latest"), {"generator": other})
    assert (info.images, info.config, int(states["step"])) == (1_000_000_000, {"a": 1}, 1_000_000_000)
    assert torch.equal(other.weight, network.weight)


def test_a_leftover_of_a_killed_save_is_never_taken_for_a_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    good = save(folder, 10, nn.Linear(3, 2))
    killed = by_a_dead_process(folder / "images-000000020")
    killed.mkdir()
    (folder / "images-000000030").mkdir()  # without state.json
    assert find_checkpoint(tmp_path, "latest") == good
    killed.mkdir(exist_ok=True)
    save(folder, 40, nn.Linear(3, 2))
    assert not killed.exists()


def test_the_newest_every_kth_and_the_best_stay(tmp_path: Path) -> None:
    folder, network = tmp_path / "checkpoints", nn.Linear(3, 2)
    for images in (4, 8, 12, 16, 20, 24, 28):
        best = save(folder, images, network, Keep(newest=1, every=10))
        if images == 8:
            mark_best(best, "clip_score", 0.5)
    # 12 and 20 are the first after 10 and 20 images, 8 is the best, 28 the newest.
    assert [int(path.name[-2:]) for path in list_checkpoints(folder)] == [8, 12, 20, 28]
    assert best_checkpoint(folder) == Best(folder / "images-000000008", "clip_score", 0.5)
    assert find_checkpoint(tmp_path, "best").name == "images-000000008"


def test_what_lies_beyond_the_place_that_a_run_goes_on_from_is_forgotten(tmp_path: Path) -> None:
    folder, network = tmp_path / "checkpoints", nn.Linear(3, 2)
    for images in (50, 100, 110):
        save(folder, images, network, Keep(9))
    mark_best(folder / "images-000000100", "clip_score", 0.5)
    assert [path.name for path in forget_beyond(folder, 50)] == ["images-000000100", "images-000000110"]
    assert best_checkpoint(folder) is None
    assert save(folder, 60, network, Keep(1)).exists() and find_checkpoint(tmp_path, "latest").name.endswith("60")


def test_killed_while_one_of_the_same_name_takes_its_place(tmp_path: Path) -> None:
    """Between the two renames only the one that was moved aside is there; it comes back."""
    final = save(tmp_path / "checkpoints", 10, nn.Linear(3, 2))
    final.rename(by_a_dead_process(final.with_name(f"{final.name}.replaced")))
    assert find_checkpoint(tmp_path, "latest") == final
    assert save(tmp_path / "checkpoints", 10, nn.Linear(3, 2)).exists()
    assert [path.name for path in final.parent.iterdir()] == [final.name]


def test_latest_passes_over_a_damaged_one(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    good, bad = save(folder, 10, nn.Linear(3, 2)), save(folder, 20, nn.Linear(3, 2))
    (bad / "optimizers.pt").write_bytes(b"cut off")
    assert find_checkpoint(tmp_path, "latest") == good
    (good / "generator.safetensors").unlink()
    with pytest.raises(GalipError, match="every checkpoint is damaged"):
        find_checkpoint(tmp_path, "latest")


WRITER = """
import sys
from pathlib import Path
import torch
from torch import nn
from galip.training.checkpoint import CheckpointInfo, Keep, save_checkpoint
network = nn.Linear(1000, 1000)
for images in range(1, 100_000):
    with torch.no_grad():
        network.weight.fill_(images)
    info = CheckpointInfo(images=images, version="1", config={}, data="d")
    save_checkpoint(Path(sys.argv[1]), info, {"generator": network}, {}, Keep(2))
    print(images, flush=True)
"""


def test_kill_9_at_random_moments_leaves_a_usable_checkpoint(tmp_path: Path) -> None:
    """The process is killed while it writes one checkpoint after another; what it said was written must be there."""
    moments = random.Random(0)
    for attempt in range(4):
        run = tmp_path / str(attempt)
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(run / "checkpoints")], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        for _ in range(3):
            reported = int(writer.stdout.readline())
        time.sleep(moments.uniform(0, 0.06))
        writer.kill()
        reported = max([reported, *map(int, writer.stdout.read().split())])
        writer.wait()
        latest = find_checkpoint(run, "latest")
        network = nn.Linear(1000, 1000)
        info, _ = load_checkpoint(latest, {"generator": network})
        assert info.images >= reported
        assert (network.weight == info.images).all()
        save(run / "checkpoints", 200_000, nn.Linear(3, 2))  # and writing goes on among the leftovers
        assert find_checkpoint(run, "latest").name == "images-000200000"


def test_a_checkpoint_of_an_earlier_version_is_named(tmp_path: Path) -> None:
    state = save(tmp_path / "checkpoints", 10, nn.Linear(3, 2)) / "state.json"
    state.write_text(state.read_text().replace('"format": 3', '"format": 1'))
    with pytest.raises(GalipError, match="which this version cannot resume"):
        load_checkpoint(state.parent)


def test_damage_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "checkpoints", 10, nn.Linear(3, 2)) / "generator.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(GalipError, match=r"generator\.safetensors: missing or damaged"):
        load_checkpoint(path.parent, {"generator": nn.Linear(3, 2)})


def test_a_checkpoint_of_another_network_is_named(tmp_path: Path) -> None:
    folder = save(tmp_path / "checkpoints", 10, nn.Linear(3, 2))
    with pytest.raises(GalipError, match="does not fit the configured network"):
        load_checkpoint(folder, {"generator": nn.Linear(4, 2)})


def flipped(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def test_any_flipped_bit_of_any_file_makes_latest_pass_over_it(tmp_path: Path) -> None:
    """Every bit of the small files, and of the large ones a hundred, their first and last among them."""
    folder, moments = tmp_path / "checkpoints", random.Random(0)
    good, bad = (save(folder, images, nn.Linear(3, 2)) for images in (10, 20))
    assert damage(bad) is None
    tried = 0
    for path in sorted(bad.iterdir()):
        sound = path.read_bytes()
        bits = range(8 * len(sound))
        if path.name not in (STATE, SUMS):
            bits = [0, bits[-1], *moments.sample(bits, 100)]
        for bit in bits:
            flipped(path, bit)
            assert damage(bad) is not None, (path.name, bit)
            tried += 1
            path.write_bytes(sound)
        flipped(path, bits[-1])
        assert find_checkpoint(tmp_path, "latest") == good
        with pytest.raises(GalipError):
            load_checkpoint(bad)
        path.write_bytes(sound)
    assert tried > 3000
    assert find_checkpoint(tmp_path, "latest") == bad


@pytest.mark.parametrize("name", ["generator.safetensors", "optimizers.pt", STATE, SUMS])
def test_a_missing_or_an_added_file_is_damage(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / "checkpoints", 10, nn.Linear(3, 2))
    (path / "more.safetensors").write_bytes(b"")
    assert damage(path) is not None
    (path / "more.safetensors").unlink()
    assert damage(path) is None
    (path / name).unlink()
    assert damage(path) is not None


@pytest.mark.parametrize(
    "content", ["[1]", "{}", '{"format": 3}', '{"format": 3, "images": -1}', "[" * 100_000, "\x00"]
)
def test_a_state_that_is_none_is_named(tmp_path: Path, content: str) -> None:
    path = save(tmp_path / "checkpoints", 10, nn.Linear(3, 2))
    (path / STATE).write_text(content)
    with pytest.raises(GalipError, match=r"state\.json"):
        read_info(path)
    assert damage(path) == path / STATE


def test_a_checkpoint_of_the_last_version_is_read_and_its_damage_found(tmp_path: Path) -> None:
    """Format 2: the hashes of the other files stand in state.json."""
    path = save(tmp_path / "checkpoints", 10, nn.Linear(3, 2))
    (path / SUMS).unlink()
    hashes = {name: sha256(path / name) for name in ("generator.safetensors", "optimizers.pt")}
    state = {"format": 2, "images": 10, "version": "0.1.0", "config": {}, "data": "d", "scores": {}, "averages": {}}
    state |= {"guard": {"lowered": 0.25}, "sha256": hashes}
    (path / STATE).write_text(json.dumps(state))
    info, _ = load_checkpoint(path, {"generator": nn.Linear(3, 2)})
    assert info.guard == {"lowered": 0.25} and damage(path) is None
    flipped(path / "generator.safetensors", 900)
    assert damage(path) == path / "generator.safetensors"
    (path / STATE).write_text(json.dumps(state | {"sha256": {}}))
    assert damage(path) == path / STATE


def test_the_sums_are_written_as_coreutils_reads_them(tmp_path: Path) -> None:
    path = save(tmp_path / "checkpoints", 10, nn.Linear(3, 2))
    names = ["generator.safetensors", "optimizers.pt", STATE]
    assert (path / SUMS).read_text() == "".join(f"{sha256(path / name)}  {name}\n" for name in names)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(GalipError, match="no checkpoint to resume from"):
        find_checkpoint(tmp_path, "latest")
    with pytest.raises(GalipError, match="nowhere: no checkpoint"):
        find_checkpoint(tmp_path, "nowhere")
