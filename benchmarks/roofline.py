"""How near to the machine's limits a picture is drawn: operations and bytes of each part, and the share reached.

    python benchmarks/roofline.py                        # released-b32-224, batch 1, 2 threads
    python benchmarks/roofline.py --model mini-64 --batch 8

Operations are those of matrix products and convolutions (two for a multiply-add); what is done to each number alone is
not counted. The machine's limits are measured first: the rate of a large fp32 matrix product, and the bytes a second of
copying an array that no cache holds.

| column | what it says |
| --- | --- |
| GFLOP | counted while the part runs |
| MB least | weights, what goes in and what comes out, each once: no order of computation needs less |
| MB op by op | what every operator of torch reads and writes, as if no cache held anything |
| least ms | the larger of GFLOP at the peak and MB least at the bandwidth |
| share | least ms by measured ms; above 1 where weights stay in a cache from one picture to the next |

Parts run in torch, one after the other as in a picture. Below them stand whole generators, also by the engines, whose
time is compared with what the folded form's operations take at the peak. They take turns in rounds, each form in a
process of its own, and the peak is measured anew in each round right before them: a machine that others use too is
faster in one minute than in the next. The ratio is the median over the rounds. Weights are random.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, SIZES, captions, median, random_networks, table, write_result
from roofline_parts import Part, State, count, generator_parts
from torch import Tensor

from galip.generation.engines import load_network
from galip.generation.load import load
from galip.generation.onnx_backend import CHUNKS
from galip.generation.select import WITHOUT_TORCH
from galip.model_repo.export_folder import GENERATOR
from galip.torch_backend.pipeline import GALIPPipeline
from galip.training.networks import Networks
from galip.utils.extras import is_installed
from galip.utils.provenance import machine

TOLERANCE = 1e-4
"""Largest difference between the parts' picture and the generator's, and between engines, of a range of 2."""
WARM_UP = 3


# ---- the machine's limits


def matrix_rate(side: int = 2048, seconds: float = 2.0) -> float:
    """Operations a second of the fastest fp32 product of square matrices: of `side`, its half and its quarter."""
    rates = []
    for n in {max(side // 4, 1), max(side // 2, 1), side}:
        a, b, out = torch.randn(n, n), torch.randn(n, n), torch.empty(n, n)
        rates.append(2 * n**3 / _fastest(lambda p=(a, b, out): torch.mm(p[0], p[1], out=p[2]), seconds))  # type: ignore[misc]
    return max(rates)


def bandwidth(size: int = 1 << 28, seconds: float = 3.0) -> float:
    """Bytes a second, read and written, of the fastest copy of an array of `size` bytes in that time."""
    source = torch.ones(size // 4)
    target = torch.empty_like(source)
    return 2 * size / _fastest(lambda: target.copy_(source), seconds)


def _fastest(job: Callable[[], Any], seconds: float) -> float:
    job()
    fastest, spent, runs = math.inf, 0.0, 0
    while runs < 3 or spent < seconds:
        taken = _timed(job)
        fastest, spent, runs = min(fastest, taken), spent + taken, runs + 1
    return fastest


def _timed(job: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    job()
    return time.perf_counter() - begun


# ---- the measurement


def measure_parts(parts: Sequence[Part], state: State, repeats: int) -> list[dict[str, Any]]:
    """What `count` finds, and `seconds`: the median over pictures whose parts are run in order.

    Args:
        parts: all, in their order.
        state: `captions` and `z` [B, z_dim]; it gains what the parts compute.
        repeats: pictures to time.
    """
    rows = count(parts, state)
    times: list[list[float]] = [[] for _ in parts]
    for number in range(WARM_UP + repeats):
        for part, seconds in zip(parts, times, strict=True):
            taken = _timed(lambda p=part: p.run(state))  # type: ignore[misc]
            if number >= WARM_UP:
                seconds.append(taken)
    return [row | {"seconds": median(seconds)} for row, seconds in zip(rows, times, strict=True)]


def add_limits(rows: Sequence[dict[str, Any]], peak: float, rate: float) -> None:
    """Give every row `least_seconds` and `share`, its part of the measured seconds.

    Args:
        rows: with `flops`, `least_bytes` and `seconds`.
        peak: operations a second.
        rate: bytes a second.
    """
    for row in rows:
        row["least_seconds"] = max(row["flops"] / peak, row["least_bytes"] / rate)
        row["share"] = row["least_seconds"] / row["seconds"]


def total(name: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The sum of parts."""
    keys = ("flops", "least_bytes", "op_bytes", "seconds")
    return {"name": name} | {key: sum(row[key] for row in rows) for key in keys}


