"""Networks of timm as eyes: weights from files in timm's names and in others, what is fed in, and what comes out."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from galip.errors import GalipError, InputError
from galip.evaluation.extractors.registry import open_extractor
from galip.evaluation.extractors.timm import TimmExtractor

NAME = "test_efficientnet"


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model(NAME, pretrained=False).eval()


@pytest.fixture(scope="module")
def file(network: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("timm") / "weights.safetensors"
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, path)
    return path


def images(side: int, count: int = 3) -> torch.Tensor:
    return torch.randint(256, (count, 3, side, side), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def test_features_are_the_networks_own_of_normalised_images(network: torch.nn.Module, file: Path) -> None:
    eye = open_extractor(f"timm:{NAME}", str(file))
    assert eye.name == f"timm:{NAME}" and eye.weights == str(file) and eye.takes == "uint8"
    side = network.pretrained_cfg["input_size"][-1]
    mean, std = (torch.tensor(network.pretrained_cfg[key])[:, None, None] for key in ("mean", "std"))
    shown = images(side)
    with torch.no_grad():
        expected = network.forward_head(network.forward_features((shown / 255 - mean) / std), pre_logits=True)
    assert eye(shown).shape == (3, eye.dim)
    torch.testing.assert_close(eye(shown), expected)
    small = images(side // 4)
    enlarged = F.interpolate(small / 255, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
    with torch.no_grad():
        expected = network.forward_head(network.forward_features((enlarged - mean) / std), pre_logits=True)
    torch.testing.assert_close(eye(small), expected)


def test_maps_are_those_of_their_strides(network: torch.nn.Module, file: Path) -> None:
    eye = TimmExtractor.open(NAME, str(file), side=0)
    pooled, (deep, middle) = eye.maps(images(64), (32, 8))
    torch.testing.assert_close(pooled, eye(images(64)))
    assert middle.shape[2:] == (8, 8) and deep.shape[2:] == (2, 2)
    side = TimmExtractor.open(NAME, str(file), side=96).maps(images(64), (8,))[1][0].shape[-1]
    assert side == 12
    with pytest.raises(InputError, match="no maps of stride 5"):
        eye.maps(images(64), (5,))


def test_weights_under_other_names_are_taken_in_the_networks_order(
    network: torch.nn.Module, file: Path, tmp_path: Path
) -> None:
    renamed = {f"_{number}._w": value for number, value in enumerate(network.state_dict().values())}
    torch.save(renamed, tmp_path / "theirs.pth")
    theirs = TimmExtractor.open(NAME, str(tmp_path / "theirs.pth"))
    assert theirs.digest == TimmExtractor.open(NAME, str(file)).digest
    swapped = dict(zip(renamed, list(renamed.values())[::-1], strict=True))
    torch.save(swapped, tmp_path / "swapped.pth")
    with pytest.raises(GalipError, match=r"swapped.pth: these are not the weights of EfficientNet"):
        TimmExtractor.open(NAME, str(tmp_path / "swapped.pth"))


def test_what_timm_does_not_have_is_said() -> None:
    with pytest.raises(InputError, match="timm:resnet_of_nobody: timm has no such network .*resnet"):
        TimmExtractor.open("resnet_of_nobody")
    with pytest.raises(InputError, match="use one of .*timm:ARCHITECTURE"):
        open_extractor("resnet18")
