"""Operations and bytes of a training step, counted, not timed: what docs/scaling.md's arithmetic stands on.

python benchmarks/arithmetic.py --preset b32-224
"""

from __future__ import annotations

import argparse
import contextlib

from common import SIZES, our_step, random_batch, random_networks
from torch.utils.flop_counter import FlopCounterMode

from galip.distributed import Distributed
from galip.training.text_vectors import CaptionVectors


class _OneModule(contextlib.nullcontext[None]):
    """Stands in for the counter's module tracker, which cannot see through the penalty's second derivative."""

    parents = frozenset({"Global"})


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="b32-224", choices=SIZES)
    parser.add_argument("--batch", type=int, default=2)
    given = parser.parse_args()
    networks, distributed = random_networks(given.preset), Distributed("cpu")
    batch = random_batch(networks, given.batch, 0)
    sentences = CaptionVectors(networks, batch.captions, distributed)(batch.captions)
    step = our_step(networks, given.batch, distributed)
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = _OneModule()
    with counter:
        step(batch, sentences)
    trained = [
        p.numel() for n in (networks.generator, networks.discriminator) for p in n.parameters() if p.requires_grad
    ]
    print(f"{given.preset}: {counter.get_total_flops() / given.batch / 1e9:.1f} GFLOP a picture (two per multiply-add)")
    print(f"{given.preset}: {4 * sum(trained) / 1e6:.1f} MB of gradients a step, fp32")


if __name__ == "__main__":
    main()
