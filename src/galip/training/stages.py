"""The stages of a run: one after the other, each with its own objective and values, in one run folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import nn

from galip.errors import InputError
from galip.training.config import TrainConfig, stage_config
from galip.training.networks import Networks, build_networks, build_parts


@dataclass(frozen=True)
class Stage:
    """A stretch of a run.

    Attributes:
        number: 0, 1, ...
        name: for messages and the log; empty in a run without stages.
        start, end: images of the whole run at its beginning and end.
        config: what holds in it.
    """

    number: int
    name: str
    start: int
    end: int
    config: TrainConfig


def stages_of(config: TrainConfig) -> list[Stage]:
    """The stages of a run; one where it names none."""
    if not config.stages:
        return [Stage(0, "", 0, config.schedule.images, config)]
    configs = [stage_config(config, number) for number in range(len(config.stages))]
    ends = list(accumulate(one.schedule.images for one in configs))
    return [
        Stage(number, stage.name, end - one.schedule.images, end, one)
        for number, (stage, one, end) in enumerate(zip(config.stages, configs, ends, strict=True))
    ]


def networks_of(config: TrainConfig, number: int) -> Networks:
    """Fresh networks of the sizes that a run has in a stage.

    Raises:
        GalipError: the run has no such stage, or its CLIP cannot be loaded.
    """
    stages = stages_of(config)
    check_stage(stages, number)
    networks = build_networks(stages[0].config)
    for stage in stages[1 : number + 1]:
        networks = build_parts(networks, stage.config)
    return networks


def check_stage(stages: Sequence[Stage], number: int) -> None:
    """Raise where a checkpoint is of a stage that a run does not have.

    Raises:
        InputError: it is; the message says how many there are.
    """
    if number >= len(stages):
        raise InputError(
            f"the checkpoint is of stage {number + 1}, and this configuration has {len(stages)}; go on with the run's "
            "own configuration (RUN/config.yaml)"
        )


def next_networks(before: Networks, config: TrainConfig) -> Networks:
    """The networks of a stage, which go on from those of the stage before.

    CLIP and text encoders are the same objects. Weights of G and D are taken over where names and shapes are the same;
    a generator that has got further up-blocks keeps the others, and a new block begins as plain upsampling.

    Args:
        before: the networks of the stage before.
        config: of the stage; sizes that it leaves open are those of `before`.

    Raises:
        InputError: sizes contradict each other.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        after = build_parts(before, config)
    grow(before.generator, after.generator)
    grow(before.discriminator, after.discriminator)
    return after


@torch.no_grad()
def grow(before: nn.Module, after: nn.Module) -> list[str]:
    """Take weights over, wherever name and shape are the same.

    Of a residual block that is new the last convolution begins at zero, where its shortcut is the identity: the block
    is plain upsampling until it has learnt something.

    Returns:
        Names of the weights that begin anew.
    """
    old, new = before.state_dict(), after.state_dict()
    begun = [name for name, tensor in new.items() if name not in old or old[name].shape != tensor.shape]
    if len(begun) == len(new):
        raise InputError(f"a stage's {type(after).__name__} has nothing in common with the one of the stage before")
    after.load_state_dict({name: old[name] for name in new if name not in begun}, strict=False)
    for name, module in after.named_modules():
        if f"{name}.conv2.weight" in begun and isinstance(getattr(module, "shortcut", None), nn.Identity):
            nn.init.zeros_(module.conv2.weight)
            nn.init.zeros_(module.conv2.bias)
    return begun
