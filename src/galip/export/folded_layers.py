"""Layers with frozen weights of their own: copies in buffers, which move and cast with their module."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Conv(nn.Module):
    """A convolution with frozen weights."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.padding = conv.padding
        self.register_buffer("weight", copy_weight(conv.weight))
        self.register_buffer("bias", copy_weight(conv.bias))

    weight: Tensor
    bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, padding=self.padding)


class Norm(nn.Module):
    """Layer normalisation with frozen weights."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.eps = norm.eps
        self.register_buffer("weight", copy_weight(norm.weight))
        self.register_buffer("bias", copy_weight(norm.bias))

    weight: Tensor
    bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


class Linear(nn.Module):
    """A linear layer with frozen weights."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", copy_weight(weight))
        self.register_buffer("bias", copy_weight(bias))

    weight: Tensor
    bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


def copy_weight(weight: Tensor | None) -> Tensor:
    """A copy of a weight that belongs to nobody's gradient."""
    assert weight is not None  # every layer of GALIP and CLIP has a bias
    return weight.detach().clone()
