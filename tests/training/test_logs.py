"""The log goes on after the last whole line, whatever a power failure left behind it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from accelerate import Accelerator

from galip.training.logs import Averages, RunLog, images_of_row


def rows(*images: int) -> bytes:
    return b"".join(json.dumps({"images": count, "loss": 0.5}).encode() + b"\n" for count in images)


@pytest.mark.parametrize(
    "broken",
    [b"\xff\xfe\x00", b'{"images": 16, "lo', b"[1, 2]\n", b"{}\n", b"\n\n", "\u2028".encode(), b"[" * 100_000],
)
def test_broken_bytes_are_left_out_and_whole_rows_stay(tmp_path: Path, broken: bytes) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(rows(4, 8) + broken)
    log = RunLog(tmp_path, 8, Accelerator(cpu=True), [], {})
    log.write({"images": 12, "loss": 0.25})
    log.close()
    assert [json.loads(line)["images"] for line in path.read_text().splitlines()] == [4, 8, 12]


def test_rows_beyond_the_checkpoint_go(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_bytes(rows(4, 8, 12, 16))
    log = RunLog(tmp_path, 8, Accelerator(cpu=True), [], {})
    log.close()
    assert (tmp_path / "log.jsonl").read_bytes() == rows(4, 8)
    assert images_of_row(b"{") is None


def test_averages_go_on_where_they_were() -> None:
    one, other = Averages(), Averages()
    one.add({"a": 1.0, "b": 2.0})
    other.load_state(one.state())
    for averages in (one, other):
        averages.add({"a": 3.0, "b": 2.0})
    assert one.take() == other.take() == {"a": 2.0, "b": 2.0}
    assert one.take() == {}
