"""`galip.load`: which model a word means, on which device and in which type, and what goes wrong."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

import galip
from galip.errors import GalipError, InputError
from galip.export.exporting import Source, export
from galip.generation.load import load
from galip.generation.pipeline import TextToImage
from galip.model_repo import resolve as resolving
from galip.model_repo.cache import cache_folder
from galip.model_repo.resolve import bundled_models, fetch, resolve
from galip.torch_backend.compiled import CompiledGenerator
from galip.torch_backend.pipeline import GALIPPipeline


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def with_graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("model"), graphs=True)


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(saved, tmp_path / "copy"))


@pytest.fixture
def assets(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with one bundled model, tiny-32."""
    shutil.copytree(saved, tmp_path / "package" / "assets" / "tiny-32")
    monkeypatch.setattr(resolving.resources, "files", lambda _package: tmp_path / "package")
    return tmp_path / "package" / "assets"


def test_a_folder_loads_and_draws_the_saved_pipelines_pictures(saved: Path) -> None:
    for word in (saved, str(saved)):
        pipe = load(word, engine="torch", device="cpu")
        assert isinstance(pipe, GALIPPipeline)
        drawn = pipe("a red heart", seed=3, output_type="np").images
        assert np.abs(drawn - tiny.pipeline()("a red heart", seed=3, output_type="np").images).max() <= 1e-5


def test_it_is_a_public_name() -> None:
    assert galip.load is load


