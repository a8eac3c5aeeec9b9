"""A model folder's own graphs: what torch computes, of the folder's own weights, and nothing sent or left behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from galip.errors import GalipError
from galip.generation import onnx_backend
from galip.generation.load import graphs_folder, load
from galip.generation.onnx_backend import ONNXBackend
from galip.generation.telemetry import without_telemetry
from galip.model_repo.graphs import has_graphs, read_graphs
from galip.model_repo.resolve import bundled_models
from galip.torch_backend.pipeline import GALIPPipeline

pytestmark = pytest.mark.engines

ENGINES = pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
PROMPTS = ["a red heart", "a sleepy cat in the rain", "two birds"]
WEIGHTS = "generator/diffusion_pytorch_model.safetensors"


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def pipe() -> GALIPPipeline:
    return tiny.pipeline()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("model") / "tiny-32", graphs=True)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


@ENGINES
def test_it_computes_what_torch_does(engine: str, folder: Path, pipe: GALIPPipeline) -> None:
    backend, expected = ONNXBackend(folder, engine, threads=1), pipe.backend
    assert (backend.name, backend.sizes, backend.text_encoder) == (engine, expected.sizes, "clip")
    assert backend.gradients is None
    e = backend.encode(PROMPTS)
    assert np.abs(e - expected.encode(PROMPTS)).max() <= 1e-5
    z = np.random.default_rng(0).standard_normal((3, tiny.Z_DIM)).astype(np.float32)
    per_stage = np.stack([np.roll(e, stage, axis=0) for stage in range(backend.sizes.num_stages)], axis=1)
    for sentences in (e, per_stage):
        images = backend.generate(z, sentences)
        assert images.dtype == np.float32
        assert np.abs(images - expected.generate(z, sentences)).max() <= 1e-5
    assert backend.has_image_encoder
    assert np.abs(backend.embed_images(images) - expected.embed_images(images)).max() <= 1e-5


@ENGINES
def test_the_bundled_model_has_its_graphs(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GALIP_CACHE", str(tmp_path))
    folder = bundled_models()["emoji-64"]
    assert graphs_folder(folder, "emoji-64", engine) == folder
    assert not list(tmp_path.iterdir())
    for name in read_graphs(folder).graphs.values():
        assert (folder / name).stat().st_size < 500_000
    prompts = ["3d emoji of red heart", "flat emoji of a sleepy cat", "yellow star"]
    found, expected = load("emoji-64", engine=engine, threads=1), load("emoji-64", engine="torch", device="cpu")
    images, others = (each(prompts, seed=3, output_type="np").images for each in (found, expected))
    assert np.abs(images - others).max() <= 5e-5
    assert np.abs(found.backend.embed_images(images.transpose(0, 3, 1, 2) * 2 - 1)).max() > 0.1


def test_a_prompt_is_encoded_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_backend, "_KEPT_VECTORS", 3)
    backend = ONNXBackend(folder, "onnxruntime", threads=1)
    first = backend.encode(PROMPTS)
    again = backend.encode([PROMPTS[1], "a heart", PROMPTS[1]])
    assert np.array_equal(again[[0, 2]], first[[1, 1]])
    again[:] = 0  # the caller's own
    assert np.array_equal(backend.encode(PROMPTS[1:2]), first[1:2])
    assert backend._text is not None
    assert len(backend._text._kept) == 3 and PROMPTS[0] not in backend._text._kept  # asked for longest ago
    for _ in range(2):  # what is truncated is told each time
        with pytest.warns(UserWarning, match="is truncated: 'red red"):
            backend.encode(["red " * 100])


def test_no_weight_is_copied(folder: Path) -> None:
    for name in read_graphs(folder).graphs.values():
        graph = onnx.load(folder / name, load_external_data=False).graph
        places = {tensor.name: {e.key: e.value for e in tensor.external_data} for tensor in graph.initializer}
        assert {place["location"].split("/")[0] for place in places.values() if place} <= {
            "generator",
            "vision_encoder",
            "text_encoder",
        }
        own = [onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer if not places[tensor.name]]
        # Scales, sizes, and zeros in the place of biases that CLIP does not have.
        assert all(array.size <= 4 or not array.any() for array in own if array.dtype == np.float32)
        assert not any(node.doc_string or node.metadata_props for node in graph.node)


@ENGINES
def test_other_weights_in_the_same_places_are_the_graphs_too(engine: str, copy: Path) -> None:
    weights = load_file(copy / WEIGHTS)
    size = (copy / WEIGHTS).stat().st_size
    torch.manual_seed(1)
    save_file({name: w + 0.02 * torch.randn_like(w) for name, w in weights.items()}, copy / WEIGHTS, {"format": "pt"})
    assert (copy / WEIGHTS).stat().st_size == size
    assert has_graphs(copy)
    found, expected = load(copy, engine=engine, threads=1), load(copy, engine="torch", device="cpu")
    images, others = (each(PROMPTS, seed=3, output_type="np").images for each in (found, expected))
    assert np.abs(images - others).max() <= 2e-5
    assert np.abs(images - tiny.pipeline()(PROMPTS, seed=3, output_type="np").images).max() > 1e-3


@ENGINES
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_in_half_precision_are_computed_with_in_full(engine: str, dtype: torch.dtype, tmp_path: Path) -> None:
    tiny.pipeline().to(dtype).save_pretrained(tmp_path)
    found, expected = load(tmp_path, engine=engine, threads=1), load(tmp_path, device="cpu", dtype="float32")
    images, others = (each(PROMPTS, seed=3, output_type="np").images for each in (found, expected))
    assert np.abs(images - others).max() <= 1e-5


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "graphs.json").unlink(),
        lambda folder: (folder / "graphs.json").write_text("{"),
        lambda folder: (folder / "graphs.json").write_text('{"format": 99}'),
        lambda folder: (folder / "generator.onnx").write_bytes(b"half"),
        lambda folder: (folder / "image_encoder.onnx").unlink(),
        lambda folder: change_json(folder / "generator" / "config.json", concept_scale=0.5),
        lambda folder: save_file(load_file(folder / WEIGHTS), folder / WEIGHTS, {"format": "pt", "made": "later"}),
    ],
    ids=["none", "damaged", "later", "half a graph", "a graph is missing", "another network", "other places"],
)
def test_graphs_that_do_not_fit_count_as_absent(change: object, copy: Path) -> None:
    assert has_graphs(copy)
    change(copy)
    assert not has_graphs(copy)
    with pytest.raises(GalipError, match="no graphs, or they are not its own"):
        ONNXBackend(copy)


def change_json(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@ENGINES
def test_a_folder_of_links_as_in_the_hubs_cache(
    engine: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GALIP_CACHE", str(tmp_path / "cache"))
    blobs, linked = tmp_path / "blobs", tmp_path / "snapshots" / "abc"
    blobs.mkdir()
    for number, path in enumerate(sorted(p for p in folder.rglob("*") if p.is_file())):
        shutil.copyfile(path, blobs / str(number))
        place = linked / path.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(os.path.relpath(blobs / str(number), place.parent))
    for _ in range(2):
        found = load(linked, engine=engine, threads=1)
        assert found(PROMPTS, seed=3)[0][0].size == (32, 32)
    assert (tmp_path / "cache").exists() == (engine == "openvino")


def test_a_model_without_graphs_is_exported_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = tiny.save(tmp_path / "model", seed=8)
    for _ in range(2):
        images = load(model, engine="onnxruntime", threads=1)(PROMPTS, seed=3, output_type="np").images
    assert np.abs(images - tiny.pipeline(seed=8)(PROMPTS, seed=3, output_type="np").images).max() <= 1e-5
    assert len([record for record in caplog.records if "exporting graphs of" in record.message]) == 1
    assert not has_graphs(model)


# ---- what running leaves alone

WATCHED = """
import os, sys
seen = []
def watch(event, arguments):
    if event.startswith("socket."):
        seen.append(event)
    if event == "open" and isinstance(arguments[0], str) and set(str(arguments[1] or "r")) & set("wax+"):
        seen.append(arguments[0])
    if event in ("os.mkdir", "os.rename"):
        seen.append(str(arguments[0]))
