"""`galip data prepare hub`, on parquet files; the hub itself is not asked."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from data.trees import noise, records_of

from galip.data_prep.base import Item, WritingOptions
from galip.data_prep.hub import hub
from galip.data_prep.writing import prepare
from galip.errors import GalipError, InputError

pa = pytest.importorskip("pyarrow")
pytest.importorskip("datasets")

WRITING = WritingOptions()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.getbasetemp() / "datasets")


def write_parquet(path: Path, columns: dict[str, list[Any]], per_group: int = 3) -> Path:
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=per_group)
    return path


def rows(numbers: range) -> dict[str, list[Any]]:
    return {
        "image": [{"bytes": noise(number), "path": f"{number}.jpg"} for number in numbers],
        "caption": [f"caption {number}" for number in numbers],
        "id": list(numbers),
    }


def test_a_file_is_cut_at_groups_of_rows(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "a.parquet", rows(range(12)))
    small = WritingOptions(shard_mb=0.02)
    source = hub(str(file), small)
    assert len(source.blocks) > 1
    prepare(source, tmp_path / "out", small)
    found = records_of(tmp_path / "out" / "train")
    assert [record.captions for record in found] == [[f"caption {number}"] for number in range(12)]
    assert [record.content for record in found] == [noise(number) for number in range(12)]
    # A block gives the same rows in another process.
    again = [item for block in pickle.loads(pickle.dumps(source.blocks)) for item in block.items()]
    assert [item.image for item in again if isinstance(item, Item)] == [noise(number) for number in range(12)]


def test_a_folder_has_its_splits_by_name(tmp_path: Path) -> None:
    root = tmp_path / "set"
    write_parquet(root / "data/train-00000-of-00002.parquet", rows(range(4)))
    write_parquet(root / "data/train-00001-of-00002.parquet", rows(range(4, 6)))
    write_parquet(root / "data/test-00000-of-00001.parquet", rows(range(6, 9)))
    report = prepare(hub(str(root), WRITING), tmp_path / "out", WRITING)
    assert {split: sums["records"] for split, sums in report["splits"].items()} == {"train": 6, "test": 3}
    only = prepare(hub(str(root), WRITING, splits=["test"]), tmp_path / "test", WRITING)
    assert list(only["splits"]) == ["test"]
    with pytest.raises(InputError, match=r"--split dev: .* has train, test|--split dev: .* has test, train"):
        hub(str(root), WRITING, splits=["dev"])
    with pytest.raises(InputError, match="name one of them with --split"):
        hub(str(root), WritingOptions(validation=0.5))


def test_columns_of_other_names_and_kinds(tmp_path: Path) -> None:
    import datasets

    columns = {
        "jpg": [noise(0), noise(1), None, b"nothing", noise(4)],
        "texts": [["one", "two"], [], ["three"], ["four"], [None, "five"]],
    }
    file = write_parquet(tmp_path / "a.parquet", columns)
    report = prepare(hub(str(file), WRITING, "jpg", "texts", ["all"]), tmp_path / "out", WRITING)
    found = records_of(tmp_path / "out" / "all")
    assert [(record.captions, record.content) for record in found] == [(["one", "two"], noise(0)), (["five"], noise(4))]
    assert {reason: skipped["count"] for reason, skipped in report["skipped"].items()} == {
        "no caption": 1,
        "no image in the row": 1,
        "unreadable": 1,
    }
    # The hub's own type of images.
    features = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})
    table = {name: values for name, values in rows(range(3)).items() if name != "id"}
    datasets.Dataset.from_dict(table, features=features).to_parquet(tmp_path / "typed.parquet")
    prepare(hub(str(tmp_path / "typed.parquet"), WRITING), tmp_path / "typed", WRITING)
    assert [record.content for record in records_of(tmp_path / "typed" / "train")] == [noise(n) for n in range(3)]


def test_a_share_for_validation(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "a.parquet", {"image": [noise(0)] * 200, "caption": ["same"] * 200}, 200)
    writing = WritingOptions(validation=0.25, seed=5)
    report = prepare(hub(str(file), writing), tmp_path / "out", writing)
    counts = {split: sums["records"] for split, sums in report["splits"].items()}
    assert sum(counts.values()) == 200 and 30 <= counts["validation"] <= 70
    keys = {record.key for split in counts for record in records_of(tmp_path / "out" / split)}
    assert len(keys) == 200


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "a.parquet", rows(range(2)))
    with pytest.raises(InputError, match="--image-column picture: .* has the columns image, caption, id"):
        hub(str(file), WRITING, image="picture")
    with pytest.raises(InputError, match="--caption-column text"):
        hub(str(file), WRITING, caption="text")
    with pytest.raises(GalipError, match="none.parquet: no such file"):
        hub(str(tmp_path / "none.parquet"), WRITING)
    (tmp_path / "empty").mkdir()
    with pytest.raises(GalipError, match="no .parquet file in this folder"):
        hub(str(tmp_path / "empty"), WRITING)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(GalipError, match="bad.parquet: datasets cannot read it"):
        hub(str(tmp_path / "bad.parquet"), WRITING)
