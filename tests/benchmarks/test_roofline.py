"""`benchmarks/roofline.py`: operations and bytes are those of the formulas, and the parts make up the picture."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from benchmarks.scripts import script
from torch import nn


@pytest.fixture
def roofline(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return script("roofline", monkeypatch)


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return script("roofline_parts", monkeypatch)


class Counted:
    """Both forms of the tiny size, counted."""

    def __init__(self, roofline: ModuleType) -> None:
        self.networks = roofline.random_networks("tiny")
        generator, vision = self.networks.generator, self.networks.vision
        z = torch.randn(2, generator.z_dim)
        self.states: dict[str, dict[str, Any]] = {}
        self.rows: dict[str, dict[str, dict[str, Any]]] = {}
        with torch.no_grad():
            for form in ("folded", "plain"):
                generator.fold(form == "folded")
                parts = roofline.generator_parts(self.networks, whole_context=form == "plain")
                state = {"captions": roofline.captions(2), "z": z}
                self.rows[form] = {row["name"]: row for row in roofline.count(parts, state)}
                self.states[form] = state
            self.picture = generator(z, self.states["plain"]["e"], vision)


def test_parts_draw_the_picture(roofline: ModuleType) -> None:
    counted = Counted(roofline)
    for state in counted.states.values():
        torch.testing.assert_close(state["picture"], counted.picture, rtol=0, atol=1e-4)


def test_operations_are_those_of_the_formulas(roofline: ModuleType) -> None:
    counted = Counted(roofline)
    plain, folded = counted.rows["plain"], counted.rows["folded"]
    batch, cond = 2, 8 + 24
    # 3x3 from 8 channels to 3 at 32 x 32
    assert plain["RGB"]["flops"] == folded["RGB"]["flops"] == 2 * batch * 9 * 8 * 3 * 32**2
    assert plain["prompts"]["flops"] == 2 * batch * cond * 2 * 32
    # The up-block from 16 channels at 8 x 8 to 12 at 16 x 16: two 3x3, a 1x1, and four affine MLP pairs.
    block = 2 * batch * (9 * 16 * 12 + 9 * 12 * 12 + 16 * 12) * 16**2
    heads = 2 * batch * 4 * (cond * 16 + 16 * 16 + cond * 12 + 12 * 12)
    assert plain["up-block to 16"]["flops"] == block + heads
    # Folded: 16 taps of a quarter of the pixels, and the 1x1 before upsampling.
    block = 2 * batch * (16 * 16 * 12 * 8**2 + 9 * 12 * 12 * 16**2 + 16 * 12 * 8**2)
    assert folded["up-block to 16"]["flops"] == block + heads
    # ViT of four blocks, 17 tokens of width 32, MLP of 64; two blocks see a prompt, as key and value only.
    assert (
        plain["ViT"]["flops"]
        == folded["ViT"]["flops"]
        == batch
        * sum(
            2 * (2 * seen + 17) * 32 * 32 + 2 * 17 * 32 * 32 + 2 * 2 * 17 * seen * 32 + 2 * 2 * 17 * 32 * 64
            for seen in (17, 18, 18, 17)
        )
    )


def test_least_bytes_are_weights_inputs_and_outputs(roofline: ModuleType) -> None:
    row = Counted(roofline).rows["plain"]["RGB"]
    assert row["least_bytes"] == 4 * ((9 * 8 * 3 + 3) + 2 * 8 * 32**2 + 2 * 3 * 32**2)


def test_operators_count_what_they_read_and_write(parts: ModuleType) -> None:
    a, b = torch.ones(4, 6), torch.ones(6, 5)
    with parts.ByteCounter() as counter:
        a.t().t().mm(b)
    assert counter.bytes == 4 * (24 + 30 + 20)  # transposing moves nothing
    with parts.ByteCounter() as counter:
        torch.ones(1).expand(1000) + a[0, 0]
    assert counter.bytes < 4 * 1000 + 200  # an expanded number is read once


def test_the_limits_are_the_slower_of_both(roofline: ModuleType) -> None:
    rows = [{"flops": 100, "least_bytes": 1, "seconds": 4.0}, {"flops": 1, "least_bytes": 90, "seconds": 6.0}]
    roofline.add_limits(rows, peak=50.0, rate=30.0)
    assert [(row["least_seconds"], row["share"]) for row in rows] == [(2.0, 0.5), (3.0, 0.5)]
    whole = roofline.total("all", [row | {"op_bytes": 7} for row in rows])
    assert whole == {"name": "all", "flops": 101, "least_bytes": 91, "op_bytes": 14, "seconds": 10.0}


def test_another_picture_ends_the_measurement(roofline: ModuleType) -> None:
    with pytest.raises(SystemExit, match="steam draws another picture"):
        roofline.check_same("steam", torch.zeros(3), torch.ones(3))
    with pytest.raises(SystemExit):
        roofline.check_same("nan", torch.full((3,), float("nan")), torch.ones(3))


@pytest.mark.engines
def test_the_script_runs(
    roofline: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, threads = tmp_path / "result.json", torch.get_num_threads()
    options = ["--model", "tiny", "--threads", "1", "--repeats", "1", "--side", "8", "--bytes", "64"]
    options += ["--rounds", "1", "--peak-seconds", "0.01"]
    monkeypatch.setattr(sys, "argv", ["roofline.py", *options, "--out", str(out)])
    monkeypatch.setattr(roofline, "_fastest", lambda job, _seconds: job() is None or 0.5)
    try:
        roofline.main()
    finally:
        torch.set_num_threads(threads)
    result = json.loads(out.read_text())
    assert result["peak_flops"] == 2 * 8**3 / 0.5 and result["bandwidth"] == 2 * 64 / 0.5
    rows = result["parts"]["folded"]
    assert rows[-1]["name"] == "generator"
    assert rows[-1]["flops"] == sum(row["flops"] for row in rows[1:-1])
    assert set(result["generator"]) == {"torch, plain", "torch, folded", "openvino", "onnxruntime"}
    assert len(result["peaks"]) == 4  # each form's process measures the peak beside it
    for whole in result["generator"].values():
        assert len(whole["rounds"]) == 1
        assert whole["rounds"] == [whole["times_folded_flops"]]
    assert "| up-block to 32 |" in capsys.readouterr().out


def test_weights_are_counted_once(parts: ModuleType) -> None:
    layer = nn.Linear(3, 2)
    assert parts._weight_bytes(nn.ModuleList([layer, layer])) == 4 * 8