sys.addaudithook(watch)
from galip.generation.load import load
from pathlib import Path
image = load(Path(sys.argv[1]), engine=sys.argv[2], threads=1)("a red heart", seed=0).images[0]
image.save(sys.argv[3])
files = Path("/proc/self/fd")
names = [os.readlink(file) for file in files.iterdir() if file.is_symlink()] if files.is_dir() else []
sockets = [name for name in names if name.startswith("socket:")]
blocked = ("torch", "transformers", "diffusers", "onnx", "nncf", "openvino_telemetry")
print([seen, sockets, [name for name in blocked if sys.modules.get(name)]])
"""


@ENGINES
def test_generating_opens_no_socket_and_writes_nothing_but_the_image(engine: str, folder: Path, tmp_path: Path) -> None:
    home, out = tmp_path / "home", tmp_path / "out" / "image.png"
    home.mkdir()
    out.parent.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "ORT_", "CI"))}
    environment |= {"HOME": str(home), "GALIP_CACHE": str(home / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", WATCHED, str(folder), engine, str(out)]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == str([[str(out)], [], []])
    assert not list(home.rglob("*"))


def test_telemetry_is_the_users_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    monkeypatch.delitem(sys.modules, "openvino_telemetry", raising=False)
    with without_telemetry():
        assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
        with pytest.raises(ImportError):
            __import__("openvino_telemetry")
    assert "openvino_telemetry" not in sys.modules
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    (tmp_path / "intel").mkdir()
    (tmp_path / "intel" / "openvino_telemetry").write_text("1")
    with without_telemetry():
        assert os.environ["ORT_DISABLE_TELEMETRY"] == "0"
        assert "openvino_telemetry" not in sys.modules
