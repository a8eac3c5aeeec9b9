"""What the recipe measures by itself: a classifier of styles, and figures as they are written down.

Every other number is of `galip.evaluation`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from galip.evaluation.intervals import Estimate


def figure(estimate: Estimate) -> dict[str, float]:
    """An estimate as `figures.json` holds it; without an interval where it has none."""
    if estimate.low is None or estimate.high is None:
        return {"value": estimate.value}
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}


class LinearProbe:
    """A linear classifier on fixed features: ridge regression to one-hot classes, which has one solution.

    Args:
        features: [N, F].
        classes: int64 [N], from 0.
        decay: weight of the penalty for each picture.
    """

    def __init__(self, features: torch.Tensor, classes: torch.Tensor, decay: float = 0.003) -> None:
        self.mean, self.deviation = features.mean(0), features.std(0).clamp(min=1e-6)
        x, target = self._prepare(features), F.one_hot(classes).double()
        penalty = decay * len(x) * torch.eye(x.shape[1], dtype=torch.float64)
        self.offset = target.mean(0)
        self.weight = torch.linalg.solve(x.T @ x + penalty, x.T @ (target - self.offset))

    def _prepare(self, features: torch.Tensor) -> torch.Tensor:
        return ((features - self.mean) / self.deviation).double()

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        """The class, int64 [N], of features [N, F]."""
        return (self._prepare(features) @ self.weight + self.offset).argmax(1)
