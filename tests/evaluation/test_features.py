"""Images go once through the networks that need them, always in the same batches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation.small import alone
from torch import Tensor, nn

from galip.distributed import Distributed
from galip.evaluation.extractors.protocol import FrozenExtractor, Takes
from galip.evaluation.features import encode_captions, extract_features
from galip.evaluation.stores import FeatureStore

COUNT = 150


class Corners(FrozenExtractor):
    """Two numbers of each image; notes the batches that it sees."""

    def __init__(self, takes: Takes = "uint8") -> None:
        super().__init__("corners", "none", nn.Linear(1, 1), 2, takes)
        self.batches: list[Tensor] = []

    def features(self, images: Tensor) -> Tensor:
        self.batches.append(images)
        return torch.stack([images[:, 0, 0, 0], images[:, 2, -1, -1]], dim=1).float()

    def encode_text(self, captions: Sequence[str]) -> Tensor:
        return torch.tensor([[len(caption), int(caption)] for caption in captions])


class Numbered:
    """Image n is all n; notes what it is asked for."""

    def __init__(self) -> None:
        self.samples: list[range] = []

    def __call__(self, rows: range) -> Tensor:
        self.samples.append(rows)
        return torch.tensor(list(rows), dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4).contiguous()


def stores(folder: Path, *spaces: str) -> dict[str, FeatureStore]:
    return {space: FeatureStore(folder / space, COUNT, 2) for space in spaces}


def quiet(what: str, done: int, total: int) -> None:
    pass


EXPECTED = np.arange(COUNT, dtype=np.float32)[:, None].repeat(2, axis=1)


def test_each_image_is_made_once_for_all_networks(tmp_path: Path) -> None:
    images, one, two, there = Numbered(), Corners(), Corners(), stores(tmp_path, "one", "two")
    told: list[tuple[str, int, int]] = []
    looking = {"one": (one, there["one"]), "two": (two, there["two"])}
    extract_features(images, looking, alone(), lambda *fact: told.append(fact), "generating")
    assert images.samples == [range(64), range(64, 128), range(128, 150)]
    assert [len(batch) for batch in one.batches] == [len(batch) for batch in two.batches] == [64, 64, 22]
    for store in there.values():
        assert np.array_equal(store.whole(), EXPECTED)
    assert told == [("generating", 0, 3), ("generating", 1, 3), ("generating", 2, 3), ("generating", 3, 3)]


def test_only_what_is_missing_is_made_for_each_network_its_own(tmp_path: Path) -> None:
    images, one, two, there = Numbered(), Corners(), Corners(), stores(tmp_path, "one", "two")
    there["one"].save(0, EXPECTED[:64])
    there["two"].save(0, EXPECTED[:64])
    there["two"].save(2, EXPECTED[128:])
    looking = {"one": (one, there["one"]), "two": (two, there["two"])}
    extract_features(images, looking, alone(), quiet, "generating")
    assert images.samples == [range(64, 128), range(128, 150)]
    assert [len(batch) for batch in one.batches] == [64, 22] and [len(batch) for batch in two.batches] == [64]
    for store in there.values():
        assert np.array_equal(store.whole(), EXPECTED)
    extract_features(images, looking, alone(), quiet, "generating")
    assert len(images.samples) == 2


def test_what_was_done_stays_when_a_image_fails(tmp_path: Path) -> None:
    there, numbered = stores(tmp_path, "one"), Numbered()

    def failing(rows: range) -> Tensor:
        if rows.start == 64:
            raise KeyboardInterrupt
        return numbered(rows)

    with pytest.raises(KeyboardInterrupt):
        extract_features(failing, {"one": (Corners(), there["one"])}, alone(), quiet, "generating")
    assert there["one"].missing() == [1, 2]


def one_of_two(rank: int) -> Distributed:
    """A process as it is among two, where nobody needs to be told anything."""
    process = alone()
    process.rank, process.world = rank, 2
    return process


def test_processes_share_the_missing_blocks_and_see_the_same_batches(tmp_path: Path) -> None:
    images, extractor, there = [Numbered(), Numbered()], Corners(), stores(tmp_path, "one")
    # Both know what was missing before either began, as from_main sees to among real processes.
    missing = there["one"].missing()
    there["one"].missing = lambda: missing  # type: ignore[method-assign]
    for rank in range(2):
        looking = {"one": (extractor, there["one"])}
        extract_features(images[rank], looking, one_of_two(rank), quiet, "generating")
    assert images[0].samples == [range(64), range(128, 150)] and images[1].samples == [range(64, 128)]
    assert np.array_equal(there["one"].whole(), EXPECTED)


def test_floats_become_bytes_once_for_networks_that_take_bytes(tmp_path: Path) -> None:
    there = stores(tmp_path, "bytes", "floats")
    of_bytes, of_floats = Corners(), Corners("float")
    values = torch.linspace(-0.1, 1.1, COUNT)
    looking = {"bytes": (of_bytes, there["bytes"]), "floats": (of_floats, there["floats"])}
    extract_features(
        lambda rows: values[rows.start : rows.stop, None, None, None].expand(-1, 3, 4, 4), looking, alone(), quiet, ""
    )
    assert all(batch.dtype == torch.uint8 for batch in of_bytes.batches)
    expected = np.rint(np.clip(values.numpy(), 0, 1) * np.float32(255))
    assert np.array_equal(there["bytes"].whole()[:, 0], expected)
    assert np.array_equal(there["floats"].whole()[:, 0], values.numpy())


def test_bytes_stay_bytes_for_networks_that_take_floats(tmp_path: Path) -> None:
    extractor, there = Corners("float"), stores(tmp_path, "one")
    extract_features(Numbered(), {"one": (extractor, there["one"])}, alone(), quiet, "")
    assert all(batch.dtype == torch.uint8 for batch in extractor.batches)


def test_captions_are_read_in_every_space_and_only_where_missing(tmp_path: Path) -> None:
    captions = [str(number) for number in range(COUNT)]
    there = stores(tmp_path, "one", "two")
    expected = np.array([[len(caption), int(caption)] for caption in captions], dtype=np.float32)
    there["two"].save(1, expected[64:128] + 1000)
    told: list[tuple[str, int, int]] = []
    reading = {space: (Corners(), store) for space, store in there.items()}
    encode_captions(captions, reading, alone(), lambda *fact: told.append(fact))
    assert np.array_equal(there["one"].whole(), expected)
    assert np.array_equal(there["two"].whole()[64:128], expected[64:128] + 1000)
    assert np.array_equal(there["two"].whole()[128:], expected[128:])
    assert told[0] == ("captions", 0, 5) and told[-1] == ("captions", 5, 5)
