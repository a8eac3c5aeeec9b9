"""Exported models: the folder, the pictures, the precisions, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
import yaml

from galip.errors import GalipError, InputError
from galip.export.exporting import Source, export
from galip.generation.onnx_backend import CHUNKS, ONNXBackend
from galip.generation.pipeline import TextToImage
from galip.model_repo import export_folder
from galip.model_repo.export_folder import read_manifest
from galip.model_repo.fingerprint import source_digest
from galip.model_repo.resolve import bundled_models
from galip.torch_backend.pipeline import GALIPPipeline

pytestmark = pytest.mark.engines

CAPTIONS = ["a red heart", "a sleepy cat in the rain", "two birds"]
MANY = [f"{one} {other}" for one in ("a", "two", "the", "red") for other in ("heart", "cat", "rain", "birds", "kitten")]
KINDS = pytest.mark.parametrize("kind", ["onnx", "openvino"])
ENGINE = {"onnx": "onnxruntime", "openvino": "openvino"}


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
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    folder = tiny.save(tmp_path_factory.mktemp("model") / "tiny-32", graphs=True)
    (folder / "README.md").write_text("---\nlicense: other\nlicense_name: mine\n---\n# Tiny\n\nWas never trained.\n")
    return Source("tiny-32", folder)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, pipe: GALIPPipeline, source: Source) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("exported")
    for kind in ("onnx", "openvino"):
        export(pipe, source, place / kind, kind)
    return {kind: place / kind for kind in ("onnx", "openvino")}


def pixels(pipe: TextToImage, *args: object, **kwargs: object) -> np.ndarray:
    return pipe(*args, output_type="np", **kwargs).images


@KINDS
def test_pictures_are_the_pipelines(kind: str, exported: dict[str, Path], pipe: GALIPPipeline) -> None:
    engine = TextToImage(ONNXBackend(exported[kind], threads=1))
    assert engine.backend.name == ENGINE[kind]
    for number, batch_size in ((1, 16), (3, 4), (4, 16), (4, 11)):
        expected = pixels(pipe, CAPTIONS, number, seed=5, truncation=0.8)
        assert expected.std() > 0.05
        drawn = pixels(engine, CAPTIONS, number, seed=5, truncation=0.8, batch_size=batch_size)
        assert drawn.dtype == np.float32
        assert drawn.shape == expected.shape
        assert np.abs(drawn - expected).max() <= 1e-4
    assert list(CHUNKS) == [8, 1]  # 12 pictures are one chunk of each kind and more


def test_openvino_reads_onnx_too(exported: dict[str, Path], pipe: GALIPPipeline) -> None:
    engine = TextToImage(ONNXBackend(exported["onnx"], engine="openvino", threads=1))
    assert np.abs(pixels(engine, CAPTIONS, seed=0) - pixels(pipe, CAPTIONS, seed=0)).max() <= 1e-4
    with pytest.raises(InputError, match="exported for openvino; engine 'onnxruntime' cannot run it"):
        TextToImage(ONNXBackend(exported["openvino"], engine="onnxruntime"))


@KINDS
def test_a_t5_speaks_too(kind: str, tmp_path: Path) -> None:
    pipe = tiny.pipeline(text="t5")
    pipe.save_pretrained(tmp_path / "model")
    export(pipe, Source("t5", tmp_path / "model"), tmp_path / "out", kind)
    assert read_manifest(tmp_path / "out").text_encoder == "t5"
    engine = TextToImage(ONNXBackend(tmp_path / "out", threads=1))
    assert np.abs(pixels(engine, CAPTIONS, seed=0) - pixels(pipe, CAPTIONS, seed=0)).max() <= 1e-4


@KINDS
def test_the_bundled_model(kind: str, tmp_path: Path) -> None:
    folder = bundled_models()["emoji-64"]
    pipe = GALIPPipeline.from_pretrained(folder)
    export(pipe, Source("emoji-64", folder), tmp_path / "out", kind)
    engine = TextToImage(ONNXBackend(tmp_path / "out", threads=1))
    captions = ["3d emoji of red heart", "flat emoji of a <|endoftext|> sleepy cat", "yellow star " * 40]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        expected, drawn = (pixels(each, captions, 1, seed=3) for each in (pipe, engine))
        messages = [str(w.message) for w in caught if "truncated" in str(w.message)]
    assert len(messages) == 2
    assert messages[0] == messages[1]
    assert np.abs(drawn - expected).max() <= 1e-4


def test_prompt_embeds_latents_and_sentences(exported: dict[str, Path], pipe: GALIPPipeline) -> None:
    engine = TextToImage(ONNXBackend(exported["onnx"], threads=1))
    vectors = engine.encode_prompt([*CAPTIONS, CAPTIONS[0]])
    assert np.abs(vectors - pipe.encode_prompt([*CAPTIONS, CAPTIONS[0]]).numpy()).max() <= 1e-4
    z = np.random.default_rng(0).standard_normal((2, tiny.Z_DIM))
    per_stage = np.stack([np.roll(vectors[:2], stage, axis=0) for stage in range(pipe.generator.num_stages)], axis=1)
    for embeds in (vectors[:2], per_stage):
        drawn = engine(prompt_embeds=embeds, latents=z, output_type="np")
        assert drawn.seeds is None
        expected = pixels(pipe, prompt_embeds=torch.from_numpy(embeds), latents=z)
        assert np.abs(drawn.images - expected).max() <= 1e-4


def test_what_a_call_returns(exported: dict[str, Path]) -> None:
    engine = TextToImage(ONNXBackend(exported["openvino"], threads=1))
    images, seeds = engine(CAPTIONS[:2], 2, seed=7, return_dict=False)
    assert [image.size for image in images] == [(32, 32)] * 4
    assert seeds == [7, 8, 7, 8]
    parts = list(engine.stream(CAPTIONS, 3, seed=7, batch_size=4))
    assert [len(part.images) for part in parts] == [4, 4, 1]
    assert len(engine("a cat").seeds) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either prompt or prompt_embeds"),
        ({"prompt": ""}, "empty"),
        ({"prompt": "a cat", "output_type": "pt"}, "output_type 'pt' needs torch"),
        ({"prompt": "a cat", "generator": torch.Generator()}, "without torch"),
        ({"prompt": "a cat", "seed": [1, 2]}, "list of 2"),
        ({"prompt": "a cat", "seed": 1, "latents": np.zeros((1, 8))}, "one of them only"),
        ({"prompt": "a cat", "latents": torch.zeros(1, 8)}, "give the noise as an array"),
        ({"prompt": "a cat", "latents": np.zeros((1, 9))}, r"latents has shape \[1, 9\]"),
        ({"prompt": "a cat", "latents": np.full((1, 8), np.nan)}, "finite"),
        ({"prompt_embeds": np.zeros((1, 9), np.float32)}, r"prompt_embeds has shape \[1, 9\]"),
        ({"prompt_embeds": np.zeros((1, 24), np.int64)}, "give a float array"),
        ({"prompt_embeds": np.full((1, 24), np.inf)}, "not finite"),
        ({"prompt": "a cat", "truncation": float("nan")}, "truncation"),
        ({"prompt": "a cat", "batch_size": 0}, "batch_size is 0"),
    ],
)
def test_bad_arguments_are_refused(exported: dict[str, Path], arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TextToImage(ONNXBackend(exported["onnx"], threads=1))(**arguments)


def test_pictures_that_are_not_finite_are_an_error(exported: dict[str, Path]) -> None:
    engine = TextToImage(ONNXBackend(exported["onnx"], threads=1))
    with pytest.raises(GalipError, match="image 1 holds numbers that are not finite"):
        engine(["a cat"] * 2, latents=np.stack([np.zeros(8), np.full(8, 3e38)]).astype(np.float32), truncation=10.0)


@KINDS
def test_torch_is_never_imported(kind: str, exported: dict[str, Path]) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom galip.generation.onnx_backend import ONNXBackend\n"
        "from galip.generation.pipeline import TextToImage\n"
        f"pipe = TextToImage(ONNXBackend(Path({str(exported[kind])!r}), threads=1))\n"
        "assert pipe('a red heart', seed=0).images[0].size == (32, 32)\n"
        "print([m for m in ('torch', 'transformers', 'diffusers', 'onnx', 'nncf') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


# ---- the folder


@KINDS
def test_the_folder_says_what_it_is(kind: str, exported: dict[str, Path]) -> None:
    folder = exported[kind]
    graphs = {"onnx": ["generator.onnx", "text_encoder.onnx"]}.get(
        kind, [f"{part}.{end}" for part in ("generator", "text_encoder") for end in ("bin", "xml")]
    )
    assert sorted(p.name for p in folder.iterdir()) == sorted(["README.md", "export.json", "tokenizer.json", *graphs])
    manifest = json.loads((folder / "export.json").read_text())
    assert manifest["format"] == 2
    assert manifest["opset"] == 18
    assert manifest["source"]["name"] == "tiny-32"
    assert sorted(manifest["files"]) == sorted([*graphs, "tokenizer.json"])
    card = (folder / "README.md").read_text()
    matter = yaml.safe_load(card.split("---")[1])
    assert matter["license_name"] == "mine"
    assert "Was never trained." in card


def test_the_digest_minds_every_part_but_not_the_card(source: Source, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(source.folder, tmp_path / "copy"))
    first = source_digest(source.folder)
    (copy / "README.md").write_text("other")
    assert source_digest(copy) == first
    weights = copy / "vision_encoder" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert source_digest(copy) != first


def rewrite(folder: Path, **changes: object) -> None:
    content = json.loads((folder / "export.json").read_text())
    (folder / "export.json").write_text(json.dumps(content | changes))


def test_a_folder_of_the_last_version_is_read(exported: dict[str, Path], pipe: GALIPPipeline, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exported["onnx"], tmp_path / "copy"))
    content = json.loads((folder / "export.json").read_text())
    for later in ("image_channels", "image_encoder", "tokenizer", "structure"):
        content.pop(later, None)
    (folder / "export.json").write_text(json.dumps(content | {"format": 1, "quality": None}))
    backend = ONNXBackend(folder, threads=1)
    assert backend.sizes == pipe.sizes
    assert not backend.has_image_encoder


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "generator.onnx").unlink(), "generator.onnx: it is missing"),
        (lambda folder: (folder / "text_encoder.onnx").write_bytes(b"x"), "text_encoder.onnx: .* not as large"),
        (lambda folder: (folder / "export.json").write_text("{"), "export.json: it cannot be read"),
        (lambda folder: (folder / "export.json").write_text('{"format": 99}'), "format 99.* update galip"),
        (lambda folder: (folder / "export.json").write_text('{"format": 1}'), "export.json: it cannot be read"),
        (lambda folder: rewrite(folder, z_dim=-3), "export.json: it cannot be read .z_dim is -3."),
        (lambda folder: rewrite(folder, kind="tar"), "export.json: it cannot be read .kind is 'tar'."),
        (lambda folder: rewrite(folder, files=["a"]), "export.json: it cannot be read"),
        (lambda folder: rewrite(folder, tokenizer="../tokenizer.json"), "'../tokenizer.json' is not a file of this"),
    ],
)
def test_a_damaged_folder_is_refused(damage: object, message: str, exported: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exported["onnx"], tmp_path / "copy"))
    damage(folder)
    with pytest.raises(GalipError, match=message):
        TextToImage(ONNXBackend(folder))


@KINDS
def test_a_damaged_graph_is_refused_when_it_is_loaded(kind: str, exported: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exported[kind], tmp_path / "copy"))
    name = f"generator{export_folder.SUFFIX[kind]}"
    (folder / name).write_bytes(bytes((folder / name).stat().st_size))
    with pytest.raises(GalipError, match=f"{name}: .*export it again"):
        TextToImage(ONNXBackend(folder))


def test_an_export_that_fails_leaves_what_was_there(
    exported: dict[str, Path], pipe: GALIPPipeline, source: Source, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(exported["onnx"], tmp_path / "out"))
    with pytest.raises(InputError, match="at least 16 different"):
        export(pipe, source, out, "openvino", "int8", captions=CAPTIONS)
    with pytest.raises(InputError, match="int8 is there for openvino only"):
        export(pipe, source, out, "onnx", "int8", captions=MANY)
    assert read_manifest(out) == read_manifest(exported["onnx"])
    export(pipe, source, out, "openvino")
    assert read_manifest(out).kind == "openvino"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


# ---- precisions


@KINDS
def test_half_the_bytes(kind: str, tmp_path: Path) -> None:
    folder = bundled_models()["emoji-64"]
    pipe = GALIPPipeline.from_pretrained(folder)
    manifest = export(pipe, Source("emoji-64", folder), tmp_path / "out", kind, "fp16", ["a red heart", "a blue car"])
    whole = 4 * sum(p.numel() for p in pipe.generator.parameters())
    whole += 4 * sum(p.numel() for name, p in pipe.vision_encoder.named_parameters() if "encoder.layers" in name)
    size = sum(facts["bytes"] for name, facts in manifest.files.items() if name.startswith("generator"))
    assert size < 0.65 * whole
    assert manifest.quality["captions"] == 2
    assert manifest.quality["psnr_lowest"] > 40
    assert TextToImage(ONNXBackend(tmp_path / "out", threads=1))("a red heart", seed=0).images[0].size == (64, 64)


def test_int8_is_near_and_says_how_near(tmp_path: Path) -> None:
    folder, told = bundled_models()["emoji-64"], []

    def progress(stage: str, done: int, total: int) -> None:
        told.append((stage, total))

    pipe = GALIPPipeline.from_pretrained(folder)
    captions = [f"3d emoji of {caption}" for caption in MANY]
    manifest = export(pipe, Source("emoji-64", folder), tmp_path / "out", "openvino", "int8", captions, progress)
    assert ("calibrate", 15) in told
    assert manifest.quality["captions"] == 5
    assert 20 < manifest.quality["psnr_mean"] < 80
    assert f"PSNR {manifest.quality['psnr_mean']} dB" in (tmp_path / "out" / "README.md").read_text()
    engine = TextToImage(ONNXBackend(tmp_path / "out", threads=1))
    difference = np.abs(pixels(engine, "a blue car", seed=0) - pixels(pipe, "a blue car", seed=0))
    assert 0 < difference.mean() < 0.1
    assert "FakeQuantize" in (tmp_path / "out" / "generator.xml").read_text()