def whole_generators(networks: Networks, feeds: dict[str, Any], expected: Tensor, flops: float, given: Any) -> Any:
    """Each form of the generator, by torch and by the installed engines, beside what `flops` take at the peak.

    Returns:
        By name: `seconds`, the median over all rounds, and `times_folded_flops`, the median of the rounds' ratios; and
        under "peaks" the operations a second of each round.

    Raises:
        SystemExit: a form draws another picture.
    """
    pipe = GALIPPipeline(networks.tokenizer, networks.text_encoder, networks.vision.model, networks.generator)
    forms = ["torch, plain", "torch, folded", *filter(is_installed, WITHOUT_TORCH)]
    times: dict[str, list[float]] = {form: [] for form in forms}
    ratios: dict[str, list[float]] = {form: [] for form in forms}
    peaks = []
    with tempfile.TemporaryDirectory() as place:
        pipe.save_pretrained(Path(place) / "model")
        np.savez(Path(place) / "feeds.npz", expected=expected.numpy(), **feeds)
        for _ in range(given.rounds):
            for form in forms:
                order = {"form": form, "place": place, "repeats": given.repeats, "threads": given.threads}
                found = _in_process(order | {"side": given.side, "peak_seconds": given.peak_seconds})
                peaks.append(found["peak"])
                times[form].append(found["seconds"])
                ratios[form].append(found["seconds"] * found["peak"] / flops)
                print(f"{form}: {1000 * found['seconds']:.1f} ms, {found['peak'] / 1e9:.1f} GFLOP/s", file=sys.stderr)
    wholes = {
        form: {"seconds": median(times[form]), "times_folded_flops": median(ratios[form])} | {"rounds": ratios[form]}
        for form in forms
    }
    return wholes, peaks


def _in_process(order: dict[str, Any]) -> dict[str, float]:
    command = [sys.executable, __file__, "--worker", json.dumps(order)]
    return dict(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))


@torch.no_grad()
def work(order: dict[str, Any]) -> dict[str, float]:
    """What a process of its own does: the peak by torch before and after, in between one form of the generator."""
    torch.set_num_threads(order["threads"])
    place = Path(order["place"])
    with np.load(place / "feeds.npz") as stored:
        feeds, expected = {"z": stored["z"], "e": stored["e"]}, torch.from_numpy(stored["expected"])
    run = _prepared(order["form"], place, feeds, order["threads"])
    check_same(order["form"], run(), expected)
    for _ in range(WARM_UP):
        run()
    peaks = [matrix_rate(order["side"], order["peak_seconds"])]
    time.sleep(0.5)  # torch's threads go to sleep before another engine's begin
    seconds = median([_timed(run) for _ in range(order["repeats"])])
    time.sleep(0.5)
    peaks.append(matrix_rate(order["side"], order["peak_seconds"]))
    return {"seconds": seconds, "peak": max(peaks)}


def _prepared(form: str, place: Path, feeds: dict[str, Any], threads: int) -> Callable[[], Tensor]:
    if form in WITHOUT_TORCH:
        network = load_network(form, place / "model" / f"{GENERATOR}.onnx", threads, CHUNKS)
        return lambda: torch.from_numpy(network(feeds))
    pipe = load(place / "model", device="cpu", engine="torch")
    generator = pipe.generator.requires_grad_(False).eval()
    z, e = torch.from_numpy(feeds["z"]), torch.from_numpy(feeds["e"][:, 0].copy())
    generator.fold(form == "torch, folded")
    return lambda: generator(z, e, pipe.vision)


