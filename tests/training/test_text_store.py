"""Text vectors on disk: those of the table in memory, bit for bit, computed once; another encoder has its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from training import toy
from training.toy import open_run

from galip.errors import GalipError
from galip.training.inputs import TrainData
from galip.training.text_store import stored_table
from galip.training.text_vectors import VectorTable

CAPTIONS = [f"red {what} {number}" for what in ("rain", "heart", "cat") for number in range(100)]


def test_a_run_reads_its_vectors_from_disk(tmp_path: Path) -> None:
    data, clip, store = toy.pictures(tmp_path / "data"), toy.clip(tmp_path / "clip"), tmp_path / "store"
    config = toy.config(data, clip)
    plain = toy.caption_vectors(open_run(config, tmp_path / "plain"))
    wanted = ["red heart", "the rain", "two birds"]
    written = set()
    for number in range(2):
        trainer = open_run(
            toy.change(config, performance={"text_cache": 1, "text_store": str(store)}), tmp_path / f"run-{number}"
        )
        assert torch.equal(toy.caption_vectors(trainer)(wanted).e, plain(wanted).e)
        (file,) = store.iterdir()
        written.add(file.stat().st_mtime_ns)
    assert len(written) == 1  # the second run computes nothing
    assert np.load(file).shape == (8, tiny.COND_DIM)
    without = open_run(toy.change(config, performance={"text_cache": 1}), tmp_path / "without")
    assert isinstance(without.data, TrainData)
    assert toy.caption_vectors(without)._e._table is None


def test_blocks_are_those_of_memory_and_encoders_are_told_apart(tmp_path: Path) -> None:
    encoder, other = (tiny.pipeline(seed).sentence_encoder for seed in (0, 1))
    device = torch.device("cpu")
    expected = VectorTable(encoder, CAPTIONS)(CAPTIONS[::7], device)
    assert torch.equal(VectorTable(encoder, CAPTIONS, None, tmp_path)(CAPTIONS[::7], device), expected)
    assert not torch.equal(VectorTable(other, CAPTIONS, None, tmp_path)(CAPTIONS[::7], device), expected)
    VectorTable(encoder, CAPTIONS[1:], None, tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_damaged_file_and_an_interruption(tmp_path: Path) -> None:
    encoder = tiny.pipeline().sentence_encoder

    def interrupted(table: torch.Tensor) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stored_table(tmp_path, encoder, CAPTIONS, interrupted)
    assert list(tmp_path.iterdir()) == []
    VectorTable(encoder, CAPTIONS, None, tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"no array")
    with pytest.raises(GalipError, match="text vectors cannot be kept there .* see performance.text_store"):
        VectorTable(encoder, CAPTIONS, None, tmp_path)
