"""Several processes on this machine: what is communicated in a step, and what that costs.

    python benchmarks/scaling.py [--presets tiny mini-64] [--processes 1 2 4] [--batch 8] [--steps 10]

Every process has one thread and the same number of pictures, and they talk over gloo. Each number of processes is
measured twice in one run: they step side by side without a word to each other, then together. The first against a
single process tells how far processes get in each other's way on this machine (more processes than cores must share
them); the second against the first tells what communication costs. Besides, the same bytes are all-reduced with nothing
else going on. "Gathering and means" is the time in the calls that exchange rows, most of it waiting for the slowest
process.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from common import RESULTS, SIZES, Stopwatch, median, our_step, random_batch, random_networks, table, write_result
from torch import Tensor

from galip.distributed import Distributed
from galip.training.networks import Networks
from galip.training.text_vectors import CaptionVectors
from galip.utils.provenance import machine

WARM_UP = 2
"""DistributedDataParallel rebuilds its buckets after the first step."""
BUCKET = 25 * 2**20
"""Bytes that DistributedDataParallel sends at once."""


class Alone(Distributed):
    """One of several processes, that steps as if it were the only one."""

    def __init__(self, device: str = "cpu") -> None:
        super().__init__(device)
        self.rank, self.world = 0, 1


class Talking(Distributed):
    """What a process tells the others besides gradients: its bytes are counted."""

    def __init__(self, device: str = "cpu") -> None:
        super().__init__(device)
        self.told: dict[str, int] = {"gathered rows": 0, "row of means": 0}

    def gather_rows(self, local: Tensor) -> Tensor:
        self.told["gathered rows"] += local.nbytes
        return super().gather_rows(local)

    def mean(self, values: Tensor) -> Tensor:
        self.told["row of means"] += values.nbytes
        return super().mean(values)


# ---- in each process


def work(size: str, batch: int, steps: int) -> dict[str, Any]:
    """Measure in this process, one of those that torchrun has started; all of them get the same answer."""
    talking = Talking()
    networks = random_networks(size)
    alone = _steps(copy.deepcopy(networks), batch, steps, Alone(), talking)
    watch = Stopwatch()
    watch.watch(talking, "gather_rows", "gathering")
    watch.watch(talking, "mean", "means")
    together = _steps(networks, batch, steps, talking, talking)
    count = WARM_UP + steps
    payload = {f"gradients of the {name}": _gradient_bytes(networks, name) for name in ("generator", "discriminator")}
    payload |= {name: told // count for name, told in talking.told.items()}
    gathering = watch.seconds["gathering"]  # twice in a step: caption numbers, then sentence vectors
    in_step = [numbers + vectors for numbers, vectors in zip(gathering[::2], gathering[1::2], strict=True)]
    waited = median(in_step[WARM_UP:]) + median(watch.seconds["means"][WARM_UP:])
    row = [alone, together, waited, _all_reduce_seconds(payload) if talking.world > 1 else 0.0]
    means = talking.mean(torch.tensor(row)).tolist() if talking.world > 1 else row
    names = ("alone", "together", "gathering_and_means", "pure_all_reduce")
    return {"payload_bytes": payload if talking.world > 1 else {}, "seconds": dict(zip(names, means, strict=True))}


def _steps(networks: Networks, batch: int, steps: int, how: Distributed, all_of_them: Distributed) -> float:
    """Median seconds of a step; all processes begin each step at the same time."""
    step, seconds = our_step(networks, batch * how.world, how), []
    batches = [random_batch(networks, batch, n, all_of_them.rank, all_of_them.world) for n in range(WARM_UP + steps)]
    # All batches' captions are known to every process, as in a run with a table.
    sentences = CaptionVectors(networks, sorted({text for one in batches for text in one.captions}), Alone())
    for one in batches:
        all_of_them.wait()
        begun = time.perf_counter()
        step(one, sentences(one.captions))
        seconds.append(time.perf_counter() - begun)
    return median(seconds[WARM_UP:])


def _gradient_bytes(networks: Networks, name: str) -> int:
    return sum(p.nbytes for p in getattr(networks, name).parameters() if p.requires_grad)


def _all_reduce_seconds(payload: dict[str, int]) -> float:
    """Median seconds of reducing the gradients' bytes over all processes in buckets, while nothing else is going on."""
    buckets = []
    for name, size in payload.items():
        if name.startswith("gradients"):
            buckets += [torch.ones(min(BUCKET, size - start) // 4) for start in range(0, size, BUCKET)]
    seconds = []
    for _ in range(7):
        dist.barrier()
        begun = time.perf_counter()
        for bucket in buckets:
            dist.all_reduce(bucket)
        seconds.append(time.perf_counter() - begun)
    return median(seconds[2:])


# ---- what starts them


def launch(size: str, processes: int, batch: int, steps: int) -> dict[str, Any]:
    """`work` in so many processes of one thread each."""
    print(f"measuring {size} with {processes} processes ...", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
        options = [__file__, "--presets", size, "--batch", str(batch), "--steps", str(steps), "--work", str(answer)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        subprocess.run([sys.executable, *launcher, *options], env=environment, check=True)
        found: dict[str, Any] = json.loads(answer.read_text())
    return {"preset": size, "processes": processes, "batch": batch, **found}


def report(rows: list[dict[str, Any]]) -> str:
    """All measurements as markdown."""
    single = {row["preset"]: row["seconds"]["alone"] for row in rows if row["processes"] == 1}
    head = ["preset", "processes", "s a step, side by side", "s a step, together", "communication", "images/s in all"]
    head += ["MiB told a step", "pure all-reduce, s", "gathering and means, s"]
    if single:
        head.insert(5, "against one process")
    lines = []
    for row in rows:
        seconds, size = row["seconds"], row["preset"]
        # A single process says nothing to anyone: its two measurements differ by chance.
        if row["processes"] == 1:
            lines.append([size, 1, seconds["alone"], *[None] * (3 if single else 2), row["batch"] / seconds["alone"]])
            lines[-1] += [None] * (len(head) - len(lines[-1]))
            continue
        together = seconds["together"]
        line = [size, row["processes"], seconds["alone"], together, _percent(together, seconds["alone"])]
        line += [_percent(together, single[size])] if single else []
        line += [row["processes"] * row["batch"] / together, sum(row["payload_bytes"].values()) / 2**20]
        lines.append([*line, seconds["pure_all_reduce"], seconds["gathering_and_means"]])
    return table(head, lines)


def payload_report(rows: list[dict[str, Any]]) -> str:
    """What a process tells the others in a step, by size of the model, as markdown."""
    told: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["payload_bytes"]:
            told.setdefault(row["preset"], row)
    lines = [[size, row["batch"], *row["payload_bytes"].values()] for size, row in told.items()]
    names = next(iter(told.values()))["payload_bytes"]
    return table(["preset", "local batch", *(f"{name}, bytes" for name in names)], lines)


def _percent(value: float, reference: float) -> str:
    return f"{100 * (value / reference - 1):+.1f} %"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", choices=SIZES, default=["tiny", "mini-64"])
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--batch", type=int, default=8, help="pictures of each process in a step")
    parser.add_argument("--steps", type=int, default=10, help="timed steps, after two to warm up")
    parser.add_argument("--out", type=Path, default=RESULTS / "scaling.json")
    parser.add_argument("--work", type=Path, metavar="FILE", help="measure in this process, and write the answer there")
    given = parser.parse_args()
    if given.batch < 2 or given.steps < 1 or min(given.processes) < 1:
        parser.error("--batch must be at least 2, --steps and --processes at least 1")
    if given.work:
        torch.set_num_threads(1)
        answer = work(given.presets[0], given.batch, given.steps)
        if Distributed("cpu").is_main:
            given.work.write_text(json.dumps(answer))
        return
    result: dict[str, Any] = {"batch": given.batch, "steps": given.steps, "machine": machine()}
    rows = [launch(size, count, given.batch, given.steps) for size in given.presets for count in given.processes]
    print(f"{given.batch} pictures a process, one thread each, gloo, {os.cpu_count()} cores\n\n{report(rows)}")
    if max(given.processes) > 1:
        print(f"\nWhat each process tells the others in a step:\n\n{payload_report(rows)}")
    write_result(given.out, result | {"rows": rows})


if __name__ == "__main__":
    main()
