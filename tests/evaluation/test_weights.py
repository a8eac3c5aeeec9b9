"""Weights of feature networks: read without running code, fetched whole or not at all, named by their values."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from galip.errors import GalipError, InputError
from galip.evaluation.weights import (
    PublishedFile,
    check_finite,
    digest_of,
    load_into,
    needed_package,
    read_weights,
    same_network,
)


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    net[1].running_mean.normal_()
    return net.eval()


# ---- digests


def test_a_digest_is_of_the_values_and_not_of_names_types_or_counters() -> None:
    net = network()
    digest = digest_of(net)
    assert len(digest) == 16 and int(digest, 16) >= 0

    renamed = nn.ModuleDict({f"part{i}": part for i, part in reversed(list(enumerate(network())))})
    assert digest_of(renamed) == digest
    assert digest_of(network().double()) == digest
    net[1].num_batches_tracked += 7
    assert digest_of(net) == digest


@pytest.mark.parametrize("name", ["0.weight", "0.bias", "1.running_mean", "2.weight"])
def test_one_changed_value_changes_the_digest(name: str) -> None:
    net = network()
    digest = digest_of(net)
    net.state_dict()[name].view(-1)[0] += 1e-3
    assert digest_of(net) != digest


def test_the_shape_is_part_of_the_digest() -> None:
    wide, tall = nn.Linear(4, 2, bias=False), nn.Linear(2, 4, bias=False)
    tall.weight.data = wide.weight.data.reshape(4, 2)
    assert digest_of(wide) != digest_of(tall)


def test_a_digest_does_not_depend_on_how_values_lie_in_memory() -> None:
    plain = network()
    digest = digest_of(plain)
    assert digest_of(plain.to(memory_format=torch.channels_last)) == digest


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_same_network_in_half_precision_is_the_same_network(dtype: torch.dtype) -> None:
    rounded = network().to(dtype)
    assert digest_of(rounded) != digest_of(network())
    assert same_network(network(), rounded) and same_network(rounded, network())


def test_other_networks_are_not_the_same() -> None:
    assert not same_network(network(), network(seed=1))
    assert not same_network(network(), network()[:2])
    touched = network()
    touched[2].weight.data.view(-1)[0] *= 1.02
    assert not same_network(network(), touched)


def test_weights_that_are_no_numbers_are_refused() -> None:
    net = network()
    check_finite(net, "net.pth")
    net[1].running_var[2] = float("nan")
    with pytest.raises(GalipError, match="net.pth.*not finite"):
        check_finite(net, "net.pth")


# ---- files


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_both_formats_give_the_same_network(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"net{suffix}"
    state = network().state_dict()
    save_file(state, file) if suffix == ".safetensors" else torch.save(state, file)
    other = network(seed=1)
    load_into(other, read_weights(file), str(file))
    assert digest_of(other) == digest_of(network())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing.pth: there is no such file"):
        read_weights(tmp_path / "nothing.pth")


class Trap:
    """Pickled, it would write a file as it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.mark,)


