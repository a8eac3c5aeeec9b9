"""Adam's moments of both networks, by the parameters' names: from a run's optimisers, and into those of another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from galip.conversion.optimizers import FILE, Moments
from galip.errors import InputError
from galip.training.networks import Networks


def moments_of(networks: Networks, states: Mapping[str, Any]) -> Moments:
    """The moments in the optimisers' states of a checkpoint.

    Args:
        networks: of the run.
        states: `state_dict` of each optimiser, by name.

    Raises:
        InputError: one of them is not Adam.
    """
    if any("exp_avg" not in found for state in states.values() for found in state["state"].values()):
        raise InputError(
            "the run's optimisers are not all Adam, and only Adam's states are written; leave --with-optimizers out"
        )
    return {
        name: {part: tensor.detach().float().cpu() for part, tensor in states[kind]["state"][index].items()}
        for kind in ("generator", "discriminator")
        for index, (name, _) in enumerate(_trained(networks, kind))
        if index in states[kind]["state"]
    }


def load_moments_into(optimizers: Mapping[str, torch.optim.Optimizer], networks: Networks, moments: Moments) -> None:
    """Let a run's optimisers, which have taken no step, begin with these moments. Rates and betas stay their own.

    Raises:
        InputError: the moments are of other networks, or an optimiser is not Adam.
    """
    known = {name for kind in optimizers for name, _ in _trained(networks, kind)}
    if strangers := sorted(moments.keys() - known):
        raise InputError(f"{FILE}: it is of other networks (of {strangers[0]}); leave model.with_optimizers out")
    for kind, optimizer in optimizers.items():
        if not isinstance(optimizer, torch.optim.Adam):
            raise InputError("model.with_optimizers: the states are Adam's; set optimizer.generator to adam")
        trained = _trained(networks, kind)
        for name, parameter in trained:
            if name in moments and moments[name]["exp_avg"].shape != parameter.shape:
                raise InputError(f"{FILE}: {name} is of another size; leave model.with_optimizers out")
        state = {index: moments[name] for index, (name, _) in enumerate(trained) if name in moments}
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _trained(networks: Networks, kind: str) -> list[tuple[str, nn.Parameter]]:
    """What an optimiser has, in its order, by names that begin with the network's."""
    named = getattr(networks, kind).named_parameters()
    return [(f"{kind}.{name}", parameter) for name, parameter in named if parameter.requires_grad]
