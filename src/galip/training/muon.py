"""Muon (Jordan et al., 2024): weights move along the nearest orthogonal matrix of their momentum, the rest by Adam."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

_QUINTIC = (3.4445, -4.7750, 2.0315)
_EPSILON = 1e-8


def orthogonalised(matrices: Tensor, steps: int = 5) -> Tensor:
    """Matrices [N, A, B] with all singular values brought near 1, by Newton-Schulz iterations.

    In bf16 where the processor multiplies it natively, elsewhere in fp32.
    """
    wide = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.mT
    native = wide.is_cuda or torch.backends.cpu.get_cpu_capability() == "AVX512_BF16"
    x = wide.to(torch.bfloat16 if native else torch.float32)
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = _QUINTIC
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x if wide is matrices else x.mT).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Muon for weights of two or more dimensions, Adam for gains and biases.

    A kernel [out, in, k, k] counts as the matrix [out, in * k * k].

    Args:
        parameters: those of a network.
        lr: rate of Muon.
        momentum: of Muon, Nesterov's kind.
        adam_lr, betas: of Adam.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float = 0.006,
        momentum: float = 0.95,
        adam_lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.99),
    ) -> None:
        every = list(parameters)
        matrices = {"params": [p for p in every if p.ndim > 1], "lr": lr, "momentum": momentum}
        others = {"params": [p for p in every if p.ndim <= 1], "lr": adam_lr, "betas": betas}
        super().__init__([group for group in (matrices, others) if group["params"]], {})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            with_gradient = [p for p in group["params"] if p.grad is not None]
            if "momentum" in group:
                self._muon(with_gradient, group["lr"], group["momentum"])
            else:
                self._adam(with_gradient, group["lr"], *group["betas"])

    def _muon(self, weights: list[Tensor], lr: float | Tensor, momentum: float) -> None:
        shapes: dict[tuple[int, int], list[Tensor]] = {}  # weights of one shape are worked on together
        for weight in weights:
            shapes.setdefault((len(weight), weight[0].numel()), []).append(weight)
        for (rows, columns), alike in shapes.items():
            moves = []
            for weight in alike:
                assert weight.grad is not None
                average = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                average.lerp_(weight.grad, 1 - momentum)
                moves.append(weight.grad.lerp(average, momentum).reshape(rows, columns))
            stacked = orthogonalised(torch.stack(moves)) * max(1.0, rows / columns) ** 0.5
            for weight, move in zip(alike, stacked, strict=True):
                weight.sub_(lr * move.view_as(weight))

    def _adam(self, parameters: list[Tensor], lr: float | Tensor, beta1: float, beta2: float) -> None:
        for parameter in parameters:
            assert parameter.grad is not None
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros((), device=parameter.device)
                state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            state["step"] += 1
            state["mean"].lerp_(parameter.grad, 1 - beta1)
            state["square"].lerp_(parameter.grad.square(), 1 - beta2)
            mean = state["mean"] / (1 - beta1 ** state["step"])
            square = state["square"] / (1 - beta2 ** state["step"])
            parameter.sub_(lr * mean / (square.sqrt() + _EPSILON))
