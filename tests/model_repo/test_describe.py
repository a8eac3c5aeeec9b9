"""What a model folder says about itself: sizes, card, training record, weights' types and names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from galip.model_repo.describe import describe
from galip.model_repo.fingerprint import fingerprint
from galip.model_repo.weights import read_tensors, stored_dtype


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("model"))


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def test_facts_are_those_of_the_loaded_networks(folder: Path) -> None:
    pipe = tiny.pipeline()
    discriminator = tiny.parts.discriminator()
    discriminator.save_pretrained(folder / "discriminator")
    facts = describe(folder)
    assert [part.name for part in facts.parts] == [
        "generator",
        "discriminator",
        "vision_encoder",
        "text_encoder",
        "tokenizer",
    ]
    counted = {part.name: part.parameters for part in facts.parts}
    networks = {name: getattr(pipe, name) for name in ("generator", "vision_encoder", "text_encoder")}
    for name, network in (networks | {"discriminator": discriminator}).items():
        assert counted[name] == sum(p.numel() for p in network.parameters()), name
    assert facts.trainable == counted["generator"] + counted["discriminator"]
    assert facts.frozen == counted["vision_encoder"] + counted["text_encoder"]
    assert facts.image_size == tiny.IMAGE_SIZE
    assert facts.size == sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    assert facts.parts[0].kind == "MateGenerator"
    assert facts.parts[0].dtypes == ("F32",)


def test_tables_of_whole_numbers_are_no_weights(folder: Path) -> None:
    before = describe(folder).parts[0]
    file = folder / "generator" / "diffusion_pytorch_model.safetensors"
    save_file(load_file(file) | {"position_ids": torch.arange(9)}, file)
    after = describe(folder).parts[0]
    assert (after.parameters, after.dtypes) == (before.parameters, before.dtypes)
    assert stored_dtype(folder) == "F32"


def test_card_and_training_record_are_read(folder: Path) -> None:
    assert describe(folder).licence is None
    assert describe(folder).trained_on == ()
    (folder / "training.json").write_text(json.dumps({"images": 150000, "config": {"data": {"source": "my/pictures"}}}))
    (folder / "README.md").write_text("---\nlicense: other\nlicense_name: research use\n---\n# A model\n")
    facts = describe(folder)
    assert facts.licence == "research use"
    assert facts.trained_on == ("my/pictures",)
    assert facts.training["images"] == 150000
    (folder / "README.md").write_text("---\nlicense: [mit, apache-2.0]\ndatasets: [noto, twemoji]\n---\n# A model\n")
    facts = describe(folder)
    assert facts.licence == "mit, apache-2.0"
    assert facts.trained_on == ("noto", "twemoji")
    for card in ("no front matter", "---\nlicense: [\n---\n", "---\njust text\n---\n", "---\n"):
        (folder / "README.md").write_text(card)
        assert describe(folder).licence is None


def test_stored_types_are_read_from_the_headers(folder: Path) -> None:
    assert stored_dtype(folder) == "F32"
    pipe = tiny.pipeline()
    pipe.generator.to(torch.bfloat16).save_pretrained(folder / "generator")
    assert stored_dtype(folder) == "BF16"
    pipe.generator.prompt_predictor.float()
    pipe.generator.save_pretrained(folder / "generator")
    assert stored_dtype(folder) == "F32"
    assert read_tensors(folder / "generator")["prompt_predictor.linear.weight"].shape == (64, 32)


def test_the_fingerprint_is_the_generators(saved: Path, folder: Path, tmp_path: Path) -> None:
    (folder / "README.md").write_text("# other words")
    assert fingerprint(folder) == fingerprint(saved)
    assert fingerprint(tiny.save(tmp_path / "other", seed=1)) != fingerprint(saved)
    assert len(fingerprint(saved)) == 16
