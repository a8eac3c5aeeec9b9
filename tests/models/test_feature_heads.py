"""Heads on feature maps: bounded, told apart by captions, the same however often they are asked."""

from __future__ import annotations

import torch

from galip.models.feature_heads import FeatureHeads


def heads() -> FeatureHeads:
    torch.manual_seed(0)
    return FeatureHeads([6, 12], cond_dim=16, channels=8)


def maps(count: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(count, 6, 8, 8, generator=generator), torch.randn(count, 12, 4, 4, generator=generator)]


def test_each_place_of_each_map_has_a_logit() -> None:
    found = heads()(maps(), torch.randn(2, 16))
    assert [logits.shape for logits in found] == [(2, 8, 8), (2, 4, 4)]


def test_a_head_hears_the_caption_and_not_how_loud_it_is() -> None:
    network, seen = heads(), maps()
    one, other = torch.randn(2, 16), torch.randn(2, 16)
    first, second, louder = (network(seen, e)[0] for e in (one, other, 5 * one))
    assert (first - second).abs().max() > 0.01
    torch.testing.assert_close(first, louder)


def test_spectral_norms_change_when_they_are_told_to_and_never_else() -> None:
    network, e = heads(), torch.randn(2, 16)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(3.0).add_(0.1 * torch.randn_like(parameter))
    network.train(False)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    first, again = network(maps(), e)[1], network(maps(), e)[1]
    assert torch.equal(first, again)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    for _ in range(100):
        network.update_norms()
    assert any(not torch.equal(before[key], value) for key, value in network.state_dict().items())
    for head in network.heads:
        for layer in (head.enter, head.inner, head.score, head.text):
            assert abs(torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() - 1) < 0.01


def test_an_image_is_judged_alone() -> None:
    network, e = heads(), torch.randn(2, 16)
    both = network(maps(), e)
    alone = network([one[:1] for one in maps()], e[:1])
    for whole, part in zip(both, alone, strict=True):
        torch.testing.assert_close(whole[:1], part)
