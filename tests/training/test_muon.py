"""Muon: steps are orthogonal, the two kinds of weights are told apart, and its state is resumed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from galip.training.muon import Muon, orthogonalised


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 4, 30), (1, 30, 4)])
def test_singular_values_come_near_one(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalised(torch.randn(shape)).float())
    assert values.shape[-1] == min(shape[1:]) and values.min() > 0.3 and values.max() < 1.4
    one = torch.randn(shape)
    alone = torch.stack([orthogonalised(matrix[None])[0] for matrix in one])
    torch.testing.assert_close(orthogonalised(one), alone, rtol=0.05, atol=0.02)


def test_a_step_has_the_rates_size_whatever_the_gradients() -> None:
    linear = nn.Linear(16, 8)
    for scale in (1e-4, 1e4):
        before = linear.weight.detach().clone()
        optimizer = Muon(linear.parameters(), lr=0.01, adam_lr=0.001)
        optimizer.zero_grad()
        (scale * linear(torch.randn(32, 16)).square().sum()).backward()
        optimizer.step()
        moved = torch.linalg.svdvals(linear.weight.detach() - before)
        assert moved.min() > 0.003 and moved.max() < 0.014


def test_gains_and_biases_go_by_adam() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4))
    twin = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4))
    twin.load_state_dict(network.state_dict())
    ours = Muon(network.parameters(), lr=0.0, adam_lr=0.01, betas=(0.8, 0.9))
    theirs = torch.optim.Adam([p for p in twin.parameters() if p.ndim == 1], 0.01, (0.8, 0.9))
    for _ in range(5):
        x = torch.randn(2, 3, 8, 8)
        for model, optimizer in ((network, ours), (twin, theirs)):
            model.zero_grad()
            (model(x) ** 3).mean().backward()
            optimizer.step()
    for (name, a), (_, b) in zip(network.named_parameters(), twin.named_parameters(), strict=True):
        torch.testing.assert_close(a, b, msg=name)


def test_it_goes_on_from_its_state() -> None:
    torch.manual_seed(0)
    data = [torch.randn(4, 6) for _ in range(6)]

    def train(model: nn.Module, optimizer: Muon, batches: list[torch.Tensor]) -> None:
        for x in batches:
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()

    whole, halves = nn.Linear(6, 3), nn.Linear(6, 3)
    halves.load_state_dict(whole.state_dict())
    train(whole, Muon(whole.parameters()), data)
    first = Muon(halves.parameters())
    train(halves, first, data[:3])
    again = Muon(halves.parameters())
    again.load_state_dict(first.state_dict())
    train(halves, again, data[3:])
    assert torch.equal(whole.weight, halves.weight) and torch.equal(whole.bias, halves.bias)
