"""One training step, ours beside the released one: same weights, same batches, in turns, in one process.

    python benchmarks/train_step.py                      # released-b32-224, batch 4, 5 steps, 2 threads
    python benchmarks/train_step.py --sweep              # and our step at other batches, resolutions, backbones
    python benchmarks/train_step.py --precision bf16     # both in bf16 by autocast, for a CPU that has it

First every loss term of one step is compared: the measurement ends there if any differs by more than 1e-5. That step is
taken at a hundredth of the learning rates: Adam's first step moves each weight by the whole rate whatever the size of
its gradient, so where that is next to nothing, rounding decides the direction, and G's loss, which sees D after its
step, shows it. Peak memory is that of two fresh processes, one for each step. Our step takes sentence vectors from the
run's table, which is computed before training; what that costs, and what the step costs without it, stands beside the
result.
"""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from common import (
    RESULTS,
    SIZES,
    Stopwatch,
    captions,
    median,
    random_batch,
    random_networks,
    run_config,
    table,
    write_result,
)
from released_step import ReleasedStep
from torch import Tensor

from galip.data.samples import Batch
from galip.distributed import Distributed
from galip.training.losses import DiscriminatorTerms, FakeImages, GeneratorTerms, Views
from galip.training.memory import keep_freed_memory
from galip.training.networks import Networks
from galip.training.rng import sample_noise
from galip.training.step import GANStep
from galip.training.step_base import MicroBatch, prepare_models
from galip.training.text_vectors import CaptionVectors
from galip.utils.memory import peak_bytes
from galip.utils.provenance import machine

TOLERANCE = {"fp32": 1e-5, "bf16": 0.05}
CHECKED_AT = 0.01
"""Share of the learning rates at which loss terms are compared."""
WARM_UP = 1
ROUNDS = 2
"""Processes of each kind, in turns."""
ENCODED = 64
"""Captions by whose encoding the table's cost is measured."""
SWEEP = (
    *(("released-b32-224", batch) for batch in (2, 4, 8)),
    *(("mini-64", batch) for batch in (4, 16)),
    *((size, 4) for size in ("b32-224", "b16-224", "l14-256")),
)
PARTS = (
    "captions",
    "G generates",
    "CLIP-ViT on fakes",
    "CLIP-ViT on real images",
    "D forward and penalty",
    "D backward",
    "D's optimiser",
    "G's loss and backward",
    "G's optimiser",
)
Step = Callable[[int], dict[str, float]]


