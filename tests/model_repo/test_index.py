"""What counts as a whole model folder, what the others are told, and that no folder brings code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny

from galip.errors import GalipError
from galip.model_repo.index import check_model_folder, read_index


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
        (lambda f: (f / "model_index.json").unlink(), "there is no model_index.json, so this is not a model folder"),
        (lambda f: (f / "model_index.json").write_text("{"), "model_index.json: it cannot be read"),
        (lambda f: (f / "model_index.json").write_text("[]"), "it does not hold a JSON object"),
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
        ([], "so this is not a model folder"),
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


# ---- no folder brings code


def mark(folder: Path, name: str) -> tuple[str, Path]:
    """Python that leaves a file behind when it runs, and that file."""
    sprung = folder.parent / f"sprung-{name}"
    return f"open({str(sprung)!r}, 'w').close()\nclass X: pass\n", sprung


HOSTILE: dict[str, Callable[[Path, str], object]] = {
    "a module in the part's folder": lambda f, code: (
        set_index(f, tokenizer=["evil", "X"]),
        (f / "tokenizer" / "evil.py").write_text(code),
    ),
    "a module that can be imported": lambda f, code: (
        set_index(f, text_encoder=["evil_import", "X"]),
        (f.parent / "evil_import.py").write_text(code),
    ),
    "another class of an allowed library": lambda f, code: set_index(f, vision_encoder=["transformers", "AutoModel"]),
    "the generator's own module": lambda f, code: (f / "generator" / "galip.models.generator.py").write_text(code),
    "one more part": lambda f, code: (
        set_index(f, helper=["evil", "X"]),
        (f / "helper").mkdir(),
        (f / "helper" / "evil.py").write_text(code),
    ),
    "a pipeline of its own": lambda f, code: (
        set_index(f, _class_name=["pipeline", "X"]),
        (f / "pipeline.py").write_text(code),
    ),
    "classes of its own": lambda f, code: set_config(f / "text_encoder", auto_map={"AutoModel": "evil.X"}),
    "an attention from the hub": lambda f, code: set_config(
        f / "vision_encoder", _attn_implementation="kernels-community/flash-attn"
    ),
    "quantised weights": lambda f, code: set_config(f / "generator", quantization_config={"quant_method": "evil"}),
}


def set_config(part: Path, **changes: object) -> None:
    config = json.loads((part / "config.json").read_text())
    (part / "config.json").write_text(json.dumps(config | changes))


@pytest.mark.parametrize("how", HOSTILE)
def test_a_folder_that_names_code_is_refused_and_nothing_runs(
    how: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import galip

    code, sprung = mark(folder, "code")
    HOSTILE[how](folder, code)
    monkeypatch.syspath_prepend(str(folder.parent))
    for use in (
        read_index,
        check_model_folder,
        galip.load,
        lambda f: galip.load(f, engine="torch"),
        galip.GALIPPipeline.from_pretrained,
    ):
        with pytest.raises(GalipError) as refused:
            use(folder)
        assert str(folder) in str(refused.value)
        assert "\n" not in str(refused.value)
    assert not sprung.exists()


def test_a_sound_models_pipeline_file_is_data(folder: Path) -> None:
    """It is there for diffusers alone, and may hold anything."""
    import galip

    code, sprung = mark(folder, "pipeline")
    (folder / "pipeline.py").write_text(code)
    for use in (lambda f: galip.load(f, engine="torch"), galip.GALIPPipeline.from_pretrained):
        assert use(folder)("a cat", seed=0).images[0].size == (32, 32)
    assert not sprung.exists()


def test_arguments_that_ask_for_code_are_refused(saved: Path) -> None:
    from galip import GALIPPipeline

    for argument in ({"trust_remote_code": True}, {"custom_pipeline": "someone/pipeline"}):
        with pytest.raises(GalipError, match="never brings code"):
            GALIPPipeline.from_pretrained(saved, **argument)


def test_a_clip_that_brings_code_is_not_asked_about(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers would ask on the terminal whether to run it."""
    from galip.torch_backend.encoders import load_clip

    code, sprung = mark(folder, "clip")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asks"))
    set_config(folder / "vision_encoder", auto_map={"AutoModel": "evil.X"})
    with pytest.raises(GalipError, match="brings no code"):
        load_clip(str(folder))
    (folder / "tokenizer" / "evil.py").write_text(code)
    settings = {"tokenizer_class": "X", "auto_map": {"AutoTokenizer": ["evil.X", "evil.X"]}}
    set_config_file(folder / "tokenizer" / "tokenizer_config.json", **settings)
    with pytest.raises(GalipError, match="no CLIP could be loaded"):
        load_clip(str(folder))
    assert not sprung.exists()


def set_config_file(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("text_encoder", {"num_hidden_layers": -5}, "num_hidden_layers is -5; a whole number from 1"),
        ("text_encoder", {"num_hidden_layers": 400}, "num_hidden_layers is 400, but there are weights of 2 layers"),
        ("text_encoder", {"hidden_size": 2**14}, "hidden_size is 16384, but no weight beside it is of that size"),
        ("vision_encoder", {"patch_size": 0}, "patch_size is 0"),
        ("vision_encoder", {"hidden_size": "32"}, "hidden_size is '32'"),
        ("vision_encoder", {"attn_implementation": "flash_attention_9"}, "only eager and sdpa are run"),
        ("generator", {"block_sizes": [1e9]}, r"block_sizes is 1000000000\.0"),
        ("generator", {"block_sizes": [10**9]}, "block_sizes is 1000000000"),
        ("generator", {"block_sizes": {}}, "block_sizes is {}; a list of numbers"),
        ("generator", {"z_dim": True}, "z_dim is True"),
        ("generator", {"concept_scale": float("nan")}, "concept_scale is nan"),
        ("generator", {"stem_channels": 10**200}, "stem_channels is a number of many digits"),
    ],
)
def test_absurd_settings_are_named(folder: Path, part: str, changes: dict[str, object], message: str) -> None:
    set_config(folder / part, **changes)
    with pytest.raises(GalipError, match=message) as caught:
        check_model_folder(folder)
    assert f"{part}/config.json" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"weight_map": ["a"]}', "weight_map does not map weights to files"),
        ('{"weight_map": {"a": 3}}', "weight_map does not map weights to files"),
        ('{"weight_map": {"a": "../../secret.safetensors"}}', "is not a safetensors file beside it"),
        ('{"weight_map": {"a": "x\\u0000.safetensors"}}', "is not a safetensors file beside it"),
        ('{"weight_map": {"a": "model.bin"}}', "is not a safetensors file beside it"),
        ("[" * 100_000, "nested too deep"),
        ('{"weight_map": ' + "9" * 5000 + "}", "it cannot be read"),
    ],
)
def test_a_damaged_list_of_weight_files_is_named(folder: Path, content: str, message: str) -> None:
    (folder / "generator" / "x.safetensors.index.json").write_text(content)
    with pytest.raises(GalipError, match=message):
        check_model_folder(folder)
