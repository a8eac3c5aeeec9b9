"""torchvision's Inception as the authors' code used it: each quirk of the published number is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from evaluation import random_inception
from torch import Tensor
from torchvision.models import inception_v3

from galip.errors import GalipError
from galip.evaluation.extractors.torchvision import TorchvisionInceptionExtractor


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # With the auxiliary classifier, as torchvision publishes it.
    folder = tmp_path_factory.mktemp("inception")
    return random_inception.save(folder / "imagenet.pth", random_inception.IMAGENET_CLASSES, auxiliary=True)


@pytest.fixture(scope="module")
def extractor(file: Path) -> TorchvisionInceptionExtractor:
    return TorchvisionInceptionExtractor.open(str(file))


def smooth(side: int, seed: int = 0) -> Tensor:
    noise = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(seed))
    return noise * torch.linspace(0.2, 1, side)


def pooled(file: Path, x: Tensor) -> Tensor:
    """What torchvision's network, which does not touch its input here, has after its last average pooling."""
    network = inception_v3(weights=None, aux_logits=True, transform_input=False, init_weights=False).eval()
    network.load_state_dict(torch.load(file, weights_only=True))
    kept: list[Tensor] = []
    network.avgpool.register_forward_hook(lambda _module, _inputs, output: kept.append(output.flatten(1)))
    with torch.no_grad():
        network(x)
    return kept[0]


def test_features_are_what_the_released_protocol_says(extractor: TorchvisionInceptionExtractor, file: Path) -> None:
    assert (extractor.name, extractor.dim, extractor.takes) == ("inception-torchvision", 2048, "float")
    assert extractor.weights == str(file)

    images = smooth(500) * 1.5 - 0.2  # partly outside, and larger than 299 px, where antialiasing would show
    x = F.interpolate(images.clamp(0, 1), size=(299, 299), mode="bilinear", antialias=False)
    # From [0, 1] as if an ImageNet normalisation had gone before: x * std + mean, then to [-1, 1].
    std, mean = torch.tensor([0.229, 0.224, 0.225]), torch.tensor([0.485, 0.456, 0.406])
    expected = pooled(file, (x * std[:, None, None] + mean[:, None, None]) * 2 - 1)
    torch.testing.assert_close(extractor(images), expected, rtol=1e-3, atol=1e-4)


def test_bytes_are_real_images_and_floats_are_not_quantised(extractor: TorchvisionInceptionExtractor) -> None:
    images = smooth(32)
    bytes_ = (images * 255).round().to(torch.uint8)
    rounded, fine = extractor(torch.cat([bytes_.float() / 255, images]))
    noise = (extractor(bytes_)[0] - rounded).abs().max()
    assert noise < 1e-5 and (rounded - fine).abs().max() > 3e-5


def test_files_with_and_without_the_auxiliary_classifier_are_the_same_network(
    extractor: TorchvisionInceptionExtractor, file: Path, tmp_path: Path
) -> None:
    state = torch.load(file, weights_only=True)
    torch.save({name: value for name, value in state.items() if "AuxLogits" not in name}, tmp_path / "less.pth")
    assert TorchvisionInceptionExtractor.open(str(tmp_path / "less.pth")).digest == extractor.digest


def test_tensorflows_weights_are_another_network(tmp_path: Path) -> None:
    file = random_inception.save(tmp_path / "tensorflow.pth")
    with pytest.raises(GalipError, match="tensorflow.pth.*not the weights.*the extractor inception$"):
        TorchvisionInceptionExtractor.open(str(file))
