"""Muon (Jordan et al., 2024): steps along the nearest orthogonal matrix of the momentum, for matrices and kernels."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from galip.training.muon import orthogonalised


class Muon(torch.optim.Optimizer):
    """For weights of two or more dimensions; kernels [out, in, k, k] count as [out, in * k * k].

    A step's root mean square is 0.2 times the rate, as an Adam step's is about, so that both can have one rate.

    Args:
        params: matrices and kernels.
        lr: rate.
        momentum: of Nesterov's kind.
        weight_decay: decoupled.
    """

    def __init__(
        self, params: Iterable[Tensor], lr: float = 1e-3, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Weights of one shape are worked on together."""
        for group in self.param_groups:
            shapes: dict[tuple[int, int], list[Tensor]] = {}
            for weight in group["params"]:
                if weight.grad is not None:
                    shapes.setdefault((len(weight), weight[0].numel()), []).append(weight)
            for shape, weights in shapes.items():
                momenta = []
                for weight in weights:
                    state = self.state[weight]
                    momentum = state.setdefault("momentum", torch.zeros_like(weight))
                    momentum.lerp_(weight.grad, 1 - group["momentum"])
                    momenta.append(weight.grad.lerp(momentum, group["momentum"]).reshape(shape))
                moves = orthogonalised(torch.stack(momenta)) * (0.2 * max(shape) ** 0.5)
                for weight, move in zip(weights, moves, strict=True):
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    weight.add_(move.view_as(weight), alpha=-group["lr"])
