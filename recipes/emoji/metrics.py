"""The numbers of the evaluation, each from vectors alone: retrieval, intervals, Frechet distance, style, distances."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

RESAMPLES = 2000


def nearer_captions(images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """How many of all captions are nearer to each picture than its own: int64 [N], 0 where its own is the nearest.

    Args:
        images, texts: vectors [N, D] of pictures and of their own captions, any scale.
    """
    similarity = F.normalize(images.float(), dim=1) @ F.normalize(texts.float(), dim=1).T
    return (similarity > similarity.diagonal()[:, None]).sum(1)


def top1_chances(images: torch.Tensor, texts: torch.Tensor, among: int = 100) -> torch.Tensor:
    """Each picture's chance that its own caption is the nearest of `among` random ones, its own included.

    Exact, without drawing captions at random: with r of the N - 1 other captions nearer, it is the chance that none of
    them is among the `among` - 1 chosen ones, C(N - 1 - r, among - 1) / C(N - 1, among - 1).

    Args:
        images, texts: vectors [N, D] of pictures and of their own captions, any scale.
        among: captions to choose from; all of them where there are fewer.

    Returns:
        float64 [N].
    """
    others = len(images) - 1
    chosen = min(among - 1, others)
    left = (others - nearer_captions(images, texts)).double()
    possible = left >= chosen
    left = left.clamp(min=chosen)
    log_chance = torch.lgamma(left + 1) - torch.lgamma(left - chosen + 1)
    log_chance = log_chance - (math.lgamma(others + 1) - math.lgamma(others - chosen + 1))
    return log_chance.exp() * possible


def mean_of(values: torch.Tensor) -> dict[str, float]:
    """The mean of [N] values, with its 95% bootstrap interval over them."""
    return _estimate(values.double()[:, None])


def ratio_of(over: torch.Tensor, under: torch.Tensor) -> dict[str, float]:
    """Mean of `over` by mean of `under`, [N] values of the same pictures, with its 95% bootstrap interval over them."""
    return _estimate(torch.stack([over, under], dim=1).double())


def _estimate(values: torch.Tensor) -> dict[str, float]:
    """Of [N, 1], the mean; of [N, 2], the ratio of the means. Pictures are resampled whole, by a fixed seed."""

    def statistic(means: torch.Tensor) -> torch.Tensor:
        return means[..., 0] / means[..., 1] if means.shape[-1] == 2 else means[..., 0]

    generator = torch.Generator().manual_seed(0)
    chosen = torch.randint(len(values), (RESAMPLES, len(values)), generator=generator)
    resampled = statistic(values[chosen].mean(1))  # [RESAMPLES, N, 1 or 2] -> [RESAMPLES]
    low, high = resampled.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return {"value": float(statistic(values.mean(0))), "low": low, "high": high}


def frechet(first: torch.Tensor, second: torch.Tensor) -> float:
    """Squared Frechet distance between two sets of vectors [N, D] and [M, D], each taken as a Gaussian; in float64.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1^1/2 C2 C1^1/2)^1/2), the roots through eigenvalues: both matrices are symmetric.
    """
    first, second = first.double(), second.double()
    gap = first.mean(0) - second.mean(0)
    covariance, other = torch.cov(first.T), torch.cov(second.T)
    values, vectors = torch.linalg.eigh(covariance)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    product = root @ other @ root
    cross = torch.linalg.eigvalsh((product + product.T) / 2).clamp(min=0).sqrt().sum()
    return float(gap @ gap + covariance.trace() + other.trace() - 2 * cross)


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


def mean_pairwise(groups: torch.Tensor) -> torch.Tensor:
    """Mean Euclidean distance between the members of each group: [G, K, D] -> [G]."""
    members = groups.shape[1]
    return torch.cdist(groups.double(), groups.double()).sum((1, 2)) / (members * (members - 1))


def nearest(queries: torch.Tensor, gallery: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Distances [Q, count] and numbers [Q, count] of the `count` nearest of `gallery` [N, D] to each of `queries`."""
    found = torch.cdist(queries.double(), gallery.double()).topk(count, largest=False)
    return found.values, found.indices