def check_same(name: str, picture: Tensor, expected: Tensor) -> None:
    """Make sure that two pictures are the same.

    Raises:
        SystemExit: they are not, so that their times say nothing of each other.
    """
    difference = (picture - expected).abs().max().item()
    if not difference <= TOLERANCE:
        raise SystemExit(f"{name} draws another picture: it differs by {difference:.1e}")


@torch.no_grad()
def measure(size: str, batch: int, given: Any) -> dict[str, Any]:
    """Everything that the report shows."""
    networks = random_networks(size)
    networks.generator.requires_grad_(False).eval()
    z = torch.randn(batch, networks.generator.z_dim, generator=torch.Generator().manual_seed(0))
    state: State = {"captions": captions(batch), "z": z}
    peak, rate = matrix_rate(given.side), bandwidth(given.bytes)
    print(f"{peak / 1e9:.1f} GFLOP/s, {rate / 1e9:.1f} GB/s", file=sys.stderr)

    result: dict[str, Any] = {"peak_flops": peak, "bandwidth": rate, "parts": {}}
    for form in ("plain", "folded"):
        networks.generator.fold(form == "folded")
        own = dict(state)
        rows = measure_parts(generator_parts(networks, whole_context=form == "plain"), own, given.repeats)
        if form == "plain":
            state["e"] = own["e"]
            expected = networks.generator(z, own["e"], networks.vision)
        check_same(form, own["picture"], expected)
        rows.append(total("generator", rows[1:]))
        add_limits(rows, peak, rate)
        result["parts"][form] = rows
    stages = networks.generator.num_stages
    feeds = {"z": z.numpy(), "e": state["e"][:, None].expand(-1, stages, -1).numpy()}
    flops = result["parts"]["folded"][-1]["flops"]
    result["generator"], result["peaks"] = whole_generators(networks, feeds, expected, flops, given)
    return result


# ---- the report


def report(result: dict[str, Any]) -> str:
    """Parts, then whole generators, as markdown."""
    texts = [
        f"{result['model']}, batch {result['batch']}, fp32, {result['threads']} threads: "
        f"{result['peak_flops'] / 1e9:.1f} GFLOP/s in a matrix product, {result['bandwidth'] / 1e9:.1f} GB/s in a copy"
    ]
    head = ["GFLOP", "MB least", "MB op by op", "ms", "least ms", "GFLOP/s", "share"]
    for form, rows in result["parts"].items():
        lines = [
            [
                row["name"],
                row["flops"] / 1e9,
                row["least_bytes"] / 1e6,
                row["op_bytes"] / 1e6,
                1000 * row["seconds"],
                1000 * row["least_seconds"],
                row["flops"] / row["seconds"] / 1e9,
                row["share"],
            ]
            for row in rows
        ]
        texts.append(table([f"{form}, in torch", *head], lines))
    wholes = [[name, 1000 * row["seconds"], row["times_folded_flops"]] for name, row in result["generator"].items()]
    texts.append(table(["generator", "ms", "times the folded operations at the peak"], wholes))
    return "\n\n".join(texts)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="released-b32-224", choices=SIZES)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peak-seconds", type=float, default=1.0, help="for each measurement of the peak in a round")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--side", type=int, default=2048, help="of the matrices whose product gives the peak")
    parser.add_argument("--bytes", type=int, default=1 << 28, help="of the array that is copied")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/roofline-MODEL-bBATCH.json")
    given = parser.parse_args()
    if given.worker is not None:
        print(json.dumps(work(json.loads(given.worker))))
        return
    if min(given.batch, given.repeats, given.rounds, given.threads, given.side) < 1 or given.bytes < 4:
        parser.error("numbers must be at least 1, --bytes 4")
    torch.set_num_threads(given.threads)
    result: dict[str, Any] = {"model": given.model, "batch": given.batch, "threads": given.threads}
    result |= {"machine": machine()} | measure(given.model, given.batch, given)
    print(report(result))
    write_result(given.out or RESULTS / f"roofline-{given.model}-b{given.batch}.json", result)


if __name__ == "__main__":
    main()
