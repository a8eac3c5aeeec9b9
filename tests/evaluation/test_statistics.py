"""Sums that merge, and files that pytorch-fid and we exchange."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from pytorch_fid.fid_score import compute_statistics_of_path

from galip.errors import GalipError, InputError
from galip.evaluation.statistics import Moments, Statistics, read_statistics, write_statistics


def features(count: int, dim: int = 8, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(count, dim)) @ rng.normal(size=(dim, dim)) + 3).astype(np.float32)


def test_mean_and_covariance_are_numpys() -> None:
    seen = features(2500)  # more than a tile
    moments = Moments.of(seen)
    assert moments.count == 2500
    assert np.allclose(moments.mean, seen.astype(np.float64).mean(0), rtol=1e-12)
    assert np.allclose(moments.covariance, np.cov(seen.astype(np.float64).T), rtol=1e-10)
    assert np.array_equal(moments.covariance, moments.covariance.T)


def test_batches_order_and_processes_do_not_matter() -> None:
    seen = features(300)
    whole = Moments.of(seen)
    batches = Moments.empty(8)
    for start in range(0, 300, 7):
        batches.add(seen[start : start + 7])
    merged = Moments.of(seen[200:]).merge(Moments.empty(8)).merge(Moments.of(seen[:200][::-1]))
    for other in (batches, merged):
        assert other.count == 300
        assert np.allclose(other.covariance, whole.covariance, rtol=1e-12, atol=1e-12)
    rest = whole.without(Moments.of(seen[:100]))
    assert rest.count == 200 and np.allclose(rest.covariance, Moments.of(seen[100:]).covariance, rtol=1e-10)


def test_features_may_lie_in_a_file(tmp_path: Path) -> None:
    seen = features(50)
    seen.tofile(tmp_path / "features")
    mapped = np.memmap(tmp_path / "features", dtype=np.float32, mode="r", shape=(50, 8))
    assert np.array_equal(Moments.of(mapped).outer, Moments.of(seen).outer)


def test_sums_that_tell_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="no images"):
        _ = Moments.empty(8).mean
    with pytest.raises(InputError, match="two images or more: there is 1"):
        _ = Moments.of(features(1)).covariance
    with pytest.raises(InputError, match="moments of 9 numbers, where the others have 8"):
        Moments.of(features(5)).merge(Moments.of(features(5, 9)))
    with pytest.raises(InputError, match="6 images cannot be taken out of 5"):
        Moments.of(features(5)).without(Moments.of(features(6)))
    broken = features(5)
    broken[3] = np.nan
    with pytest.raises(GalipError, match="reference images: the features of image 3 are not finite"):
        Moments.of(broken, "reference images")


# ---- files


def test_a_file_of_pytorch_fid_is_read(tmp_path: Path) -> None:
    seen = features(60)
    mu, sigma = seen.mean(0), np.cov(seen, rowvar=False)
    np.savez_compressed(tmp_path / "theirs.npz", mu=mu, sigma=sigma)  # as its --save-stats does
    read = read_statistics(tmp_path / "theirs.npz")
    assert np.array_equal(read.mu, mu) and np.array_equal(read.sigma, sigma)
    assert read.mu.dtype == read.sigma.dtype == np.float64
    assert read.count is None and read.features is None and read.about == {}


def test_ours_comes_back_and_is_read_by_pytorch_fid(tmp_path: Path) -> None:
    path, seen = tmp_path / "ours.npz", features(60)
    made = Moments.of(seen).statistics()
    about = {"network": "inception", "data": "bird’s eye"}
    write_statistics(path, Statistics(made.mu, made.sigma, made.count, seen, about))
    read = read_statistics(path)
    assert read.count == 60 and read.about == about
    for name in ("mu", "sigma", "features"):
        assert np.array_equal(getattr(read, name), getattr(made, name) if name != "features" else seen)
    assert read.features is not None and read.features.dtype == np.float32
    mu, sigma = compute_statistics_of_path(str(path), None, 50, 8, "cpu")
    assert np.array_equal(mu, made.mu) and np.array_equal(sigma, made.sigma)
    assert [entry.name for entry in tmp_path.iterdir()] == ["ours.npz"]
    with pytest.raises(InputError, match="must be named .npz"):
        write_statistics(tmp_path / "ours.np", made)


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    path, made = tmp_path / "wrong.npz", Moments.of(features(60)).statistics()

    def complaint() -> str:
        with pytest.raises(GalipError) as caught:
            read_statistics(path)
        assert str(path) in str(caught.value)
        return str(caught.value)

    assert "no such file" in complaint()
    for content in (b"", b"text", b"PK\x03\x04 cut off"):
        path.write_bytes(content)
        assert "cannot be read" in complaint()
    with path.open("wb") as file:
        np.save(file, made.mu)
    assert "an .npy array" in complaint()
    np.savez(path, mu=made.mu, cov=made.sigma)
    assert "holds mu, cov; reference statistics hold mu and sigma" in complaint()
    np.savez(path, mu=np.array([object()]), sigma=made.sigma)  # pickled: never loaded
    assert "cannot be read" in complaint()
    np.savez(path, mu=made.mu[:5], sigma=made.sigma)
    assert "mu [5] and sigma [8, 8]" in complaint()
    np.savez(path, mu=made.mu, sigma=made.sigma * np.nan)
    assert "not finite" in complaint()
    np.savez(path, mu=made.mu, sigma=np.triu(made.sigma))
    assert "not symmetric" in complaint()
    np.savez(path, mu=made.mu, sigma=made.sigma, features=features(5, 9))
    assert "features [5, 9]; [N, 8] is needed" in complaint()
    np.savez(path, mu=np.array(["a", "b"]), sigma=made.sigma)
    assert "mu is of type <U1; real numbers are needed" in complaint()


def damaged(path: Path) -> str:
    with pytest.raises(GalipError) as caught:
        read_statistics(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    return str(caught.value)


def test_numbers_that_are_no_covariance_are_told_when_the_file_is_read(tmp_path: Path) -> None:
    path, made = tmp_path / "wrong.npz", Moments.of(features(60)).statistics()
    np.savez(path, mu=made.mu, sigma=made.sigma.astype(complex))
    assert "sigma is of type complex128; real numbers are needed" in damaged(path)
    np.savez(path, mu=made.mu, sigma=-made.sigma)
    assert "sigma has negative eigenvalues" in damaged(path)
    np.savez(path, mu=made.mu, sigma=made.sigma - 0.5 * np.eye(8) * np.linalg.eigvalsh(made.sigma).max())
    assert "sigma has negative eigenvalues" in damaged(path)
    np.savez(path, mu=made.mu, sigma=made.sigma * 1e300)
    assert "numbers above 1e+30" in damaged(path)
    np.savez(path, mu=np.full(8, 1e300), sigma=made.sigma)
    assert "numbers above 1e+30" in damaged(path)
    np.savez(path, mu=made.mu, sigma=made.sigma, count=np.array(0))
    assert "statistics of 0 images" in damaged(path)
    np.savez(path, mu=made.mu, sigma=made.sigma, features=np.full((3, 8), np.nan))
    assert "features are not finite" in damaged(path)
    np.savez(path, mu=made.mu, sigma=made.sigma, about=np.array('{"a": ' * 5000))
    assert damaged(path)


@pytest.mark.parametrize(
    ("rows", "says"), [(10**9, "sigma.npy claims 64 GB"), (10**14, "sigma.npy claims 6,400,000 GB")]
)
def test_a_file_that_claims_terabytes_is_not_allocated(tmp_path: Path, rows: int, says: str) -> None:
    path, header = tmp_path / "large.npz", io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (rows, 8)})
    mu = io.BytesIO()
    np.save(mu, np.zeros(8))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mu.npy", mu.getvalue())
        archive.writestr("sigma.npy", header.getvalue() + bytes(800))
    tracemalloc.start()
    assert says in damaged(path)
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


def test_a_header_that_lies_by_a_little_is_told(tmp_path: Path) -> None:
    path, header = tmp_path / "lie.npz", io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (9,)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mu.npy", header.getvalue() + bytes(64))
        archive.writestr("sigma.npy", b"")
    assert "mu.npy has 192 bytes where its header says 200" in damaged(path)
