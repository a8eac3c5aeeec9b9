"""Statistics made of real images stand for these images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli.running import run as run_command
from evaluation import random_inception, small

from galip.data.folder import CaptionedFolder
from galip.errors import InputError
from galip.evaluation.extractors.torchvision import TorchvisionInceptionExtractor
from galip.evaluation.images import real_images
from galip.evaluation.protocols import get_protocol
from galip.evaluation.reference_statistics import save_reference
from galip.evaluation.references import References
from galip.evaluation.runner import evaluate, resolved
from galip.evaluation.statistics import Moments, read_statistics

pytestmark = pytest.mark.usefixtures("one_thread")


def test_they_stand_for_the_images(small_model: Path, small_data: Path, small_clip: Path, tmp_path: Path) -> None:
    out, weights = tmp_path / "new" / "clip.npz", {"clip": str(small_clip)}
    given = References(str(small_data), weights=weights, cache=tmp_path)
    made = save_reference(
        out, get_protocol("custom"), given, {"resolution": 32}, ["fd_clip"], distributed=small.alone()
    )
    assert made is not None and made.count == small.COUNT
    found = read_statistics(out)
    assert (found.count, found.about["features"], found.about["resolution"]) == (small.COUNT, "clip", "32")
    np.testing.assert_array_equal(found.mu, made.mu)
    references = References(str(small_data), out, weights=weights, cache=tmp_path)
    by_file = evaluate(
        small_model,
        resolved(get_protocol("custom"), references, {}, ["fd_clip"]),
        references,
        distributed=small.alone(),
    )
    by_images = evaluate(small_model, small.rules("fd_clip", reference="all"), given, distributed=small.alone())
    assert by_file is not None and by_images is not None
    assert by_file.metrics["fd_clip"].value == pytest.approx(by_images.metrics["fd_clip"].value, rel=1e-6)
    assert by_file.n_reference == by_images.n_reference == small.COUNT


def test_the_released_protocols_file(small_data: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """By the command, which says what such a file is not."""
    data = small.images(tmp_path / "data", 5)
    weights = random_inception.save(tmp_path / "inception.pth", random_inception.IMAGENET_CLASSES, auxiliary=True)
    out = tmp_path / "birds.npz"
    words = [
        "--save-reference",
        out,
        "--data",
        data,
        "--protocol",
        "released_cub",
        "--device",
        "cpu",
        "--cache",
        tmp_path,
    ]
    ended = run_command(capsys, "evaluate", *words, "--weights", f"inception-torchvision={weights}")
    assert ended.code == 0, ended.err
    assert f"{out}: statistics of 5 images in the features of inception-torchvision" in ended.out
    assert "the authors' own file" in ended.out and "flipped and shifted to about 30,000" in ended.out
    extractor = TorchvisionInceptionExtractor.open(str(weights))
    features = extractor(real_images(CaptionedFolder(data), range(5), 224)).numpy()
    expected = Moments.of(features).statistics()
    found = read_statistics(out)
    np.testing.assert_allclose(found.mu, expected.mu, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.sigma, expected.sigma, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("protocol", "given", "changes", "metrics", "complaint"),
    [
        ("custom", {}, {"resolution": 32}, ("fd_clip",), "statistics are of real images: give --data"),
        ("custom", {"data": "DATA"}, {}, ("fid",), "custom has no size of its own: give --set resolution=SIDE"),
        ("custom", {"data": "DATA"}, {"resolution": 32}, ("fid", "fd_clip"), "name one metric of the network"),
        ("custom", {"data": "DATA"}, {"resolution": 32}, ("clip_score",), "name one metric of the network"),
        ("custom", {"data": "DATA"}, {"resolution": 32}, ("fidd",), "metric 'fidd': there is no such metric"),
        ("custom", {"data": "DATA"}, {"passes": 3}, ("fid",), "passes does nothing here: statistics depend on"),
        ("emoji64", {"data": "DATA"}, {}, (), "emoji64: name one metric"),
        ("cub", {"data": "DATA"}, {"resolution": 32}, (), "protocol cub fixes resolution; use --protocol custom"),
        ("cub", {"data": "DATA", "weights": {"clip": "x"}}, {}, (), "--weights clip=...: .* made by inception alone"),
    ],
)
def test_what_is_wrong_is_told_first(
    protocol: str,
    given: dict[str, Any],
    changes: dict[str, Any],
    metrics: tuple[str, ...],
    complaint: str,
    small_data: Path,
    tmp_path: Path,
) -> None:
    data = given.pop("data", "").replace("DATA", str(small_data))
    references = References(data, cache=tmp_path, **given)
    with pytest.raises(InputError, match=complaint):
        save_reference(
            tmp_path / "x.npz", get_protocol(protocol), references, changes, metrics, distributed=small.alone()
        )
    with pytest.raises(InputError, match="x.txt: a file of statistics must be named .npz"):
        save_reference(tmp_path / "x.txt", get_protocol(protocol), references)