class TimedStep(GANStep):
    """The trainer's step with a stopwatch on each of its parts."""

    def __init__(self, networks: Networks, batch: int, distributed: Distributed, precision: str) -> None:
        super().__init__(networks, run_config(batch, precision=precision), distributed)
        self.watch = Stopwatch()

    def g_forward(self, micro: MicroBatch, more_to_come: bool = False) -> FakeImages:
        with self.watch.timing("G generates, and CLIP-ViT on fakes"):
            return super().g_forward(micro, more_to_come)

    def clip_features(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        with self.watch.timing("CLIP-ViT on fakes"):
            return super().clip_features(images)

    def real_views(self, micro: MicroBatch) -> Views:
        with self.watch.timing("CLIP-ViT on real images"):
            return super().real_views(micro)

    def d_loss(self, micro: MicroBatch, real: Views, fake: Views) -> DiscriminatorTerms:
        with self.watch.timing("D forward and penalty"):
            return super().d_loss(micro, real, fake)

    def g_backward(
        self, micro: MicroBatch, fake: FakeImages, parts: int = 1, more_to_come: bool = False
    ) -> GeneratorTerms:
        with self.watch.timing("G's loss and backward"):
            return super().g_backward(micro, fake, parts, more_to_come)

    def backward(self, name: str, loss: Tensor) -> None:
        with self.watch.timing("D backward") if name == "discriminator" else nullcontext():
            super().backward(name, loss)

    def optimizer_step(self, name: str) -> None:
        with self.watch.timing({"discriminator": "D's optimiser", "generator": "G's optimiser"}[name]):
            super().optimizer_step(name)


class Ours:
    """The trainer's step; `watch` knows its parts."""

    def __init__(
        self, networks: Networks, batch: int, steps: int, distributed: Distributed, precision: str = "fp32"
    ) -> None:
        self.networks, self.batch = networks, batch
        prepare_models(networks, distributed.device)
        self.step = TimedStep(networks, batch, distributed, precision)
        self.watch = self.step.watch
        seen = [caption for number in range(steps) for caption in random_batch(networks, batch, number).captions]
        self.vectors = CaptionVectors(networks, sorted(seen), distributed)

    def __call__(self, batch: Batch, lr_multiplier: float = 1.0) -> dict[str, float]:
        with self.watch.timing("captions"):
            text = self.vectors(batch.captions)
        return self.step(batch, text, lr_multiplier).numbers()


class Released:
    """The released step; `watch` knows its parts."""

    def __init__(
        self, networks: Networks, batch: int, steps: int, distributed: Distributed, precision: str = "fp32"
    ) -> None:
        self.networks, config, self.precision = networks, run_config(batch), precision
        self.seed = config.seed
        step = ReleasedStep(networks, config.loss, config.optimizer)
        self.rates = {name: optimizer.param_groups[0]["lr"] for name, optimizer in step.optimizers.items()}
        self.watch = Stopwatch()
        self.watch.watch(step, "encode", "captions")
        self.watch.watch(step, "draw", "G generates")
        self.watch.watch(step, "look", "CLIP-ViT on real images", "CLIP-ViT on fakes")
        self.watch.watch(step, "discriminator_terms", "D forward and penalty")
        self.watch.watch(step, "generator_terms", "G's loss")
        self.watch.watch(step, "backward", "D backward", "G's backward")
        for name, label in (("discriminator", "D's optimiser"), ("generator", "G's optimiser")):
            self.watch.watch(step.optimizers[name], "step", label)
        self.step = step

    def __call__(self, batch: Batch, factor: float = 1.0) -> dict[str, float]:
        for name, optimizer in self.step.optimizers.items():
            optimizer.param_groups[0]["lr"] = self.rates[name] * factor
        z = sample_noise(self.seed, batch.indices, self.networks.generator.z_dim)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            return self.step(batch.images, batch.captions, z)


KINDS: dict[str, Any] = {"released": Released, "ours": Ours}


# ---- one kind in a process of its own


def measure_one(kind: str, size: str, batch: int, steps: int, precision: str = "fp32") -> dict[str, Any]:
    """Seconds of each step after the warm-up, and the most memory that this process has held."""
    if kind == "ours":
        keep_freed_memory()  # as the trainer does
    networks = random_networks(size)
    step = KINDS[kind](networks, batch, WARM_UP + steps, Distributed("cpu"), precision)
    seconds = [_timed(step, random_batch(networks, batch, number)) for number in range(WARM_UP + steps)]
    return {"seconds": seconds[WARM_UP:], "peak_bytes": peak_bytes()}


def in_fresh_process(
    kind: str, size: str, batch: int, steps: int, threads: int, precision: str = "fp32"
) -> dict[str, Any]:
    """`measure_one` where nothing else has used memory before."""
    options = {"--only": kind, "--preset": size, "--batch": batch, "--steps": steps, "--threads": threads}
    options["--precision"] = precision
    command = [sys.executable, __file__, *(str(word) for option in options.items() for word in option)]
    print(f"measuring {kind}, {size}, batch {batch}, on its own ...", file=sys.stderr)
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    answer: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return answer


def alone(size: str, batch: int, steps: int, threads: int, precision: str = "fp32") -> dict[str, Any]:
    """Each kind in processes of its own, in turns, as a user runs them: the allocator is set up by ours only."""
    rounds: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    for _ in range(ROUNDS):
        for kind, found in rounds.items():
            found.append(in_fresh_process(kind, size, batch, steps, threads, precision))
    seconds = {kind: median([s for found in each for s in found["seconds"]]) for kind, each in rounds.items()}
    return {
        "peak_bytes": {kind: max(found["peak_bytes"] for found in each) for kind, each in rounds.items()},
        "seconds_alone": seconds,
        "ratio_alone": seconds["released"] / seconds["ours"],
    }


def _timed(step: Any, batch: Batch) -> float:
    begun = time.perf_counter()
    step(batch)
    return time.perf_counter() - begun


# ---- both in one process, in turns


def compare(size: str, batch: int, steps: int, precision: str = "fp32") -> dict[str, Any]:
    """Loss terms of the first step, then seconds of `steps` more of each kind, in turns."""
    distributed = Distributed("cpu")
    networks = random_networks(size)
    both = {
        kind: make(copy.deepcopy(networks), batch, WARM_UP + steps, distributed, precision)
        for kind, make in reversed(KINDS.items())
    }
    terms = {kind: step(random_batch(networks, batch, 0), CHECKED_AT) for kind, step in both.items()}
    difference = check_terms(terms["released"], terms["ours"], TOLERANCE[precision])
    seconds: dict[str, list[float]] = {kind: [] for kind in both}
    for number in range(WARM_UP, WARM_UP + steps):
        next_batch = random_batch(networks, batch, number)
        for kind, step in both.items():
            seconds[kind].append(_timed(step, next_batch))
        print(", ".join(f"{kind} {times[-1]:.2f} s" for kind, times in seconds.items()), file=sys.stderr)
    medians = {kind: median(times) for kind, times in seconds.items()}
    return {
        "terms": terms,
        "largest_difference": difference,
        "seconds": medians,
        "all_seconds": seconds,
        "ratio": medians["released"] / medians["ours"],
        "parts": {kind: parts_of(step.watch, medians[kind]) for kind, step in both.items()},
        "text": text_costs(networks, batch, distributed),
    }


def check_terms(released: dict[str, float], ours: dict[str, float], tolerance: float = TOLERANCE["fp32"]) -> float:
    """The largest difference of a loss term, relative where the term is above 1.

    Raises:
        SystemExit: it is above the tolerance, so that the two steps do not do the same thing.
    """
    differences = {name: abs(value - ours[name]) / max(1.0, abs(value)) for name, value in released.items()}
    name = max(differences, key=lambda term: differences[term])
    if not differences[name] <= tolerance:
        raise SystemExit(f"{name}: released {released[name]!r}, ours {ours[name]!r}; the steps are not the same")
    return differences[name]


def parts_of(watch: Stopwatch, whole: float) -> dict[str, float]:
    """Median seconds of each part, and what is left of the whole step."""
    parts = watch.medians(skip=WARM_UP)
    if "G generates, and CLIP-ViT on fakes" in parts:
        parts["G generates"] = parts.pop("G generates, and CLIP-ViT on fakes") - parts["CLIP-ViT on fakes"]
    if "G's backward" in parts:
        parts["G's loss and backward"] = parts.pop("G's loss") + parts.pop("G's backward")
    found = {name: parts[name] for name in PARTS}
    return found | {"everything else": whole - sum(found.values())}


def text_costs(networks: Networks, batch: int, distributed: Distributed) -> dict[str, float]:
    """Seconds of the table per caption, and of a step's captions where they are too many for a table."""
    on_demand, some = CaptionVectors(networks, None, distributed), captions(ENCODED)
    on_demand(some[:batch])
    begun = time.perf_counter()
    CaptionVectors(networks, some, distributed)
    table_seconds = time.perf_counter() - begun
    begun = time.perf_counter()
    on_demand(some[:batch])
    return {"table_per_caption": table_seconds / ENCODED, "on_demand_per_step": time.perf_counter() - begun}


# ---- the report


def report(result: dict[str, Any]) -> str:
    """The comparison as markdown."""
    seconds, memory, parts = result["seconds"], result["peak_bytes"], result["parts"]

    def _ratio(name: str) -> str:
        return f"{result[name]:.2f}"

    rows: list[list[Any]] = [
        ["seconds a step, each in its own process (median)", *result["seconds_alone"].values(), _ratio("ratio_alone")],
        ["seconds a step, in turns in one process (median)", seconds["released"], seconds["ours"], _ratio("ratio")],
        ["peak memory, GiB", *(memory[k] / 2**30 for k in KINDS), f"{memory['released'] / memory['ours']:.2f}"],
    ]
    for name, theirs in parts["released"].items():
        rows.append([f"- {name}, s", theirs, parts["ours"][name], None])
    text, per_caption = result["text"], result["text"]["table_per_caption"]
    anew = seconds["ours"] + text["on_demand_per_step"]
    size, steps = f"{result['preset']}, batch {result['batch']}", f"{result['steps']} steps of each in turns"
    return f"""\
{size}, {result["precision"]}, {result["threads"]} threads, {steps}; loss terms of the first step agree to \
{result["largest_difference"]:.1e}

{table(["", "released", "ours", "released / ours"], rows)}

Our sentence vectors come from a table. It costs {1000 * per_caption:.1f} ms a caption, once: where every caption is \
visited n times in a run, {1000 * per_caption * result["batch"]:.0f} / n ms a step. Data with more captions than \
run.text_cache are encoded anew at each step: {anew:.3g} s a step, ratio {seconds["released"] / anew:.2f}."""


def sweep(cells: list[tuple[str, int]], steps: int, threads: int) -> list[dict[str, Any]]:
    """Our step at each (preset, batch), each in a process of its own."""
    rows = []
    for size, batch in cells:
        found = in_fresh_process("ours", size, batch, steps, threads)
        found["seconds"] = median(found["seconds"])
        rows.append({"preset": size, "batch": batch, **found, "images_per_second": batch / found["seconds"]})
    return rows


def sweep_report(rows: list[dict[str, Any]]) -> str:
    """The sweep as markdown."""
    head = ["preset", "pixels", "grid", "batch", "s a step", "images/s", "peak memory, GiB"]
    lines = []
    for row in rows:
        preset = SIZES[row["preset"]]
        sizes = [preset.image_size, preset.generator["grid"], row["batch"]]
        lines.append([row["preset"], *sizes, row["seconds"], row["images_per_second"], row["peak_bytes"] / 2**30])
    return table(head, lines)


def _cell(text: str) -> tuple[str, int]:
    size, _, batch = text.partition(":")
    if size not in SIZES or not batch.isdecimal() or int(batch) < 2:
        raise argparse.ArgumentTypeError(f"{text}: give PRESET:BATCH, at least 2; presets: {', '.join(SIZES)}")
    return size, int(batch)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="released-b32-224", choices=SIZES)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=5, help="timed steps of each kind, after one to warm up")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", default="fp32", choices=TOLERANCE, help="of both steps, by autocast")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/train_step-PRESET.json")
    parser.add_argument("--sweep", action="store_true", help="also measure our step at other sizes")
    parser.add_argument("--cells", type=_cell, nargs="+", metavar="PRESET:BATCH", help="those of the sweep")
    parser.add_argument("--only", choices=KINDS, help="measure one kind in this process and print JSON")
    given = parser.parse_args()
    if given.batch < 2 or given.steps < 1 or given.threads < 1:
        parser.error("--batch must be at least 2 (a mismatched caption is another picture's), --steps and --threads 1")
    torch.set_num_threads(given.threads)
    if given.only:
        print(json.dumps(measure_one(given.only, given.preset, given.batch, given.steps, given.precision)))
        return
    result: dict[str, Any] = {
        name: getattr(given, name) for name in ("preset", "batch", "steps", "threads", "precision")
    }
    result["machine"] = machine()
    # Processes of their own come first: a child's peak memory counts what its parent held when it was started.
    result |= alone(given.preset, given.batch, given.steps, given.threads, given.precision)
    if given.sweep:
        result["sweep"] = sweep(given.cells or list(SWEEP), given.steps, given.threads)
    result |= compare(given.preset, given.batch, given.steps, given.precision)
    print(report(result))
    if given.sweep:
        print("\nOur step at other sizes, each in a process of its own:\n\n" + sweep_report(result["sweep"]))
    kind = "" if given.precision == "fp32" else f"-{given.precision}"
    write_result(given.out or RESULTS / f"train_step-{given.preset}{kind}.json", result)


if __name__ == "__main__":
    main()
