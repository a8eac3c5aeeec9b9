"""All that is to be known on a GPU, in under eight minutes, as one JSON.

    python benchmarks/gpu.py                                # on a GPU: everything
    python benchmarks/gpu.py --quick --out /tmp/q.json      # on a CPU, tiny shapes: does it run?

Stages, each in a process of its own with a time limit, so that one that fails or hangs costs the others nothing; the
file is written anew after each of them. What a stage had measured when its time was up is kept.

1. tests: those marked `gpu`.
2. inference: the presets and the bundled model, eager, compiled and as a CUDA graph, in fp32, bf16 and fp16, at batches
   of 1, 8 and 64: milliseconds, images a second, share of the peak of a matrix product measured in the same type.
3. train: our step and the released one in bf16 at one batch: milliseconds, images a second, peak memory; CUDA graphs on
   and off.
4. loader: whether JPEGs come as fast as our step takes them.
5. peers: diffusion models and others beside GALIP (`peers.py`), where that script takes --device.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from common import RESULTS, table, write_result

from galip.utils.atomic import write_json
from galip.utils.provenance import machine

HERE = Path(__file__).parent
MEASURED = "MEASURED"
"""In a command: images a second of our step, as the training stage has found it."""

LIMIT = 470
"""Seconds for all stages together."""


@dataclass(frozen=True)
class Stage:
    """A part of the measurement.

    Attributes:
        name: of its key in the result.
        command: what is run; its last line of output, or every line that is a JSON object, is what was found.
        seconds: after which it is ended.
    """

    name: str
    command: Sequence[str]
    seconds: float


def stages(quick: bool, out: Path) -> list[Stage]:
    """The stages in their order; `quick`: tiny shapes on the CPU, without tests and peers."""
    python, measure = sys.executable, [sys.executable, str(HERE / "gpu_parts.py")]
    if quick:
        inference, train = ["--model", "tiny", "--batches", "1", "2"], ["--model", "tiny", "--batches", "4"]
        loading = ["--pictures", "16", "--batch", "4", "--workers", "1", "--step-rate", "1000"]
        shared = ["--device", "cpu", "--runs", "2"]
        tests: list[Stage] = []
    else:
        inference = ["--model", "released-b32-224", "emoji-64", "--batches", "1", "8", "64"]
        train, shared = ["--model", "released-b32-224", "--batches", "64"], ["--device", "cuda"]
        loading = ["--pictures", "2000", "--batch", "64", "--workers", "8", "15", "--step-rate", MEASURED]
        tests = [Stage("tests", [python, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests"], 100)]
    loader = [python, str(HERE / "loader.py"), *loading, "--out", str(out.with_name(f"{out.stem}-loader.json"))]
    found = [
        Stage("inference", [*measure, "inference", *inference, *shared], 150),
        Stage("train", [*measure, "train", *train, *shared], 100),
        *tests,
        Stage("loader", loader, 60),
    ]
    if not quick and "--device" in (HERE / "peers.py").read_text():
        peers = [python, str(HERE / "peers.py"), "--device", "cuda", "--peers"]
        found.append(Stage("peers", [*peers, "--out", str(out.with_name(f"{out.stem}-peers.json"))], 120))
    return found


def run(stage: Stage, limit: float) -> dict[str, Any]:
    """What a stage has found, how it ended, and the end of what it said."""
    begun = time.monotonic()
    process = subprocess.Popen(
        stage.command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=HERE.parent
    )
    try:
        said, _ = process.communicate(timeout=max(1.0, min(stage.seconds, limit)))
        ended: int | str = process.returncode
    except subprocess.TimeoutExpired:
        process.kill()
        said, _ = process.communicate()
        ended = "time was up"
    rows, words = [], []
    for line in said.splitlines():
        rows.append(json.loads(line)) if line.startswith('{"') else words.append(line)
    seconds = round(time.monotonic() - begun, 1)
    return {"ended": ended, "seconds": seconds, "rows": rows, "said": "\n".join(words[-25:])}


def step_rate(found: dict[str, Any], default: float = 500.0) -> float:
    """Images a second that our fastest step takes, as measured; a guess where it was not."""
    rates = [row["images_per_second"] for row in found.get("train", {}).get("rows", []) if row.get("step") == "ours"]
    return max(rates, default=default)


def report(result: dict[str, Any]) -> str:
    """The rows of all stages as markdown tables."""
    parts = []
    for name, found in result["stages"].items():
        heads = list(dict.fromkeys(key for row in found["rows"] for key in row))
        rows = [[row.get(head) for head in heads] for row in found["rows"]]
        ended = "" if found["ended"] == 0 else f" (ended: {found['ended']})"
        parts.append(f"{name}, {found['seconds']} s{ended}\n\n{table(heads, rows) if rows else found['said']}")
    return "\n\n".join(parts)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny shapes on the CPU, to see whether it runs")
    parser.add_argument("--only", nargs="+", help="these stages")
    parser.add_argument("--out", type=Path, default=RESULTS / "gpu.json")
    given = parser.parse_args()
    if not given.quick and not torch.cuda.is_available():
        raise SystemExit("torch finds no CUDA GPU here; --quick tries the script out on the CPU")
    patience = 6 if given.quick else 1  # a busy CPU may take its time
    end = time.monotonic() + LIMIT * patience
    name = "none" if given.quick else torch.cuda.get_device_name()
    result: dict[str, Any] = {"gpu": name, "quick": given.quick, "machine": machine(), "stages": {}}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    for stage in stages(given.quick, given.out.resolve()):
        if given.only and stage.name not in given.only:
            continue
        rate = str(step_rate(result["stages"]))
        command = [rate if word == MEASURED else word for word in stage.command]
        stage = replace(stage, command=command, seconds=stage.seconds * patience)
        print(f"{stage.name}: at most {stage.seconds:.0f} s ...", file=sys.stderr, flush=True)
        result["stages"][stage.name] = run(stage, end - time.monotonic())
        write_json(given.out, result)
    print(report(result))
    write_result(given.out, result)
    raise SystemExit(any(found["ended"] != 0 for found in result["stages"].values()))


if __name__ == "__main__":
    main()
