"""Features on the disk: what is done stays done, what is broken is named, whoever writes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from galip.errors import GalipError
from galip.evaluation.stores import BLOCK, FeatureStore

DIM = 3


def features(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(count, DIM)).astype(np.float32)


def fill(store: FeatureStore, blocks: list[int] | None = None) -> NDArray[np.float32]:
    rows = features(store.count)
    for block in range(store.blocks) if blocks is None else blocks:
        part = store.rows(block)
        store.save(block, rows[part.start : part.stop])
    return rows


@pytest.mark.parametrize(("count", "last"), [(1, 1), (63, 63), (64, 64), (65, 1), (150, 22)])
def test_any_count_comes_back_as_it_went_in(tmp_path: Path, count: int, last: int) -> None:
    store = FeatureStore(tmp_path / "store", count, DIM)
    assert store.missing() == list(range(-(-count // 64)))
    assert [row for block in range(store.blocks) for row in store.rows(block)] == list(range(count))
    assert len(store.rows(store.blocks - 1)) == last
    rows = fill(store)
    assert store.missing() == []
    assert np.array_equal(store.whole(), rows)
    assert store.whole().dtype == np.float32


def test_the_block_never_changes() -> None:
    """It decides which batches networks see; another size is another evaluation."""
    assert BLOCK == 64


def test_what_is_saved_is_not_missing_for_anybody(tmp_path: Path) -> None:
    fill(FeatureStore(tmp_path, 300, DIM), [1, 4])
    again = FeatureStore(tmp_path, 300, DIM)
    assert again.missing() == [0, 2, 3]
    rows = fill(again, again.missing())
    assert np.array_equal(again.whole(), rows)


def test_the_whole_is_mapped_and_stands_for_the_blocks(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, 150, DIM)
    rows = fill(store)
    whole = store.whole()
    assert isinstance(whole, np.memmap) and not whole.flags.writeable
    assert sorted(path.name for path in tmp_path.iterdir()) == ["features.npy"]
    again = FeatureStore(tmp_path, 150, DIM)
    assert again.missing() == [] and np.array_equal(again.whole(), rows)


def test_an_unfinished_file_is_no_block(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, 150, DIM)
    fill(store, [0, 2])
    (tmp_path / ".000001.77.part").write_bytes(b"half")
    (tmp_path / ".whole.77.part").write_bytes(b"half")
    assert store.missing() == [1]


def test_a_missing_block_is_named(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, 150, DIM)
    fill(store, [0, 2])
    with pytest.raises(GalipError, match="000001.safetensors: missing or damaged"):
        store.whole()
    assert not list(tmp_path.glob("*.npy")) and not list(tmp_path.glob(".*.part"))
    assert store.missing() == [1]


@pytest.mark.parametrize("damage", [b"", b"\0" * 40, None])
def test_a_damaged_block_is_named_and_can_be_made_again(tmp_path: Path, damage: bytes | None) -> None:
    store = FeatureStore(tmp_path, 150, DIM)
    rows = fill(store)
    broken = tmp_path / "000001.safetensors"
    broken.write_bytes(broken.read_bytes()[:-5] if damage is None else damage)
    with pytest.raises(GalipError, match="000001.safetensors: missing or damaged .*remove it"):
        store.whole()
    broken.unlink()
    assert store.missing() == [1]
    fill(store, [1])
    assert np.array_equal(store.whole(), rows)


def test_a_block_of_another_network_is_named(tmp_path: Path) -> None:
    fill(FeatureStore(tmp_path, 150, DIM))
    with pytest.raises(GalipError, match=r"000000.safetensors: \[64, 3\] numbers instead of \[64, 5\]"):
        FeatureStore(tmp_path, 150, 5).whole()


@pytest.mark.parametrize("kept", [0, 20, 200])
def test_a_damaged_whole_is_named(tmp_path: Path, kept: int) -> None:
    store = FeatureStore(tmp_path, 150, DIM)
    fill(store)
    store.whole()
    path = tmp_path / "features.npy"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(GalipError, match="features.npy: damaged .*remove its folder"):
        store.whole()


def test_a_whole_of_another_size_is_named(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, 150, DIM)
    fill(store)
    store.whole()
    with pytest.raises(GalipError, match=r"features.npy: holds \[150, 3\] numbers instead of \[151, 3\]"):
        FeatureStore(tmp_path, 151, DIM).whole()


def test_features_of_another_shape_are_never_saved(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, 150, DIM)
    for block, shape in ((0, (63, DIM)), (2, (64, DIM)), (0, (64, DIM + 1))):
        with pytest.raises(AssertionError):
            store.save(block, np.zeros(shape, dtype=np.float32))
    assert store.missing() == [0, 1, 2]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GalipError, match="file/store: features cannot be written"):
        fill(FeatureStore(tmp_path / "file" / "store", 10, DIM))


WRITER = """
import sys
from pathlib import Path
import numpy as np
from galip.evaluation.stores import FeatureStore
store = FeatureStore(Path(sys.argv[1]), 1000, 3)
rows = np.random.default_rng(0).normal(size=(1000, 3)).astype(np.float32)
for again in range(20):
    for block in range(store.blocks):
        part = store.rows(block)
        store.save(block, rows[part.start : part.stop])
"""


def test_two_processes_may_write_the_same_blocks(tmp_path: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)]) for _ in range(2)]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert not list(tmp_path.glob(".*"))
    assert np.array_equal(FeatureStore(tmp_path, 1000, DIM).whole(), features(1000))


def test_a_late_writer_changes_nothing(tmp_path: Path) -> None:
    early, late = (FeatureStore(tmp_path, 150, DIM) for _ in range(2))
    rows = fill(early)
    assert np.array_equal(early.whole(), rows)
    fill(late, [2])
    assert late.missing() == [] and np.array_equal(late.whole(), rows)


def test_two_may_put_it_together_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one finishes, and removes the blocks, while this one is reading them."""
    this, other = (FeatureStore(tmp_path, 150, DIM) for _ in range(2))
    rows = fill(this)
    load = this._load

    def overtaken(block: int) -> NDArray[np.float32]:
        if block == 1:
            other.whole()
        return load(block)

    monkeypatch.setattr(this, "_load", overtaken)
    assert np.array_equal(this.whole(), rows)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["features.npy"]


def test_remove(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "store", 150, DIM)
    fill(store)
    store.remove()
    assert not (tmp_path / "store").exists() and store.missing() == [0, 1, 2]
    store.remove()
