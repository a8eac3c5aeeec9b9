"""Two folders of images give what users of pytorch-fid and clean-fid know, from the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluation import random_inception, small
from PIL import Image

from galip.data.protocol import BrokenRecordError
from galip.errors import GalipError, InputError
from galip.evaluation.extractors.inception import InceptionExtractor, resized
from galip.evaluation.image_sets import ImageFolder
from galip.evaluation.images import native_images
from galip.evaluation.metrics.fid import frechet_from
from galip.evaluation.metrics.kid import subset_distances
from galip.evaluation.protocols import get_protocol
from galip.evaluation.references import References
from galip.evaluation.result import Result
from galip.evaluation.runner import evaluate, resolved
from galip.evaluation.statistics import Moments, write_statistics

pytestmark = pytest.mark.usefixtures("one_thread")


def folder_of(folder: Path, count: int, seed: int, side: int = 0) -> Path:
    """Colourful images, each of its own size and shape unless a side is given, one with an alpha channel."""
    folder.mkdir()
    random = np.random.default_rng(seed)
    for number in range(count):
        size = (side or 20 + 97 * number, side or 300 - 31 * number)
        mode = "RGBA" if number == 2 else "RGB"
        patches = random.integers(0, 256, (6, 6, len(mode)), dtype=np.uint8)
        Image.fromarray(patches).resize(size, Image.Resampling.BICUBIC).save(folder / f"{number:02d}.png")
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_inception.save(tmp_path_factory.mktemp("weights") / "inception.pth")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    top = tmp_path_factory.mktemp("folders")
    return folder_of(top / "generated", 7, seed=0), folder_of(top / "real", 6, seed=1)


def compared(one: Path, two: Path, weights: Path, cache: Path, **changes: Any) -> Result:
    metrics = changes.pop("metrics", ())
    references = References(str(two), weights={"inception": str(weights)}, cache=cache)
    rules = resolved(get_protocol("images"), references, changes, metrics)
    found = evaluate(one, rules, references, distributed=small.alone())
    assert found is not None
    return found


@torch.no_grad()
def by_pytorch_fid(folder: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Features of a folder's images, one at a time as their sizes differ."""
    import pytorch_fid.inception
    from pytorch_fid.fid_score import get_activations

    def given(*_: object, **__: object) -> dict[str, torch.Tensor]:
        return torch.load(weights, weights_only=True)

    monkeypatch.setattr(pytorch_fid.inception, "load_state_dict_from_url", given)
    network = pytorch_fid.inception.InceptionV3([3])
    return get_activations(sorted(folder.glob("*.png")), network, 1, 2048, "cpu", num_workers=0)


@torch.no_grad()
def by_clean_fid(folder: Path, weights: Path) -> np.ndarray:
    """Features of a folder's images by clean-fid's reading and resizing, and its scaling before the network."""
    from cleanfid.fid import get_folder_features

    from galip.evaluation.extractors.inception import _LAYERS

    network: Any = InceptionExtractor.open(str(weights)).network

    def features(batch: torch.Tensor) -> torch.Tensor:
        assert batch.shape[2:] == (299, 299)
        x = (batch - 128) / 128
        for layer in _LAYERS:
            x = getattr(network, layer)(x)
        return x.flatten(1)

    return get_folder_features(
        str(folder), features, num_workers=0, batch_size=1, device=torch.device("cpu"), mode="clean", verbose=False
    )


