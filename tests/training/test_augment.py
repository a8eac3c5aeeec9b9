"""What D sees of a picture: functions of the sample, differentiable, and nothing at all unless asked for."""

from __future__ import annotations

import torch

from galip.training.augment import (
    cut_out,
    lay_on,
    random_augmentations,
    random_backgrounds,
    recolour,
    shift,
    shift_by_gather,
)
from galip.training.config import AugmentationConfig


def augmentation(**options: float) -> AugmentationConfig:
    return AugmentationConfig.model_validate(options)


def test_shift_moves_pixels_and_repeats_the_border() -> None:
    picture = torch.arange(16.0).reshape(1, 1, 4, 4).repeat(2, 1, 1, 1).requires_grad_()
    moved = shift(picture, torch.tensor([[1, 0], [0, -2]]))
    assert torch.equal(moved[0, 0, :, 1:], picture[0, 0, :, :-1])
    assert torch.equal(moved[0, 0, :, 0], picture[0, 0, :, 0])
    assert torch.equal(moved[1, 0, :2], picture[1, 0, 2:])
    moved.sum().backward()
    assert picture.grad is not None and picture.grad.sum() == 32


def test_a_shift_by_gather_is_the_same() -> None:
    """Which a GPU does; its gradients too."""
    pictures = torch.randn(9, 3, 8, 6, requires_grad=True)
    offsets = torch.tensor([[right, down] for right in (-3, 0, 2) for down in (-7, 0, 1)])
    weights = torch.randn(9, 3, 8, 6)
    gradients = []
    for moved in (shift(pictures, offsets), shift_by_gather(pictures, offsets)):
        gradients += torch.autograd.grad((moved * weights).sum(), pictures)
    assert torch.equal(shift(pictures, offsets), shift_by_gather(pictures, offsets))
    torch.testing.assert_close(gradients[0], gradients[1])


def test_colours_change_what_they_say() -> None:
    picture = torch.rand(1, 3, 4, 4) - 0.5

    def changed(*values: float) -> torch.Tensor:
        return recolour(picture, torch.tensor([values]))

    torch.testing.assert_close(changed(0, 1, 1), picture)
    torch.testing.assert_close(changed(0.25, 1, 1), picture + 0.25)
    grey = changed(0, 0, 1)
    torch.testing.assert_close(grey, picture.mean(1, keepdim=True).expand_as(grey))
    assert changed(0, 1, 0).std() < 1e-6
    torch.testing.assert_close(changed(0, 1, 2) - picture.mean(), 2 * (picture - picture.mean()))


def test_the_hole_is_where_it_should_be() -> None:
    holed = cut_out(torch.ones(2, 3, 6, 6), torch.tensor([[1, 2], [-2, 4]]), 3)
    assert holed[0, :, 2:5, 1:4].abs().sum() == 0 and holed[0].sum() == 3 * (36 - 9)
    assert holed[1, :, 4:, :1].abs().sum() == 0 and holed[1].sum() == 3 * (36 - 2)


def test_nothing_happens_unless_asked_for() -> None:
    pictures = torch.randn(3, 3, 8, 8)
    for side in random_augmentations(augmentation(), 8, 0, [0, 1, 2]):
        assert side(pictures) is pictures


def test_each_sample_has_its_own_whatever_the_batch() -> None:
    options = augmentation(shift=0.25, colour=1.0, cutout=0.5)
    pictures = torch.randn(4, 3, 8, 8)
    real, drawn = random_augmentations(options, 8, 5, [7, 8, 9, 10])
    whole = real(pictures)
    halves = [random_augmentations(options, 8, 5, indices)[0] for indices in ([7, 8], [9, 10])]
    assert torch.equal(whole, torch.cat([halves[0](pictures[:2]), halves[1](pictures[2:])]))
    assert not torch.equal(whole, drawn(pictures))
    assert not torch.equal(whole, random_augmentations(options, 8, 6, [7, 8, 9, 10])[0](pictures))


def test_gradients_come_through() -> None:
    real, _ = random_augmentations(augmentation(shift=0.25, colour=1.0, cutout=0.25), 8, 1, [0, 1])
    pictures = torch.randn(2, 3, 8, 8, requires_grad=True)
    real(pictures).square().sum().backward()
    assert pictures.grad is not None and (pictures.grad != 0).float().mean() > 0.5


def test_images_are_laid_on_their_colour_and_rgb_stays_as_it_is() -> None:
    rgb = torch.randn(2, 3, 4, 4)
    assert lay_on(rgb, None) is rgb
    rgba = torch.cat([rgb, torch.tensor([-1.0, 1.0])[:, None, None, None].expand(2, 1, 4, 4)], dim=1).requires_grad_()
    colours = torch.tensor([[0.5, -0.5, 0.0], [1.0, 1.0, 1.0]])
    laid = lay_on(rgba, colours)
    assert torch.equal(laid[0], colours[0, :, None, None].expand(3, 4, 4)), "transparent: the colour alone"
    assert torch.equal(laid[1], rgb[1]), "opaque: the image alone"
    assert torch.equal(lay_on(rgba, None)[0], torch.ones(3, 4, 4))
    laid.square().sum().backward()
    assert rgba.grad is not None and rgba.grad[:, 3].abs().sum() > 0, "alpha is learnt through the background"


def test_a_quarter_of_the_backgrounds_is_white_and_each_belongs_to_its_sample() -> None:
    many = random_backgrounds(0, list(range(4000)))
    white = (many == 1).all(1)
    assert abs(white.float().mean() - 0.25) < 0.03 and many.min() < -0.99
    assert torch.equal(many[7:9], random_backgrounds(0, [7, 8])) and not torch.equal(
        many, random_backgrounds(1, list(range(4000)))
    )
    others = many[~white]
    assert (others.mean(0).abs() < 0.05).all() and abs(others.std() - 2 / 12**0.5) < 0.03
