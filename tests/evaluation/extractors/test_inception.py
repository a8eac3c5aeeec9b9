"""TensorFlow's Inception through torch-fidelity: the library's own numbers, from any file with those weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from evaluation import random_inception
from safetensors.torch import save_file
from torch import Tensor

from galip.errors import GalipError
from galip.evaluation.extractors.inception import InceptionExtractor


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_inception.save(tmp_path_factory.mktemp("inception") / "inception.pth")


@pytest.fixture(scope="module")
def extractor(file: Path) -> InceptionExtractor:
    return InceptionExtractor.open(str(file))


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randint(0, 256, (3, 3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_it_says_what_it_is(extractor: InceptionExtractor, file: Path) -> None:
    assert (extractor.name, extractor.dim, extractor.takes) == ("inception", 2048, "uint8")
    assert extractor.weights == str(file)


def test_features_are_torch_fidelitys_own(extractor: InceptionExtractor, file: Path, images: Tensor) -> None:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    theirs = FeatureExtractorInceptionV3("theirs", ["2048"], feature_extractor_weights_path=str(file))(images)[0]
    ours = extractor(images)
    assert torch.equal(ours, theirs)
    assert (ours[0] - ours[1]).abs().max() > 0.01 * ours.abs().max()  # random weights that do mind the image


def test_a_row_does_not_depend_on_the_others(extractor: InceptionExtractor, images: Tensor) -> None:
    whole = extractor(images[:2])
    other = extractor(images[1:])
    torch.testing.assert_close(whole[1], other[0], rtol=1e-4, atol=1e-5)


def test_all_formats_and_old_files_are_the_same_network(extractor: InceptionExtractor, tmp_path: Path) -> None:
    state = random_inception.state()
    save_file(state, tmp_path / "same.safetensors")
    assert InceptionExtractor.open(str(tmp_path / "same.safetensors")).digest == extractor.digest
    torch.save({name: value for name, value in state.items() if "num_batches" not in name}, tmp_path / "old.pth")
    assert InceptionExtractor.open(str(tmp_path / "old.pth")).digest == extractor.digest


def test_torchvisions_weights_are_another_network(tmp_path: Path) -> None:
    file = random_inception.save(tmp_path / "imagenet.pth", random_inception.IMAGENET_CLASSES)
    with pytest.raises(GalipError, match="imagenet.pth.*not the weights.*the extractor inception-torchvision"):
        InceptionExtractor.open(str(file))
