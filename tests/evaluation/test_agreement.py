"""On the same images and the same Inception file, the libraries that users know get our numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation import random_inception
from PIL import Image
from pytorch_fid.fid_score import calculate_frechet_distance, compute_statistics_of_path
from torch_fidelity import calculate_metrics
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from galip.evaluation.extractors.registry import open_extractor
from galip.evaluation.metrics.fid import frechet_from
from galip.evaluation.metrics.kid import subset_distances
from galip.evaluation.statistics import Moments, read_statistics, write_statistics


def images(count: int, grain: int, seed: int) -> torch.Tensor:
    """uint8 [N, 3, 32, 32]: noise of a grain, shaded each in its own way."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(count, 3, 32 // grain, 32 // grain, generator=generator)
    shade = torch.rand(count, 3, 1, 1, generator=generator)
    large = noise.repeat_interleave(grain, 2).repeat_interleave(grain, 3)
    return ((0.5 * large + 0.5 * shade) * 255).round().to(torch.uint8)


def save(folder: Path, images: torch.Tensor) -> str:
    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{number:04d}.png")
    return str(folder)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_inception.save(tmp_path_factory.mktemp("weights") / "inception.pth")


def libraries_numbers(folder: Path, sets: list[torch.Tensor], weights: Path, layer: str) -> dict[str, float]:
    generated, reference = (
        save(folder / name, images) for name, images in zip(("generated", "real"), sets, strict=True)
    )
    return calculate_metrics(
        input1=generated,
        input2=reference,
        feature_extractor_weights_path=str(weights),
        **{f"feature_layer_{metric}": layer for metric in ("fid", "kid")},
        **dict.fromkeys(("fid", "kid", "save_cpu_ram"), True),
        **dict.fromkeys(("cuda", "cache", "verbose", "samples_shuffle"), False),
        kid_subsets=10,
        kid_subset_size=len(sets[1]) // 2,
        batch_size=16,
    )


def compare(theirs: dict[str, float], generated: np.ndarray, reference: np.ndarray) -> None:
    fid = frechet_from(Moments.of(generated), Moments.of(reference))
    assert fid == pytest.approx(theirs["frechet_inception_distance"], rel=1e-3)
    subsets = subset_distances(generated, reference, 10, len(reference) // 2)
    assert subsets.mean() == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-3)
    assert subsets.std() == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-3)


def test_torch_fidelity_from_images_to_numbers(weights: Path, tmp_path: Path) -> None:
    # Features of an early layer: they are had quickly, and so are the roots of matrices in the library.
    sets = [images(32, 2, seed=0), images(24, 4, seed=1)]
    network = FeatureExtractorInceptionV3("inception", ["64"], feature_extractor_weights_path=str(weights))
    with torch.inference_mode():
        generated, reference = (torch.cat([network(part)[0] for part in images.split(16)]).numpy() for images in sets)
    compare(libraries_numbers(tmp_path, sets, weights, "64"), generated, reference)


@pytest.mark.slow
def test_torch_fidelity_in_the_features_of_fid(weights: Path, tmp_path: Path) -> None:
    sets = [images(24, 2, seed=0), images(20, 4, seed=1)]
    extractor = open_extractor("inception", str(weights))
    generated, reference = (torch.cat([extractor(part) for part in images.split(16)]).numpy() for images in sets)
    compare(libraries_numbers(tmp_path, sets, weights, "2048"), generated, reference)


def test_a_statistics_file_of_pytorch_fid_gives_its_own_distance(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(200, 48)), rng.normal(size=(150, 48)) @ rng.normal(size=(48, 48)) / 5 + 0.3
    theirs, ours = tmp_path / "theirs.npz", tmp_path / "ours.npz"
    np.savez_compressed(theirs, mu=first.mean(0), sigma=np.cov(first, rowvar=False))
    write_statistics(ours, Moments.of(second).statistics())
    files = [compute_statistics_of_path(str(path), None, 50, 48, "cpu") for path in (theirs, ours)]
    expected = float(calculate_frechet_distance(*files[0], *files[1]))
    assert frechet_from(read_statistics(theirs), read_statistics(ours)) == pytest.approx(expected, rel=1e-3)
