"""What `performance.cuda_graph` is worth: images a second of the trainer's step, plain and recorded, on a GPU.

    python benchmarks/recorded_step.py emoji schedule.batch=64 performance.precision=bf16 data.workers=12

Both in one process, first the plain one: the step alone, on batches that are there already, and with the loader. Give
the configuration's data and CLIP as for `galip train`; nothing is written.
"""

from __future__ import annotations

import argparse
import time
from itertools import islice
from pathlib import Path

import torch
from common import table

from galip.training.config_file import load_config
from galip.training.loop import Trainer
from galip.training.run import open_run

WARM_UP = 8
BATCHES = 4


def rates(trainer: Trainer, steps: int) -> tuple[float, float]:
    """Pictures a second of the step alone and with the loader; every step waits for its numbers, as a run does."""
    state, data = trainer.state, trainer.data
    batch, vectors = trainer.config.schedule.batch, data.caption_vectors(state.networks, state.config)
    stream = iter(data.loader(state.step.sample_rng, state.seen))
    held = [(one, vectors(one.captions)) for one in islice(stream, BATCHES)]
    for number in range(WARM_UP):
        state.take_step(*held[number % BATCHES])
    begun = time.perf_counter()
    for number in range(steps):
        state.take_step(*held[number % BATCHES])
    alone = time.perf_counter() - begun
    for _ in range(2 * trainer.config.data.workers + 1):  # what the workers had made ready meanwhile
        next(stream)
    begun = time.perf_counter()
    for one in islice(stream, steps):
        state.take_step(one, vectors(one.captions))
    return steps * batch / alone, steps * batch / (time.perf_counter() - begun)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="a named configuration, or a YAML file")
    parser.add_argument("overrides", nargs="*", help="section.field=value")
    parser.add_argument("--steps", type=int, default=40)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("a CUDA graph needs a CUDA GPU, and torch finds none here")
    torch.backends.cudnn.benchmark = True
    found = {}
    for recorded in ("false", "true"):
        config = load_config(options.config, [*options.overrides, f"performance.cuda_graph={recorded}"])
        found[recorded] = rates(open_run(config, Path("out/recorded-step")), options.steps)
    rows = [
        [name, f"{found['false'][i]:.0f}", f"{found['true'][i]:.0f}", f"{found['true'][i] / found['false'][i]:.1f}"]
        for i, name in enumerate(("step alone", "with the loader"))
    ]
    print(torch.cuda.get_device_name())
    print(table(["pictures a second", "plain", "recorded", "ratio"], rows))


if __name__ == "__main__":
    main()
