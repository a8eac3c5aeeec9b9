import pytest
import torch
from models.tiny import scatter
from torch.testing import assert_close

from galip.models import Affine, FusionBlock


def test_affine_is_the_identity_before_training():
    x, cond = torch.randn(2, 5, 3, 3), torch.randn(2, 7) * 10
    assert torch.equal(Affine(5, 7)(x, cond), x)


def test_fusion_block_is_two_leaky_relus_before_training_and_leaves_its_input_alone():
    x, cond = torch.randn(2, 5, 3, 3), torch.randn(2, 7)
    before = x.clone()
    out = FusionBlock(5, 7)(x, cond)
    assert_close(out, torch.where(x > 0, x, 0.04 * x))
    assert torch.equal(x, before)


def test_affine_follows_the_formula():
    affine = scatter(Affine(3, 4))
    x, cond = torch.randn(2, 3, 2, 2), torch.randn(2, 4)
    assert_close(affine(x, cond), affine.gamma(cond)[..., None, None] * x + affine.beta(cond)[..., None, None])


def test_affine_parts_have_their_shapes_and_initial_values():
    affine = Affine(5, 7)
    for head, initial in ((affine.gamma, 1.0), (affine.beta, 0.0)):
        assert head[0].weight.shape == (5, 7)
        assert head[2].weight.shape == (5, 5)
        assert not head[2].weight.any()
        assert torch.equal(head[2].bias, torch.full((5,), initial))


@pytest.mark.parametrize("dtype", [torch.float64])
def test_fusion_block_gradients_are_those_of_finite_differences(dtype):
    block = scatter(FusionBlock(2, 3)).to(dtype)
    x = torch.randn(1, 2, 2, 2, dtype=dtype, requires_grad=True)
    cond = torch.randn(1, 3, dtype=dtype, requires_grad=True)
    assert torch.autograd.gradcheck(block, (x, cond))
