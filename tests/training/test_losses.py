"""The formulas against hand-computed values, and the penalty's gradient against finite differences."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
import torch
from models import tiny as parts

from galip.training import distances, losses
from galip.training.config import LossConfig


def test_hinge_by_hand() -> None:
    logits = torch.tensor([-2.0, 0.0, 0.5, 3.0])
    assert losses.hinge_real(logits).item() == pytest.approx((3 + 1 + 0.5 + 0) / 4)
    assert losses.hinge_fake(logits).item() == pytest.approx((0 + 1 + 1.5 + 4) / 4)


def test_the_two_losses_are_the_papers_two_lines() -> None:
    """Against the formulas of the module, term by term, from D's logits alone."""
    torch.manual_seed(0)
    D = parts.scatter(parts.discriminator(), 0.2)
    real, fake = ([torch.randn(3, parts.WIDTH, parts.GRID, parts.GRID) for _ in range(3)] for _ in range(2))
    e, e_clip, vectors = (torch.randn(3, parts.COND_DIM) for _ in range(3))
    e_mis = e.roll(-1, 0)
    options = LossConfig.model_validate({"penalty_k": 0.5, "penalty_p": 4.0, "similarity": 3.0})
    terms = losses.discriminator_loss(D, real, fake, e, e_mis, options)
    with torch.no_grad():
        expected = (1 - D(real, e)).relu().mean() + (1 + D(fake, e)).relu().mean() / 2
        expected += (1 + D(real, e_mis)).relu().mean() / 2
    leaves = [tap.clone().requires_grad_() for tap in (*real, e)]
    expected += losses.matching_aware_penalty(D(leaves[:3], leaves[3]), leaves[:3], leaves[3], 0.5, 4.0).detach()
    torch.testing.assert_close(terms.loss_d, expected)
    assert terms.r1 is None and terms.penalty > 0

    shown = losses.FakeImages(torch.zeros(3, 3, 4, 4), torch.zeros(3, 3, 4, 4), fake, vectors)
    ours = losses.generator_loss(D, shown, e, e_clip, options)
    cosine = torch.nn.functional.cosine_similarity(vectors, e_clip).mean()
    torch.testing.assert_close(ours.loss_g, -D(fake, e).mean() - 3 * cosine)
    assert ours.paired is None and ours.similarity_second is None


def test_a_batch_of_one_caption_has_no_mismatch_term() -> None:
    D, options = parts.scatter(parts.discriminator(), 0.2), LossConfig.model_validate({"penalty_k": 0})
    taps, e = [torch.randn(2, parts.WIDTH, parts.GRID, parts.GRID) for _ in range(3)], torch.randn(2, parts.COND_DIM)
    terms = losses.discriminator_loss(D, taps, taps, e, None, options)
    assert terms.d_mismatch == terms.score_mismatch == terms.penalty == 0
    torch.testing.assert_close(terms.loss_d, terms.d_real + terms.d_fake / 2)


def test_similarity_is_the_mean_cosine_whatever_the_norms() -> None:
    images = torch.tensor([[3.0, 4.0], [0.0, -2.0]])
    sentences = torch.tensor([[30.0, 40.0], [5.0, 0.0]])
    assert losses.similarity(images, sentences).item() == pytest.approx((1 + 0) / 2)


def test_distance_over_the_pyramid_by_hand() -> None:
    """A checkerboard of single pixels vanishes from the averages over two pixels on, one of double pixels later."""
    ones = torch.ones(2, 3, 16, 16)
    assert distances.pyramid_l1(0.5 * ones, -0.25 * ones).item() == pytest.approx(0.75)
    board = ones.clone()
    board[..., ::2, ::2] = board[..., 1::2, 1::2] = -1
    assert distances.pyramid_l1(board, 0 * ones).item() == pytest.approx(1 / 4)
    coarse = board[..., :8, :8].repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert distances.pyramid_l1(coarse, 0 * ones).item() == pytest.approx(2 / 4)


def test_distance_takes_sides_that_cannot_be_halved() -> None:
    drawn = torch.randn(2, 3, 7, 7)
    assert distances.pyramid_l1(drawn, torch.zeros_like(drawn)).item() == pytest.approx(drawn.abs().mean().item())


def test_the_paired_gradient_is_the_energy_scores() -> None:
    """Over all ordered pairs of drawn pictures, with the second held fixed: E d(X, x) - 1/2 E d(X, X')."""
    drawn = torch.randn(5, 3, 8, 8, dtype=torch.float64).requires_grad_()
    real = torch.randn(1, 3, 8, 8, dtype=torch.float64)
    first, second = (torch.tensor(numbers) for numbers in zip(*permutations(range(5), 2), strict=True))

    towards, apart = distances.energy_distances(drawn[first], real.expand(20, 3, 8, 8), drawn[second])
    (ours,) = torch.autograd.grad(towards - apart, drawn)
    score = distances.pyramid_l1(drawn, real.expand_as(drawn)) - distances.pyramid_l1(drawn[first], drawn[second]) / 2
    (expected,) = torch.autograd.grad(score, drawn)
    assert (ours - expected).abs().max() < 1e-6 * expected.abs().max()


