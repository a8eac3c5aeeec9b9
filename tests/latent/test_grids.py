"""What stands where in a grid."""

from __future__ import annotations

import numpy as np
import pytest
import tiny

from galip.errors import InputError
from galip.generation.noise import noise
from galip.latent import (
    Keyframe,
    blend_noise,
    blend_sentences,
    direction,
    lerp_norm,
    mix,
    mixtures,
    prompts_by_seeds,
    shift,
    slerp,
    square,
    strengths,
)
from galip.latent.grids import Grid
from galip.latent.keyframes import pair_up
from galip.torch_backend.pipeline import GALIPPipeline


@pytest.fixture(scope="module")
def pipe() -> GALIPPipeline:
    return tiny.pipeline()


def check_pictures(pipe: GALIPPipeline, grid: Grid) -> None:
    pictures = list(grid.generate(pipe, truncation=0.8, batch_size=3, output_type="np"))
    assert len(pictures) == len(grid) == len(grid.rows) * len(grid.columns)
    for number, picture in enumerate(pictures):
        row, column = divmod(number, len(grid.columns))
        z, e = grid.z[row, column], grid.e[row, column]
        assert np.abs(pipe.generate(z[None], e[None], 0.8, output_type="np")[0] - picture).max() < 1e-5


def test_prompts_by_seeds(pipe: GALIPPipeline) -> None:
    grid = prompts_by_seeds(pipe, ["a cat", "two birds"], [5, 6, 7])
    assert grid.columns == ("a cat", "two birds")
    assert grid.rows == ("seed 5", "seed 6", "seed 7")
    for row, seed in enumerate((5, 6, 7)):
        for column, caption in enumerate(grid.columns):
            assert (grid.z[row, column] == noise([seed], tiny.Z_DIM)[0]).all()
            assert np.allclose(grid.e[row, column], pipe.embed(caption)[0], atol=1e-6)
    check_pictures(pipe, grid)


def test_steps_between_prompts(pipe: GALIPPipeline) -> None:
    grid = prompts_by_seeds(pipe, ["a cat", "two birds", "a heart"], [5, 6], steps=4)
    assert grid.columns == ("a cat", "", "", "", "two birds", "", "", "", "a heart")
    a, b, c = pipe.embed(["a cat", "two birds", "a heart"])
    for row in grid.e:
        assert np.allclose(row[1], lerp_norm(a, b, 0.25), atol=1e-5)
        assert np.allclose(row[6], lerp_norm(b, c, 0.5), atol=1e-5)
    assert (grid.z[:, 0] == grid.z[:, 8]).all()


def test_a_square_is_a_walk_along_each_edge(pipe: GALIPPipeline) -> None:
    corners = pair_up(["a cat", "two birds", "a heart", "kitten"], [1, 2, 3, 4])
    grid = square(pipe, corners, 5)
    z, e = noise([1, 2, 3, 4], tiny.Z_DIM), pipe.embed([corner.prompt for corner in corners])
    for place, number in (((0, 0), 0), ((0, 4), 1), ((4, 0), 2), ((4, 4), 3)):
        assert (grid.z[place] == z[number]).all()
        assert np.allclose(grid.e[place], e[number], atol=1e-6)
    for step in range(5):
        t = step / 4
        assert np.allclose(grid.z[0, step], slerp(z[0], z[1], t), atol=1e-5)
        assert np.allclose(grid.z[step, 4], slerp(z[1], z[3], t), atol=1e-5)
        assert np.allclose(grid.e[step, 0], lerp_norm(e[0], e[2], t), atol=1e-5)
    assert np.allclose(grid.z[1, 2], blend_noise(z, [0.375, 0.375, 0.125, 0.125]), atol=1e-5)
    assert np.allclose(grid.e[1, 2], blend_sentences(e, [0.375, 0.375, 0.125, 0.125]), atol=1e-5)
    assert grid.columns == ("a cat (seed 1)", "", "", "", "two birds (seed 2)")
    assert grid.below == ("a heart (seed 3)", "", "", "", "kitten (seed 4)")
    check_pictures(pipe, grid)


def test_a_square_of_one_seed_keeps_it_and_does_not_repeat_it(pipe: GALIPPipeline) -> None:
    grid = square(pipe, pair_up(["a cat", "two birds", "a heart", "kitten"], [9]), 3)
    assert (grid.z == noise([9], tiny.Z_DIM)[0]).all()
    assert grid.columns == ("a cat", "", "two birds")


def test_strengths(pipe: GALIPPipeline) -> None:
    along = direction(pipe, "a cat", "a red cat")
    grid = strengths(pipe, [Keyframe("a heart", 1), Keyframe("kitten", 2)], along, [-1, 0, 1.5])
    assert grid.columns == ("strength -1", "strength 0", "strength 1.5")
    assert grid.rows == ("a heart (seed 1)", "kitten (seed 2)")
    heart, kitten = pipe.embed(["a heart", "kitten"])
    assert np.allclose(grid.e[0, 1], heart, atol=1e-6)
    assert np.allclose(grid.e[1, 2], shift(kitten, along, 1.5), atol=1e-5)
    check_pictures(pipe, grid)


def test_mixtures(pipe: GALIPPipeline) -> None:
    grid = mixtures(pipe, ["a cat", "two birds"], ["a cat", "a heart", "kitten"], seed=3, fine_from=3)
    assert grid.rows == ("coarse: a cat", "coarse: two birds")
    assert grid.columns == ("fine: a cat", "fine: a heart", "fine: kitten")
    assert np.allclose(grid.e[1, 2], mix(pipe, "two birds", "kitten", 3), atol=1e-6)
    check_pictures(pipe, grid)


def test_grids_that_cannot_be(pipe: GALIPPipeline) -> None:
    with pytest.raises(InputError, match="a grid of 2 x 3000 is 6,000 images"):
        prompts_by_seeds(pipe, ["a cat", "two birds"], range(3000))
    with pytest.raises(InputError, match="steps lead from one prompt to another"):
        prompts_by_seeds(pipe, ["a cat"], [1], steps=3)
    with pytest.raises(InputError, match="no seeds are given"):
        prompts_by_seeds(pipe, ["a cat"], [])
    with pytest.raises(InputError, match="3 corners are given"):
        square(pipe, pair_up(["a cat"], [1, 2, 3]), 3)
    with pytest.raises(InputError, match="a square of 1 has no room"):
        square(pipe, pair_up(["a cat"], [1, 2, 3, 4]), 1)
    with pytest.raises(InputError, match="65 x 65"):
        square(pipe, pair_up(["a cat"], [1, 2, 3, 4]), 65)
    with pytest.raises(InputError, match="at least one image and one strength"):
        strengths(pipe, [], direction(pipe, "a cat", "a red cat"), [1])
    with pytest.raises(InputError, match="fine_from is 9"):
        mixtures(pipe, ["a cat"], ["a heart"], 1, fine_from=9)