def test_loading_shows_no_progress_bars_and_leaves_them_on(saved: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from diffusers.utils.logging import is_progress_bar_enabled

    load(saved, engine="torch")
    assert capfd.readouterr().err == ""
    assert is_progress_bar_enabled()


# ---- which model


def test_bundled_names_come_first(assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(bundled_models()) == ["tiny-32"]
    (tmp_path / "tiny-32").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve("tiny-32") == assets / "tiny-32"
    assert resolve("./tiny-32") == Path("tiny-32")
    assert isinstance(load("tiny-32", engine="torch"), GALIPPipeline)


def test_a_missing_bundled_model_lists_those_there_are(assets: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'emoji-63': there is no such folder .*bundled: tiny-32"):
        load("emoji-63")
    shutil.rmtree(assets / "tiny-32")
    with pytest.raises(InputError, match="this installation bundles none"):
        load("tiny-32")


def test_words_are_told_apart(saved: Path, tmp_path: Path) -> None:
    assert resolve(saved) == saved
    assert resolve("someone/a-model") == "someone/a-model"
    for word in ("no-such", "./no/such", "/no/such", "~/no/such-folder", "a/b/c", tmp_path / "nothing"):
        with pytest.raises(InputError, match="there is no such folder"):
            resolve(word)
    for word in ("", "  ", None, 3):
        with pytest.raises(InputError, match="give a bundled model's name, a folder, or a hub id"):
            resolve(word)


def test_a_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "coco.pth").touch()
    with pytest.raises(InputError, match="this is a file.*`galip convert`"):
        load(tmp_path / "coco.pth")


def test_without_the_hub_the_error_says_what_to_do() -> None:
    with pytest.raises(GalipError, match="no folder someone/a-model here.* hub cannot be reached.*give its folder"):
        fetch("someone/a-model")


# ---- where, in which type, by what


def test_fp16_weights_become_fp32_on_a_cpu_unless_the_caller_says_otherwise(tmp_path: Path) -> None:
    tiny.pipeline().to(torch.float16).save_pretrained(tmp_path, graphs=False)

    def dtypes(pipe: GALIPPipeline) -> set[torch.dtype]:
        parts = (pipe.text_encoder, pipe.vision_encoder, pipe.generator)
        return {p.dtype for part in parts for p in part.parameters()}

    assert dtypes(load(tmp_path, engine="torch", device="cpu")) == {torch.float32}
    assert dtypes(load(tmp_path, device="cpu", dtype=torch.float16)) == {torch.float16}
    assert dtypes(load(tmp_path, device="cpu", dtype="bfloat16")) == {torch.bfloat16}


@pytest.mark.gpu
def test_a_gpu_is_taken_where_there_is_one(tmp_path: Path) -> None:
    tiny.pipeline().to(torch.float16).save_pretrained(tmp_path, graphs=False)
    pipe = load(tmp_path, engine="torch")
    assert pipe.device.type == "cuda"
    assert pipe.dtype == torch.float16
    assert len(pipe("a cat", 3, seed=0, batch_size=2).images) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "gpu7"}, "device 'gpu7': there is no such device"),
        ({"device": 1.5}, r"device 1\.5: there is no such device"),
        ({"dtype": "int8"}, "dtype 'int8': use one of float32"),
        ({"dtype": torch.int64}, "dtype torch.int64: use one of"),
        (
            {"engine": "warp"},
            "engine 'warp': there is no such engine, use one of onnxruntime, openvino, torch, compile, auto",
        ),
        ({"threads": 0}, "threads is 0: give at least 1"),
        ({"threads": 10**6}, "threads is 1000000: give at most 1024"),
        ({"device": "meta"}, "device 'meta': torch cannot compute there"),
        ({"revision": "main"}, "revision 'main': .* is a folder"),
        ({"engine": "openvino", "device": "cuda"}, "device 'cuda': openvino runs on the CPU"),
        ({"engine": "onnxruntime", "dtype": "float16"}, "dtype 'float16': onnxruntime has its own"),
    ],
)
def test_options_that_do_not_exist_are_refused(saved: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(saved, **options)


def test_a_cuda_device_that_is_not_there_is_refused(saved: Path) -> None:
    with pytest.raises(InputError, match="CUDA device"):
        load(saved, device="cuda:97")


def test_torch_is_an_engine(saved: Path) -> None:
    assert isinstance(load(saved, engine="torch"), GALIPPipeline)


def test_onnx_runtime_is_the_usual_engine(saved: Path) -> None:
    for options in ({}, {"device": "cpu"}):
        pipe = load(saved, **options)
        assert type(pipe) is TextToImage
        assert (pipe.backend.name, pipe.backend.device, pipe.backend.gradients) == ("onnxruntime", "cpu", None)
        assert np.abs(pixels(pipe) - pixels(tiny.pipeline())).max() <= 1e-4
    assert load(saved, dtype="float32", device="cpu").backend.name == "torch"


# ---- engines


@pytest.fixture
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GALIP_CACHE", str(tmp_path / "cache"))


def pixels(pipe: TextToImage) -> np.ndarray:
    images: np.ndarray = pipe(["a red heart", "a sleepy cat"], seed=3, output_type="np").images
    return images


@pytest.mark.usefixtures("_cache")
@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
@pytest.mark.engines
def test_an_engine_runs_the_folder_as_it_is(with_graphs: Path, engine: str, caplog: pytest.LogCaptureFixture) -> None:
    pipe = load(with_graphs, engine=engine, threads=1)
    assert (pipe.backend.name, pipe.backend.device, pipe.backend.gradients) == (engine, "cpu", None)
    assert caplog.text == "" and not cache_folder().exists()
    assert np.abs(pixels(pipe) - pixels(tiny.pipeline())).max() <= 1e-5


@pytest.mark.usefixtures("_cache")
@pytest.mark.engines
def test_a_model_with_graphs_needs_no_torch(with_graphs: Path) -> None:
    code = (
        f"import sys, galip\npipe = galip.load({str(with_graphs)!r}, engine='auto', device='cpu', threads=1)\n"
        "pipe('a red heart', seed=0)\n"
        "print(pipe.backend.name, [m for m in ('torch', 'transformers', 'diffusers') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "openvino []"
    assert result.stderr == ""


@pytest.mark.usefixtures("_cache")
@pytest.mark.engines
def test_an_exported_folder_loads_by_itself(saved: Path, tmp_path: Path) -> None:
    export(tiny.pipeline(), Source("tiny", saved), tmp_path / "out", "onnx")
    for engine, expected in ((None, "onnxruntime"), ("auto", "onnxruntime"), ("openvino", "openvino")):
        pipe = load(tmp_path / "out", engine=engine, threads=1)
        assert pipe.backend.name == expected
        assert np.abs(pixels(pipe) - pixels(tiny.pipeline())).max() <= 1e-4
    for engine in ("torch", "compile"):
        with pytest.raises(InputError, match=f"this model is exported, which {engine} cannot run"):
            load(tmp_path / "out", engine=engine)
    with pytest.raises(InputError, match="runs on the CPU"):
        load(tmp_path / "out", device="cuda")
    assert not (tmp_path / "cache").exists()


@pytest.mark.engines
def test_auto_falls_back_to_torch_and_says_why(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GALIP_CACHE", str(tmp_path / "file"))
    pipe = load(saved, engine="auto", device="cpu")
    assert isinstance(pipe, GALIPPipeline)
    assert caplog.messages[-1].startswith("openvino cannot be used, generating with torch instead: ")
    with pytest.raises(GalipError, match="GALIP_CACHE"):
        load(saved, engine="openvino")


def test_auto_with_a_dtype_is_torch(saved: Path) -> None:
    assert load(saved, engine="auto", device="cpu", dtype="bfloat16").dtype == torch.bfloat16


def test_compile_is_a_pipeline_with_another_drawer(saved: Path) -> None:
    pipe = load(saved, engine="compile", device="cpu")
    assert isinstance(pipe, GALIPPipeline)
    assert isinstance(pipe.generator_call, CompiledGenerator)
    assert load(saved, engine="torch").generator_call is None


def test_threads_are_torchs_too(saved: Path) -> None:
    load(saved, engine="torch", threads=2)
    assert torch.get_num_threads() == 2


# ---- what is not whole


def change(file: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(file)
    edit(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("part", "file", "name", "message"),
    [
        ("generator", "diffusion_pytorch_model.safetensors", "prompt_predictor.linear.weight", "1 weights are missing"),
        ("text_encoder", "model.safetensors", "text_projection.weight", "projection_dim is 24, .* weights are missing"),
        ("vision_encoder", "model.safetensors", "vision_model.post_layernorm.bias", "1 weights are missing"),
    ],
)
def test_missing_weights_are_not_replaced_by_random_ones(
    folder: Path, part: str, file: str, name: str, message: str
) -> None:
    change(folder / part / file, lambda tensors: tensors.pop(name))
    with pytest.raises(GalipError, match=f"{part}.*: {message}"):
        load(folder, engine="torch")


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    change(
        folder / "generator" / "diffusion_pytorch_model.safetensors",
        lambda tensors: tensors.update({"prompt_predictor.linear.weight": torch.zeros(2, 3)}),
    )
    with pytest.raises(GalipError, match=r"cannot be loaded: .*prompt_predictor\.linear\.weight"):
        load(folder, engine="torch")


def test_parts_of_different_models_are_refused(folder: Path) -> None:
    tiny.parts.generator(cond_dim=30).save_pretrained(folder / "generator")
    with pytest.raises(GalipError, match="vectors of length 24, but the generator was built for 30"):
        load(folder, engine="torch")


def test_pickles_are_never_opened(folder: Path, tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    weights = folder / "generator" / "diffusion_pytorch_model.safetensors"
    weights.unlink()
    # A pickle that would make a file if it were read.
    weights.with_suffix(".bin").write_bytes(f"cos\nmkdir\n(V{trap}\ntR.".encode())
    with pytest.raises(GalipError, match="these weights are a pickle"):
        load(folder, engine="torch")
    with pytest.raises(OSError, match="safetensors"):
        GALIPPipeline.from_pretrained(folder)
    assert not trap.exists()


def test_a_wrong_word_costs_no_heavy_import() -> None:
    code = (
        "import sys, galip\ntry: galip.load('no-such-model')\nexcept galip.generation.load.GalipError: pass\n"
        "print([m for m in ('torch', 'transformers', 'diffusers') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