def test_a_pickle_that_would_run_code_is_not_loaded(tmp_path: Path) -> None:
    torch.save({"weight": Trap(tmp_path / "ran")}, tmp_path / "trap.pth")
    with pytest.raises(GalipError, match="trap.pth: it holds more than plain weights"):
        read_weights(tmp_path / "trap.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["broken.pth", "broken.safetensors"])
@pytest.mark.parametrize("content", [b"", b"no weights at all", b"PK\x03\x04 half a zip"])
def test_a_file_that_is_no_weights_gets_one_clear_error(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(GalipError, match=name):
        read_weights(tmp_path / name)


@pytest.mark.parametrize("value", [{}, [1, 2], {"epoch": 3}, {"model": {"weight": torch.ones(1)}}])
def test_a_file_without_a_state_dict_is_refused(tmp_path: Path, value: object) -> None:
    torch.save(value, tmp_path / "other.pth")
    with pytest.raises(GalipError, match="other.pth: it holds no state dict"):
        read_weights(tmp_path / "other.pth")


def test_weights_of_another_network_are_refused() -> None:
    state = dict(network().state_dict())
    with pytest.raises(GalipError, match="a.pth.*1 weights are missing .2.bias."):
        load_into(network(), {name: value for name, value in state.items() if name != "2.bias"}, "a.pth")
    with pytest.raises(GalipError, match="1 weights have no place .more."):
        load_into(network(), state | {"more": torch.ones(1)}, "a.pth")
    with pytest.raises(GalipError, match="1 weights have another shape .2.bias."):
        load_into(network(), state | {"2.bias": torch.ones(3)}, "a.pth")


def test_old_files_without_counters_and_with_parts_that_are_not_needed_are_taken() -> None:
    state = {name: value for name, value in network().state_dict().items() if "num_batches" not in name}
    other = network(seed=1)
    load_into(other, state | {"aux.weight": torch.ones(1)}, "a.pth", unused=["aux."])
    assert digest_of(other) == digest_of(network())


# ---- published files


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torch's; nothing beyond this machine can be reached."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    return tmp_path / "home" / "hub" / "checkpoints"


@pytest.fixture
def _online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


def publish(folder: Path, content: bytes = b"weights", sha256: str | None = None) -> PublishedFile:
    folder.mkdir(exist_ok=True)
    file = folder / f"net-{sha256 or hashlib.sha256(content).hexdigest()[:8]}.pth"
    file.write_bytes(content)
    return PublishedFile(file.as_uri(), ("other-name.pth",), "from its project")


@pytest.mark.usefixtures("_online")
def test_a_published_file_is_fetched_once(tmp_path: Path, home: Path) -> None:
    published = publish(tmp_path / "there")
    path = published.fetch("net")
    assert path == home / published.name
    assert path.read_bytes() == b"weights"
    (tmp_path / "there" / published.name).unlink()
    assert published.fetch("net") == path


@pytest.mark.usefixtures("_online")
def test_a_broken_download_leaves_no_file(tmp_path: Path, home: Path) -> None:
    published = publish(tmp_path / "there", sha256="01234567")
    with pytest.raises(GalipError, match="cannot be fetched.*--weights net=FILE"):
        published.fetch("net")
    assert not list(home.glob("*.pth*partial")) and not (home / published.name).exists()


@pytest.mark.usefixtures("_online", "home")
def test_an_unreachable_network_says_what_to_put_where(home: Path) -> None:
    published = PublishedFile("https://example.invalid/net-01234567.pth", (), "from its project")
    with pytest.raises(GalipError) as raised:
        published.fetch("net")
    for part in ("net-01234567.pth", "from its project", str(home), "--weights net=FILE"):
        assert part in str(raised.value)


def test_offline_nothing_is_fetched(tmp_path: Path, home: Path) -> None:
    published = publish(tmp_path / "there")
    with pytest.raises(GalipError, match="HF_HUB_OFFLINE forbids fetching; put net-.* into .*checkpoints, or give"):
        published.fetch("net")
    assert not home.exists()


@pytest.mark.parametrize("name", ["own", "alias"])
def test_a_file_in_the_cache_is_used_if_it_is_what_its_name_says(tmp_path: Path, home: Path, name: str) -> None:
    published = publish(tmp_path / "there")
    home.mkdir(parents=True)
    file = home / (published.name if name == "own" else "other-name.pth")
    file.write_bytes(b"weights")
    assert published.fetch("net") == file
    file.write_bytes(b"half of the wei")
    with pytest.raises(GalipError, match="not the published file of that name.*remove it"):
        published.fetch("net")


# ---- libraries


def test_a_missing_library_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert needed_package("json") is json
    monkeypatch.setitem(sys.modules, "torch_fidelity.metrics", None)
    with pytest.raises(GalipError, match="torch_fidelity cannot be imported.*pip install '..eval.'"):
        needed_package("torch_fidelity.metrics")
