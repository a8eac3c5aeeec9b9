"""Any CLIP as a feature network: its vectors are transformers' own, and it is known again wherever it is stored."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import tiny
import torch
import torch.nn.functional as F
from models import tiny as parts
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from galip.errors import GalipError
from galip.evaluation.extractors.clip import CLIPExtractor
from galip.evaluation.extractors.registry import open_extractor
from galip.evaluation.weights import digest_of, same_network
from galip.generation.load import load
from galip.models.clip import CLIP_MEAN, CLIP_STD


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's CLIP as it is published, both halves in one file."""
    folder = tmp_path_factory.mktemp("clip")
    pipe = tiny.pipeline()
    config = CLIPConfig(
        text_config=pipe.text_encoder.config.to_dict(),
        vision_config=pipe.vision_encoder.config.to_dict(),
        projection_dim=parts.COND_DIM,
    )
    clip = CLIPModel(config)
    clip.load_state_dict(pipe.text_encoder.state_dict() | pipe.vision_encoder.state_dict(), strict=False)
    clip.save_pretrained(folder)
    pipe.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randint(0, 256, (3, 3, 50, 50), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def normalised(x: Tensor) -> Tensor:
    return (x - torch.tensor(CLIP_MEAN)[:, None, None]) / torch.tensor(CLIP_STD)[:, None, None]


def test_image_vectors_are_transformers_own(clip_folder: Path, images: Tensor) -> None:
    extractor = open_extractor("clip", str(clip_folder))
    assert (extractor.name, extractor.dim, extractor.takes) == ("clip", parts.COND_DIM, "uint8")
    assert extractor.weights == str(clip_folder)

    x = F.interpolate(images.float() / 255, size=(32, 32), mode="bicubic", antialias=True)
    with torch.no_grad():
        expected = tiny.pipeline().vision_encoder(pixel_values=normalised(x)).image_embeds
    torch.testing.assert_close(extractor(images), expected, rtol=1e-4, atol=1e-5)


def test_released_input_is_doubly_mapped_nearest_and_never_quantised(clip_folder: Path, images: Tensor) -> None:
    extractor = open_extractor("clip-released", str(clip_folder))
    assert (extractor.name, extractor.takes) == ("clip-released", "float")

    floats = torch.rand(2, 3, 50, 50) * 1.2 - 0.1
    x = F.interpolate(floats.clamp(0, 1), size=(32, 32), mode="nearest")
    with torch.no_grad():
        expected = tiny.pipeline().vision_encoder(pixel_values=normalised(x / 2 + 0.5)).image_embeds
    torch.testing.assert_close(extractor(floats), expected, rtol=1e-4, atol=1e-5)
    assert extractor(images).shape == (3, parts.COND_DIM)


def test_text_vectors_are_transformers_own(clip_folder: Path) -> None:
    extractor = CLIPExtractor.open(str(clip_folder))
    captions = ["a red heart", "two birds in the rain", "a red heart"]
    vectors = extractor.encode_text(captions, batch_size=1)
    pipe = tiny.pipeline()
    ids = pipe.tokenizer(captions[1], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        expected = pipe.text_encoder(input_ids=ids).text_embeds[0]
    assert vectors.shape == (3, extractor.dim) and vectors.dtype == torch.float32 and not vectors.requires_grad
    torch.testing.assert_close(vectors[1], expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(vectors[0], vectors[2])


def test_autocast_does_not_reach_the_text_encoder(clip_folder: Path) -> None:
    extractor = CLIPExtractor.open(str(clip_folder))
    alone = extractor.encode_text(["a sleepy cat"])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(extractor.encode_text(["a sleepy cat"]), alone)


def test_a_row_does_not_depend_on_the_others(clip_folder: Path, images: Tensor) -> None:
    extractor = CLIPExtractor.open(str(clip_folder))
    torch.testing.assert_close(extractor(images)[1:2], extractor(images[1:2]), rtol=1e-4, atol=1e-5)


def test_the_loss_s_own_clip_is_known_again(clip_folder: Path, model_folder: Path) -> None:
    published, stored = CLIPExtractor.open(str(clip_folder)), CLIPExtractor.open(str(model_folder))
    assert published.digest == stored.digest and published.text_digest == stored.text_digest
    assert published.digest != published.text_digest
    pipe = load(model_folder, engine="torch")
    assert digest_of(pipe.vision_encoder) == published.digest
    assert same_network(pipe.vision_encoder, published.network.model)
    assert digest_of(tiny.pipeline(seed=1).vision_encoder) != published.digest


def test_a_bundled_model_s_clip_is_opened_by_its_name() -> None:
    extractor = CLIPExtractor.open("emoji-64")
    assert extractor.weights == "emoji-64"
    assert extractor.encode_text(["a red heart"]).shape == (1, extractor.dim)


@pytest.mark.parametrize("name", ["clip", "clip-released"])
def test_a_folder_without_a_clip_says_what_is_wrong(name: str, clip_folder: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(clip_folder, tmp_path / "broken"))
    (broken / "model.safetensors").unlink()
    with pytest.raises(GalipError, match=f"broken: no CLIP could be loaded.*--weights {name}=FOLDER"):
        open_extractor(name, str(broken))
