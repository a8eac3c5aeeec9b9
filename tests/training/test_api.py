"""Training from Python, defaults chosen by the data, and training on from any model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from training import toy

import galip.training
from galip.data.folder import CaptionedFolder
from galip.data.protocol import BrokenRecordError
from galip.errors import InputError
from galip.training.api import CaptionedSequence
from galip.training.defaults import default_config
from galip.training.networks import build_networks

SMALL = {"images": 8, "batch": 4}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("api")
    return toy.pictures(root / "my data!"), toy.clip(root / "clip")


def rows_of(folder: Path) -> list[tuple[Image.Image, list[str]]]:
    source = CaptionedFolder(folder)
    return [(source.read(n)[0], list(source.captions_at(n))) for n in range(len(source))]


def test_a_list_trains_like_its_folder(places: tuple[Path, Path], tmp_path: Path) -> None:
    data, clip = places
    config = toy.config(data, clip, schedule=SMALL)
    models = [
        galip.training.train(rows, config, out=tmp_path / name, graphs=False)
        for name, rows in (("list", rows_of(data)), ("folder", str(data)))
    ]
    weights = [next((model / "generator").glob("*.safetensors")).read_bytes() for model in models]
    assert weights[0] == weights[1]
    assert not (models[0] / "graphs.json").exists() and (models[0] / "pipeline.py").is_file()


def test_a_dataset_of_the_library_datasets(places: tuple[Path, Path]) -> None:
    datasets = pytest.importorskip("datasets")
    rows = rows_of(places[0])
    dataset = datasets.Dataset.from_dict({"image": [image for image, _ in rows], "text": [c[0] for _, c in rows]})
    source = CaptionedSequence(dataset)
    assert len(source) == len(rows) and source.captions_at(3) == (rows[3][1][0],)
    image, captions = source.read(3)
    assert np.array_equal(np.asarray(image), np.asarray(rows[3][0])) and captions == (rows[3][1][0],)
    assert source.distinct_captions(100) == sorted({captions[0] for _, captions in rows})
    assert source.distinct_captions(2) is None and len(source.some_captions(2)) == 2


def test_kinds_of_images_and_rows(places: tuple[Path, Path]) -> None:
    path = next(places[0].glob("*.png"))
    pixels = np.asarray(Image.open(path))
    rows: list[Any] = [
        (pixels, "a"),
        {"img": path, "caption": "a"},
        (str(path), ["a"]),
        (path.read_bytes(), "a"),
        {"image": Image.open(path), "label": "a"},
        (pixels.astype(np.float32), "a"),
        (pixels, None),
        7,
    ]
    source = CaptionedSequence(rows)
    for number in range(5):
        image, captions = source.read(number)
        assert np.array_equal(np.asarray(image), pixels) and captions == ("a",)
    for number, why in ((5, "uint8"), (6, "no caption"), (7, "not an image with a caption")):
        with pytest.raises(BrokenRecordError, match=why):
            source.read(number)
    half = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert np.asarray(CaptionedSequence([(half, "a")]).read(0)[0]).min() == 255  # on white


@pytest.mark.parametrize(
    ("dataset", "message"),
    [([], "is empty"), (iter([1]), "give a sequence"), ([("x", "y", "z")], "not an image"), ([{"a": 1}], "columns a")],
)
def test_what_is_no_data_set(dataset: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        galip.training.train(dataset)


def test_a_mapping_lies_over_the_defaults(places: tuple[Path, Path], tmp_path: Path) -> None:
    data, clip = places
    config = toy.config(data, clip).model_dump(mode="json")
    given = {name: config[name] for name in ("name", "model", "generator", "discriminator", "performance")}
    model = galip.training.train(rows_of(data), given | {"schedule": SMALL}, out=tmp_path / "run", graphs=False)
    said = json.loads((model / "training.json").read_text())["config"]
    assert said["schedule"]["images"] == 8 and said["augmentation"]["shift"] == 0.1  # few images
    assert said["data"]["source"] == "dataset"


def test_defaults_follow_the_data(places: tuple[Path, Path], tmp_path: Path) -> None:
    config = default_config(str(places[0]), overrides=["schedule.batch=6"])
    assert config.name == "my-data" and config.model.preset == "mini-64" and config.model.clip == "emoji-64"
    assert config.schedule.batch == 6 and config.schedule.images == 50_000
    Image.new("RGB", (400, 300)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("a")
    config = default_config(str(tmp_path))
    assert config.model.preset == "b32-224" and config.data.shorter_side == 256
    with pytest.raises(InputError, match="give a configuration with --config"):
        default_config("pipe:cat x.tar")


def test_the_bundled_model_is_trained_on_by_its_name(places: tuple[Path, Path]) -> None:
    config = default_config(str(places[0]), "emoji-64")
    assert config.name == "emoji-64-my-data" and config.schedule.images == 10_000
    networks = build_networks(config)
    assert networks.generator.image_size == 64 and networks.discriminator.config.grid == networks.vision.grid
    with pytest.raises(InputError, match="no such folder and no such bundled model"):
        build_networks(default_config(str(places[0]), "emoji-63"))
