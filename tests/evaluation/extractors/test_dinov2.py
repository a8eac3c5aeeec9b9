"""DINOv2's class token, by transformers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from models.tiny import scatter
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Dinov2Config, Dinov2Model

from galip.errors import GalipError
from galip.evaluation.extractors.registry import open_extractor
from galip.evaluation.weights import digest_of


@pytest.fixture
def network() -> Dinov2Model:
    torch.manual_seed(0)
    # As in the published ones, the position table is for another size than 224 px.
    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, mlp_ratio=2, image_size=70, patch_size=14
    )
    return scatter(Dinov2Model(config)).eval()


@pytest.fixture
def folder(network: Dinov2Model, tmp_path: Path) -> Path:
    network.save_pretrained(tmp_path / "dino")
    return tmp_path / "dino"


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (2, 3, 300, 300), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_features_are_the_normalised_class_token(folder: Path, network: Dinov2Model, images: Tensor) -> None:
    extractor = open_extractor("dinov2", str(folder))
    assert (extractor.name, extractor.dim, extractor.takes) == ("dinov2", 32, "uint8")
    assert (extractor.weights, extractor.digest) == (str(folder), digest_of(network))

    x = F.interpolate(images.float() / 255, size=(224, 224), mode="bicubic", antialias=True)
    x = (x - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    with torch.no_grad():
        expected = network(pixel_values=x).pooler_output
    torch.testing.assert_close(extractor(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", [32, 224, 256])
def test_rows_of_any_size_do_not_depend_on_each_other(folder: Path, images: Tensor, side: int) -> None:
    extractor = open_extractor("dinov2", str(folder))
    shown = images[:, :, :side, :side]
    torch.testing.assert_close(extractor(shown)[1:], extractor(shown[1:]), rtol=1e-4, atol=1e-5)


def test_missing_weights_and_other_networks_are_refused(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file(
        {name: value for name, value in weights.items() if name != "layernorm.bias"}, folder / "model.safetensors"
    )
    with pytest.raises(GalipError, match="dino: no DINOv2.*--weights dinov2=FOLDER.*no weights for layernorm.bias"):
        open_extractor("dinov2", str(folder))
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "vit"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(GalipError, match="dino: no DINOv2.*it holds a vit"):
        open_extractor("dinov2", str(folder))