@pytest.mark.parametrize("how", ["pytorch", "clean"])
def test_the_tools_numbers(
    how: str, folders: tuple[Path, Path], weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = compared(*folders, weights, tmp_path, inception_resize=how)
    assert (found.protocol, found.n_generated, found.n_reference) == ("images", 7, 6)
    assert found.metrics.keys() == {"fid", "kid"}
    if how == "pytorch":
        generated, real = (by_pytorch_fid(folder, weights, monkeypatch) for folder in folders)
    else:
        from cleanfid.fid import kernel_distance

        generated, real = (by_clean_fid(folder, weights) for folder in folders)
        # Of subsets that hold all images of both there is one; ours hold six of the seven.
        assert subset_distances(generated[:6], real, 1, 6).mean() == pytest.approx(
            kernel_distance(generated[:6], real, num_subsets=1, max_subset_size=6),
            rel=1e-3,  # in float32
        )
    expected = frechet_from(Moments.of(generated), Moments.of(real))
    assert found.metrics["fid"].value == pytest.approx(expected, rel=1e-4)
    expected_kid = subset_distances(_in_order(folders[0], generated), _in_order(folders[1], real, "reference"), 100, 6)
    assert found.metrics["kid"].value == pytest.approx(expected_kid.mean(), rel=1e-3)


def _in_order(folder: Path, features: np.ndarray, what: str = "drawn") -> np.ndarray:
    """Features in the order that a plan has them, which decides over KID's subsets."""
    from galip.evaluation.planning import _shuffled

    return features[_shuffled(0, what, range(len(ImageFolder(folder))))]


@pytest.mark.slow
def test_pytorch_fid_from_folders_to_the_number(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pytorch_fid.inception
    from pytorch_fid.fid_score import calculate_fid_given_paths

    one, two = folder_of(tmp_path / "one", 20, 0, side=64), folder_of(tmp_path / "two", 20, 1, side=64)
    state = torch.load(weights, weights_only=True)
    monkeypatch.setattr(pytorch_fid.inception, "load_state_dict_from_url", lambda *_, **__: state)
    theirs = float(calculate_fid_given_paths([str(one), str(two)], 10, "cpu", 2048, num_workers=0))
    assert compared(one, two, weights, tmp_path / "cache").metrics["fid"].value == pytest.approx(theirs, rel=1e-3)


def test_clean_fids_resizing_is_its_own(folders: tuple[Path, Path]) -> None:
    from cleanfid.resize import build_resizer

    theirs = build_resizer("clean")
    for path in sorted(folders[0].glob("*.png")):
        pixels = np.array(Image.open(path).convert("RGB"))
        ours = resized(torch.from_numpy(pixels).permute(2, 0, 1)[None].float(), "clean")[0]
        np.testing.assert_allclose(ours.permute(1, 2, 0).numpy(), theirs(pixels), atol=1e-3)


def test_each_way_to_resize_is_another_number_and_another_protocol(
    weights: Path, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    images = [native_images(ImageFolder(folders[0]), [1, 4], how) for how in ("tensorflow", "pytorch", "clean")]  # type: ignore[arg-type]
    assert all(batch.shape == (2, 3, 299, 299) for batch in images)
    assert all(batch.min() > -1e-6 and 0.5 < batch.max() < 1 + 1e-6 for batch in images)
    assert all((images[one] - images[two]).abs().mean() > 1e-4 for one, two in ((0, 1), (0, 2), (1, 2)))
    digests = {
        get_protocol("images").changed(inception_resize=how).digest for how in ("tensorflow", "pytorch", "clean")
    }
    assert len(digests) == 3


def test_the_usual_resize_is_the_librarys_own(weights: Path) -> None:
    pixels = torch.randint(0, 256, (2, 3, 70, 70), dtype=torch.uint8)
    usual, same = InceptionExtractor.open(str(weights)), InceptionExtractor.open(str(weights), "tensorflow")
    torch.testing.assert_close(same(pixels), usual(pixels), rtol=1e-4, atol=1e-5)
    assert usual.takes == "uint8" and same.takes == "float" and usual.digest == same.digest


def test_statistics_stand_for_a_folder(weights: Path, folders: tuple[Path, Path], tmp_path: Path) -> None:
    extractor = InceptionExtractor.open(str(weights), "pytorch")
    real = Moments.of(extractor(native_images(ImageFolder(folders[1]), range(6), "pytorch")).numpy())
    write_statistics(tmp_path / "real.npz", real.statistics())
    references = References(reference=tmp_path / "real.npz", weights={"inception": str(weights)}, cache=tmp_path)
    found = evaluate(
        folders[0], resolved(get_protocol("images"), references, {}), references, distributed=small.alone()
    )
    assert found is not None and found.metrics.keys() == {"fid"}
    whole = compared(*folders, weights, tmp_path, metrics=("fid",))
    assert found.metrics["fid"].value == pytest.approx(whole.metrics["fid"].value, rel=1e-4)


def test_what_a_folder_of_images_is(folders: tuple[Path, Path], tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "images", 3, seed=2)
    (folder / "sub").mkdir()
    Image.new("L", (5, 5)).save(folder / "sub" / "x.JPEG")
    for name in ("notes.txt", "._00.png", ".hidden.png"):
        (folder / name).write_text("no image")
    images = ImageFolder(folder)
    assert images.names == ["00.png", "01.png", "02.png", "sub/x.JPEG"] and images.captions_at(0) == ()
    assert images.read(2)[0].mode == images.read(3)[0].mode == "RGB"
    before = (images.digest, images.state)
    (folder / "01.png").write_bytes((folder / "01.png").read_bytes() + b"x")
    assert all(one != two for one, two in zip(before, (images.digest, images.state), strict=True))
    (folder / "00.png").write_bytes(b"no image")
    with pytest.raises(BrokenRecordError, match=r"00.png: not a readable image"):
        images.read(0)
    for wrong, complaint in ((tmp_path / "nowhere", "no such folder"), (tmp_path / "empty", "no image in it")):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(GalipError, match=complaint):
            ImageFolder(wrong)


@pytest.mark.parametrize(
    ("changes", "metrics", "complaint"),
    [
        ({"captions": "choose"}, (), "protocol images: captions cannot be set, only among, coverage_neighbours"),
        ({"resolution": 64}, (), "protocol images: resolution cannot be set"),
        (
            {"inception_resize": "bicubic"},
            (),
            "images, inception_resize: .*'tensorflow', 'pytorch' or 'clean'",
        ),
        ({}, ("fid", "fd_clip"), "metric fd_clip: images without captions are compared in Inception's features"),
        ({}, ("clip_score",), "metric clip_score: images without captions"),
    ],
)
def test_what_two_folders_cannot_be_asked(
    changes: dict[str, Any], metrics: tuple[str, ...], complaint: str, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    references = References(str(folders[1]), cache=tmp_path)

    def ask() -> None:
        evaluate(folders[0], resolved(get_protocol("images"), references, changes, metrics), references)

    with pytest.raises(InputError, match=complaint):
        ask()
