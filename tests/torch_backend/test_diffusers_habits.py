"""What users of diffusers and of the hub do with a pipeline, on every engine, and that nothing of a model is lost."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import tiny
import torch
import yaml
from models import tiny as parts

import galip
from galip import GALIPPipeline
from galip.errors import InputError
from galip.model_repo.resolve import fetch


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder as a training leaves it."""
    folder = tiny.save(tmp_path_factory.mktemp("models") / "whole", graphs=True)
    parts.discriminator().save_pretrained(folder / "discriminator")
    (folder / "README.md").write_text("---\nlicense: cc0-1.0\n---\n# whole\n")
    (folder / "training.json").write_text('{"images": 7}')
    (folder / "LICENSE").write_text("All of it.")
    return folder


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_saving_what_was_loaded_loses_nothing(whole: Path, tmp_path: Path) -> None:
    GALIPPipeline.from_pretrained(whole).save_pretrained(tmp_path / "copy")
    assert files(tmp_path / "copy") == files(whole)
    for name in ("README.md", "training.json", "LICENSE", "discriminator/diffusion_pytorch_model.safetensors"):
        assert (tmp_path / "copy" / name).read_bytes() == (whole / name).read_bytes()
    galip.load(whole, engine="torch").save_pretrained(whole)  # onto itself
    GALIPPipeline.from_pretrained(whole).save_pretrained(tmp_path / "less", graphs=False, discriminator=False)
    assert not any("discriminator" in name for name in files(tmp_path / "less"))
    assert (tmp_path / "less" / "LICENSE").is_file()


class Hub:
    """Takes the place of the hub's client: keeps what is uploaded in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked = folder, {}

    def create_repo(self, repo_id: str, **options: Any) -> Any:
        self.asked |= options
        return type("Repo", (), {"repo_id": f"me/{repo_id}"})

    def upload_folder(self, repo_id: str, folder_path: Path, **options: Any) -> str:
        self.asked |= options
        shutil.copytree(folder_path, self.folder / repo_id)
        return f"commit of {repo_id}"


def test_pushing_takes_everything_along(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(tmp_path)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda token=None: hub)
    pipe = GALIPPipeline.from_pretrained(whole)
    assert pipe.push_to_hub("one", private=True, commit_message="First") == "commit of me/one"
    assert files(tmp_path / "me" / "one") == files(whole)
    assert hub.asked == {"private": True, "exist_ok": True, "commit_message": "First", "create_pr": False}
    pipe.save_pretrained(tmp_path / "two", push_to_hub=True, graphs=False)
    assert files(tmp_path / "me" / "two") == files(tmp_path / "two")


def test_a_model_without_a_card_gets_one_that_says_both_ways_to_use_it(tmp_path: Path) -> None:
    tiny.save(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert yaml.safe_load(card.split("---")[1])["library_name"] == "galip"
    assert "galip.load(" in card and 'custom_pipeline="pipeline", trust_remote_code=True' in card


def test_a_hub_id_with_a_revision(tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def download(name: str, **options: Any) -> str:
        asked.update(options, name=name)
        return str(whole)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    galip.load("me/one", revision="v2", token="t", cache_dir=tmp_path)
    assert (asked["name"], asked["revision"], asked["token"]) == ("me/one", "v2", "t")
    assert asked["cache_dir"] == tmp_path and not any("discriminator" in name for name in asked["allow_patterns"])
    assert not any(name.endswith(".py") for name in asked["allow_patterns"])
    fetch("me/one@refs/pr/1", discriminator=True)
    assert (asked["name"], asked["revision"]) == ("me/one", "refs/pr/1")
    assert "discriminator/*.safetensors" in asked["allow_patterns"]
    with pytest.raises(InputError, match="names another one"):
        fetch("me/one@v1", "v2")


def test_a_dtype_is_a_name_too(whole: Path) -> None:
    for dtype in ("float16", "torch.float16", torch.float16):
        assert GALIPPipeline.from_pretrained(whole, torch_dtype=dtype).generator.dtype == torch.float16
    with pytest.raises(InputError, match="dtype 'half': use one of"):
        GALIPPipeline.from_pretrained(whole, torch_dtype="half")


def test_a_variant(whole: Path, tmp_path: Path) -> None:
    GALIPPipeline.from_pretrained(whole, dtype="float16").save_pretrained(tmp_path, variant="fp16")
    assert any(name.endswith(".fp16.safetensors") for name in files(tmp_path))
    pipe = galip.load(tmp_path, variant="fp16")
    same = galip.load(whole, engine="torch")
    images = [one("a cat", seed=0, output_type="np").images for one in (pipe, same)]
    assert np.abs(images[0] - images[1]).max() < 0.05
    with pytest.raises(InputError, match="only the engines torch and compile"):
        galip.load(tmp_path, variant="fp16", engine="onnxruntime")


@pytest.fixture(scope="module", params=["torch", "onnxruntime"])
def pipe(request: pytest.FixtureRequest, whole: Path) -> Any:
    return galip.load(whole, engine=request.param)


def test_habits_on_every_engine(pipe: Any) -> None:
    pipe.set_progress_bar_config(disable=True)
    assert pipe.to("cpu") is pipe
    if pipe.backend.name == "torch":
        with pytest.raises(InputError, match=r'use pipe\.to\("cuda"\)'):
            pipe.enable_model_cpu_offload()
    else:
        pipe.enable_model_cpu_offload()
        with pytest.raises(InputError, match='engine="torch"'):
            pipe.to("cuda")


@pytest.mark.parametrize(
    ("argument", "why"),
    [
        ({"num_inference_steps": 50}, "num_inference_steps: a GAN generates in one forward pass"),
        ({"guidance_scale": 7.5}, "guidance_scale: GALIP has no guidance; `truncation`"),
        ({"negative_prompt": "ugly"}, "negative_prompt: GALIP has no guidance"),
        ({"callback_on_step_end": print}, "callback_on_step_end: .* see `progress`"),
    ],
)
def test_diffusers_arguments_that_a_gan_has_no_use_for(pipe: Any, argument: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=why):
        pipe("a cat", **argument)
    pipe("a cat", **dict.fromkeys(argument))
    with pytest.raises(TypeError, match="unexpected keyword argument 'sede'"):
        pipe("a cat", sede=1)


def test_height_and_width(pipe: Any) -> None:
    own = pipe("a cat", seed=0).images[0]
    (image,) = pipe("a cat", seed=0, height=48, width=80).images
    assert image.size == (80, 48)
    assert np.array_equal(np.asarray(image)[:, 16:64], np.asarray(own.resize((48, 48), 1)))
    assert pipe("a cat", seed=0, height=64).images[0].size == (64, 64)
    assert pipe("a cat", seed=0, height=32, width=32).images[0].tobytes() == own.tobytes()
    assert pipe(["a cat", "rain"], seed=0, width=16, output_type="np").images.shape == (2, 16, 16, 3)
    if "pt" in pipe.output_types:
        assert pipe("a cat", seed=0, width=16, output_type="pt").images.shape == (1, 3, 16, 16)
    with pytest.raises(InputError, match="is 0: give at least 1"):
        pipe("a cat", height=0)
