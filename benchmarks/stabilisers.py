"""What each of the trainer's stabilisers costs: seconds of a step with it on, by a step with all of them off.

    python benchmarks/stabilisers.py --preset mini-64 --batch 16

All steps are taken in turns in one process, each on its own copy of the same weights.
"""

from __future__ import annotations

import argparse
import copy
import time
from pathlib import Path

import torch
from common import SIZES, median, random_batch, random_networks, run_config, table, write_result

from galip.distributed import Distributed
from galip.models.clip import FrozenCLIPVision
from galip.training.networks import SecondCLIP
from galip.training.step import GANStep
from galip.training.step_base import prepare_models
from galip.training.text_vectors import CaptionVectors
from galip.utils.provenance import machine

OPTIONS: dict[str, dict[str, dict[str, float]]] = {
    "none": {},
    "shift": {"augmentation": {"shift": 0.125}},
    "colour": {"augmentation": {"colour": 1.0}},
    "cutout": {"augmentation": {"cutout": 0.5}},
    "r1": {"loss": {"r1": 1.0}},
    "second CLIP": {"loss": {"similarity_second": 1.0}},
    "paired": {"loss": {"paired": 1.0}},
}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="mini-64", choices=SIZES)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=7, help="after one to warm up")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "stabilisers.json")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    distributed, networks = Distributed("cpu"), random_networks(given.preset)
    steps = {}
    for name, changes in OPTIONS.items():
        own, config = copy.deepcopy(networks), run_config(given.batch)
        if name == "second CLIP":
            other = random_networks(given.preset, seed=1)
            own.second = SecondCLIP(other.clip_encoder, FrozenCLIPVision(other.vision.model, "standard"))
        prepare_models(own, distributed.device)
        sections = {name: getattr(config, name).model_copy(update=values) for name, values in changes.items()}
        config = config.model_copy(update=sections)
        steps[name] = (GANStep(own, config, distributed), CaptionVectors(own, None, distributed))
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(1 + given.steps):
        batch = random_batch(networks, given.batch, number)
        for name, (step, sentences) in steps.items():
            vectors = sentences(batch.captions)
            begun = time.perf_counter()
            step(batch, vectors)
            seconds[name].append(time.perf_counter() - begun)
    medians = {name: median(times[1:]) for name, times in seconds.items()}
    print(f"{given.preset}, batch {given.batch}, {given.threads} threads, {given.steps} steps of each in turns\n")
    print(table(["option", "s a step", "by none"], [[k, v, f"{v / medians['none']:.2f}"] for k, v in medians.items()]))
    about = {"preset": given.preset, "batch": given.batch, "threads": given.threads, "machine": machine()}
    write_result(given.out, about | {"seconds": medians, "all_seconds": seconds})


if __name__ == "__main__":
    main()
