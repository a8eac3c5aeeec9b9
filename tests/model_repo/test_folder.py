"""What counts as a whole model folder, and what the others are told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from galip.errors import GalipError
from galip.model_repo.folder import check_model_folder, describe, fingerprint, read_tensors, stored_dtype


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("model"))


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def set_index(folder: Path, **changes: object) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | changes))


def to_pickle(part: Path) -> None:
    for file in part.glob("*.safetensors"):
        file.rename(file.with_name("pytorch_model.bin"))


def test_a_whole_folder_passes(saved: Path) -> None:
    check_model_folder(saved)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "model_index.json").unlink(), "there is no model_index.json, so this is no model folder"),
        (lambda f: (f / "model_index.json").write_text("{"), "model_index.json: it cannot be read"),
        (lambda f: (f / "model_index.json").write_text("[]"), "it holds no JSON object"),
        (lambda f: (f / "model_index.json").write_bytes(b"\xff\xfe\x00"), "model_index.json: it cannot be read"),
        (lambda f: set_index(f, _class_name="FluxPipeline"), "it holds a FluxPipeline, not a GALIPPipeline"),
        (lambda f: set_index(f, generator=None), "does not name the part generator"),
        (lambda f: set_index(f, vision_encoder=[None, None]), "does not name the part vision_encoder"),
        (lambda f: shutil.rmtree(f / "vision_encoder"), "the part vision_encoder/ is missing"),
        (lambda f: shutil.rmtree(f / "tokenizer"), "the part tokenizer/ is missing"),
        (lambda f: (f / "tokenizer" / "tokenizer.json").unlink(), "tokenizer: there is no vocabulary"),
        (lambda f: (f / "generator" / "config.json").unlink(), "generator.config.json: it is missing"),
        (lambda f: (f / "text_encoder" / "model.safetensors").unlink(), r"text_encoder: there are no weights"),
        (lambda f: cut(f / "text_encoder" / "model.safetensors"), "model.safetensors: it is damaged or not whole"),
        (lambda f: (f / "text_encoder" / "model.safetensors").write_bytes(b""), "it is damaged or not whole"),
        (lambda f: to_pickle(f / "vision_encoder"), "pytorch_model.bin: these weights are a pickle"),
    ],
)
def test_a_damaged_folder_is_named(folder: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(folder)
    with pytest.raises(GalipError, match=message) as caught:
        check_model_folder(folder)
    assert str(folder) in str(caught.value)


def test_a_missing_shard_is_named(folder: Path) -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "vision_encoder" / "model.safetensors").rename(
        folder / "vision_encoder" / "model-00001-of-00002.safetensors"
    )
    (folder / "vision_encoder" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(GalipError, match="model-00002-of-00002.safetensors: .* names this file, but it is missing"):
        check_model_folder(folder)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["state.json", "ema.safetensors", "optimizers.pt"], "training checkpoint, .* its run has no model yet"),
        (["checkpoints/images-1/state.json"], "if this is a training run, it writes its model when it ends"),
        (["model/model_index.json"], "there are models inside: did you mean .*model"),
        (["coco_epoch_1000.pth"], "`galip convert`"),
        ([], "so this is no model folder"),
    ],
)
def test_what_is_no_model_is_told_what_it_may_be(tmp_path: Path, files: list[str], message: str) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    with pytest.raises(GalipError, match=message):
        check_model_folder(tmp_path)


def test_a_checkpoint_leads_to_its_runs_model(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path / "model")
    checkpoint = tmp_path / "checkpoints" / "images-000000100"
    checkpoint.mkdir(parents=True)
    (checkpoint / "optimizers.pt").touch()
    with pytest.raises(GalipError, match=f"the model of its run is {tmp_path / 'model'}"):
        check_model_folder(checkpoint)


def test_a_part_leads_to_the_model(saved: Path) -> None:
    with pytest.raises(GalipError, match=f"give the folder above, {saved}"):
        check_model_folder(saved / "generator")


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