def test_the_paired_term_finds_both_pictures_where_a_plain_l1_finds_one() -> None:
    """A generator of one number a noise; of the caption's pictures two of three are black and one is white."""
    size = (64, 3, 2, 2)
    ends = torch.where(torch.arange(64) % 3 == 0, 1.0, -1.0)[:, None, None, None].expand(size)

    def learnt(weight_of_spread: float) -> torch.Tensor:
        torch.manual_seed(0)
        values = (0.1 * torch.randn(64)).requires_grad_()
        optimizer = torch.optim.SGD([values], 2.0)
        for _ in range(400):
            pictures = values[:, None, None, None].expand(size)
            real, again = ends[torch.randperm(64)], pictures[torch.randperm(64)]
            paired, spread = distances.energy_distances(pictures, real, again)
            optimizer.zero_grad()
            (paired - weight_of_spread * spread).backward()
            optimizer.step()
        return values.detach()

    one, both = learnt(0), learnt(1)
    assert (one < -0.7).all()
    assert 10 < (both > 0.7).sum() < 30 and (both < -0.7).sum() > 25


@pytest.mark.parametrize(("form", "expected"), [("released", "squares"), ("paper", "norms")])
def test_penalty_of_a_linear_discriminator_by_hand(form: str, expected: str) -> None:
    """For logit = a.x + b.y + c.e the gradients are a, b and c themselves, whatever the picture."""
    a, b, c = torch.tensor([0.3, 0.4]), torch.tensor([1.2]), torch.tensor([0.5, 0.5])
    x, y, e = (torch.randn(3, n).requires_grad_() for n in (2, 1, 2))
    logits = x @ a + y @ b + e @ c
    squared_c, squared_e = 0.09 + 0.16 + 1.44, 0.5
    by_hand = {
        "squares": 2 * (squared_c + squared_e) ** 3,
        "norms": 2 * (math.sqrt(squared_c) + math.sqrt(squared_e)) ** 6,
    }
    penalty = losses.matching_aware_penalty(logits, [x, y], e, form=form)  # type: ignore[arg-type]
    assert penalty.item() == pytest.approx(by_hand[expected], rel=1e-5)


@pytest.mark.parametrize("form", ["released", "paper"])
def test_penalty_gradient_equals_finite_differences(form: str) -> None:
    torch.manual_seed(0)
    discriminator = parts.scatter(parts.discriminator(), 0.2).double()
    taps = [torch.randn(2, parts.WIDTH, parts.GRID, parts.GRID, dtype=torch.double).requires_grad_() for _ in range(3)]
    e = torch.randn(2, parts.COND_DIM, dtype=torch.double).requires_grad_()

    def penalty() -> torch.Tensor:
        return losses.matching_aware_penalty(discriminator(taps, e), taps, e, k=1.0, p=2.0, form=form)  # type: ignore[arg-type]

    weight = discriminator.feature_extractor.blocks[0].conv1.weight
    (gradient,) = torch.autograd.grad(penalty(), weight)
    assert gradient.abs().max() > 0
    for place in [(0, 0, 1, 1), (5, 3, 0, 2)]:
        values = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                weight[place] += step
            values.append(penalty().item())
            with torch.no_grad():
                weight[place] -= step
        assert gradient[place].item() == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-4, abs=1e-9)


def test_paper_penalty_has_a_finite_gradient_where_the_released_networks_start() -> None:
    """A logit that ignores its input has zero gradients; the square root must not make them infinite."""
    x, e, w = torch.randn(2, 3).requires_grad_(), torch.randn(2, 3).requires_grad_(), torch.zeros(3, requires_grad=True)
    losses.matching_aware_penalty(x @ w + e @ w, [x], e, form="paper").backward()
    assert w.grad is not None and w.grad.isfinite().all()


def test_unknown_penalty_form() -> None:
    x, e = torch.randn(2, 3).requires_grad_(), torch.randn(2, 3).requires_grad_()
    with pytest.raises(ValueError, match="'released' or 'paper'"):
        losses.matching_aware_penalty((x * e).sum(1), [x], e, form="other")  # type: ignore[arg-type]


def test_mismatched_takes_the_next_row_with_another_caption() -> None:
    assert losses.mismatched([0, 1, 2, 3]) == [1, 2, 3, 0]
    assert losses.mismatched([0, 0, 1, 0]) == [2, 2, 3, 2]
    with pytest.raises(ValueError, match="one and the same caption"):
        losses.mismatched([5, 5, 5])
