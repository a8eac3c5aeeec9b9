"""`benchmarks/peers.py`: the peers have their published sizes, and the sums are right."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.scripts import BENCHMARKS, script

# Of the published files, whose bytes in fp32 are four times as many. The LDM's 1.45 B are U-Net and text encoder.
PUBLISHED = {
    "ldm": {"unet": 872_300_484, "vqvae": 83_653_863, "bert": 581_994_042},
    "sd15": {"unet": 859_520_964, "vae": 83_653_863, "text_encoder": 123_060_480},
    "sd-turbo": {"unet": 865_910_724, "vae": 83_653_863, "text_encoder": 340_387_840},
    "lcm": {"unet": 859_602_884, "vae": 83_653_863, "text_encoder": 123_060_480},
    "sdxs": {"unet": 318_695_364, "text_encoder": 340_387_840},  # its paper: 319 M
    "sdxl-turbo": {"unet": 2_567_463_684, "text_encoder": 123_060_480, "text_encoder_2": 694_659_840},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_peers_have_their_published_sizes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    models = script("peer_models", monkeypatch)
    pipe = models.build(models.PEERS[name], quick=False, device="meta")
    sizes = {
        part: sum(weight.numel() for weight in network.parameters())
        for part, network in pipe.components.items()
        if isinstance(network, torch.nn.Module)
    }
    assert {part: sizes[part] for part in PUBLISHED[name]} == PUBLISHED[name]
    assert models.parameters(pipe) == sum(sizes.values())


@pytest.mark.parametrize(
    ("name", "calls", "reckoned"),
    [("sd-turbo", 1, False), ("ldm", 4, True), ("lcm", 4, False), ("sdxl-turbo", 1, False)],
)
def test_a_peer_draws_and_is_measured(name: str, calls: int, reckoned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    peers = script("peers", monkeypatch)
    seen: list[int] = []
    reckon = peers.reckon
    monkeypatch.setattr(peers, "reckon", lambda whole, starts: seen.append(len(starts)) or reckon(whole, starts))
    found = peers.measure_peer(name, repeats=1, timed_steps=4, quick=True)
    assert [int(steps) for steps in found["pictures"]] == list(peers.PEERS[name].steps)
    assert all(picture["reckoned"] is reckoned for picture in found["pictures"].values())
    assert seen == ([calls] if reckoned else [])
    assert found["pixels"] == 64 and found["parameters"] > 1e5
    if reckoned:
        fifty, many = (found["pictures"][steps]["seconds"] for steps in ("50", "250"))
        assert many - fifty == pytest.approx(200 * found["step"])
        assert fifty == pytest.approx(found["rest"] + 50 * found["step"])


def test_a_picture_is_reckoned_from_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    # Two seconds before the first step, steps of three, five for the decoder.
    step, rest = script("peers", monkeypatch).reckon(2 + 4 * 3 + 5, [2.0, 5.0, 8.0, 11.0])
    assert (step, rest) == (3, 7)


def row(name: str, seconds: float, batch: int = 1) -> dict[str, Any]:
    facts = {"title": name, "pixels": 32, "steps": 1, "reckoned": name == "ldm", "parameters": 10, "peak_bytes": 2**30}
    return {"name": name, "seconds": seconds, "batch": batch} | facts


def test_ratios_are_to_our_fastest_single_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    peers = script("peers", monkeypatch)
    rows = [row("released", 4.0), row("torch", 3.0), row("openvino", 2.0), row("openvino", 1.0, 8), row("ldm", 100.0)]
    assert peers.add_ratios(rows) == "openvino"
    assert [one["ratio"] for one in rows] == [2, 1.5, 1, 0.5, 50]
    assert [one["ratio_released"] for one in rows] == [1, 0.75, 0.5, 0.25, 25]
    told = {"model": "x", "threads": 1, "ours": "openvino", "largest_difference": 0, "timed_steps": 4, "rows": rows}
    told |= {"device": "cpu", "dtype": "fp32"}
    text = peers.report(told)
    assert "| ldm | 32 | 1 | 1 | 100 (reckoned) | 50 | 25 |" in text
    assert "4 steps were timed and multiplied" in text and "OpenVINO" in text
    assert "The paper: 0.04 s an image (RTX 3090); here 2 s." in text
    assert "The paper: 120 times faster than the LDM; here the form as released 25 (1 steps)." in text
    alone = [row("ldm", 100.0)]
    assert peers.add_ratios(alone) is None and alone[0]["ratio"] is None


@pytest.mark.engines
def test_openvino_draws_what_torch_does(monkeypatch: pytest.MonkeyPatch) -> None:
    models = script("peer_models", monkeypatch)
    peer = models.PEERS["sdxs"]
    images = []
    for one in (peer, replace(peer, openvino=False)):
        pipe = models.build(one, quick=True)
        images.append(np.asarray(one.draw(pipe, "a red heart", 1, torch.Generator().manual_seed(0))).astype(int))
    assert images[0].shape == (64, 64, 3) and np.ptp(images[0]) > 0
    assert np.abs(images[0] - images[1]).max() <= 1
    found = script("peers", monkeypatch).measure_peer("sdxs", repeats=1, timed_steps=4, quick=True)
    assert found["pixels"] == 64 and not found["pictures"]["1"]["reckoned"]


def test_the_released_form_does_the_work_that_it_is_there_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without these, the comparison would flatter ours."""
    import tiny

    form = script("released_form", monkeypatch).ReleasedForm(tiny.pipeline())
    pipe, lengths = form.pipeline, []
    assert not any(block.folded for block in pipe.generator.image_generator.blocks)
    encode = pipe.text_encoder.forward

    def noted(*args: Any, **options: Any) -> Any:
        lengths.append(options["input_ids"].shape[1])
        return encode(*args, **options)

    monkeypatch.setattr(pipe.text_encoder, "forward", noted)
    theirs = form(["a red heart", "a cat"], [0, 1])
    assert lengths == [pipe.text_encoder.config.max_position_embeddings]
    ours = tiny.pipeline()(["a red heart", "a cat"], seed=[0, 1]).images
    for a, b in zip(theirs, ours, strict=True):
        pairs = zip(a.tobytes(), b.tobytes(), strict=True)
        assert max(abs(x - y) for x, y in pairs) <= 1


@pytest.mark.slow
def test_the_script_runs(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    options = ["--quick", "--threads", "1", "--seconds", "0", "--repeats", "1", "--timed-steps", "2"]
    options += ["--forms", "released", "onnxruntime", "--batches", "2", "--peers", "lcm"]
    command = [sys.executable, str(BENCHMARKS / "peers.py"), *options, "--out", str(out)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert ended.returncode == 0, ended.stderr
    result = json.loads(out.read_text())
    shown = [(one["name"], one["batch"], one["steps"]) for one in result["rows"]]
    assert shown == [
        ("released", 1, 1),
        ("released", 2, 1),
        ("onnxruntime", 1, 1),
        ("onnxruntime", 2, 1),
        ("lcm", 1, 4),
    ]
    assert result["ours"] == "onnxruntime" and result["largest_difference"] <= 1
    assert result["rows"][2]["ratio"] == 1 and result["rows"][-1]["reckoned"]
    # Without torch an engine needs a fraction of the memory.
    assert result["rows"][2]["peak_bytes"] < result["rows"][0]["peak_bytes"] / 2
