"""Grids: images side by side that differ in one thing along each axis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from galip._deprecated import renamed_arguments
from galip.errors import InputError
from galip.generation import inputs
from galip.generation.inputs import BATCH_SIZE
from galip.generation.noise import check_seed, noise
from galip.generation.output import OutputType
from galip.generation.pipeline import TextToImage
from galip.latent.directions import Direction, shift
from galip.latent.interpolation import blend_noise, blend_sentences
from galip.latent.keyframes import Keyframe, locate
from galip.latent.mixing import check_fine_from, mix, per_stage
from galip.latent.walks import between
from galip.utils.arrays import FloatArray

MAX_PLACES = 4096
"""A larger sheet could not be looked at with profit."""


@dataclass(frozen=True, eq=False)
class Grid:
    """What stands where, and what is written there.

    Attributes:
        z: float32 [rows, columns, z_dim].
        e: float32 [rows, columns, cond_dim] or [rows, columns, num_stages, cond_dim].
        columns: a label for each column, or empty.
        rows: a label for each row, or empty.
        below: labels under the columns; () for none.
    """

    z: FloatArray
    e: FloatArray
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    below: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def generate(
        self, pipe: TextToImage, truncation: float = 1.0, batch_size: int = BATCH_SIZE, output_type: OutputType = "pil"
    ) -> Iterator[Any]:
        """The images row by row, generated as they are asked for; `contact_sheet.labelled_grid` makes a sheet of them.

        Args, exceptions: as for `TextToImage.generate`.
        """
        flat_z, flat_e = self.z.reshape(len(self), -1), self.e.reshape(len(self), *self.e.shape[2:])
        return pipe.generate_each(zip(flat_z, flat_e, strict=True), truncation, batch_size, output_type)


@renamed_arguments(captions="prompts")
def prompts_by_seeds(pipe: TextToImage, prompts: Sequence[str], seeds: Sequence[int], steps: int = 1) -> Grid:
    """A column for each prompt, a row for each seed: the style of a row is kept while its prompt changes.

    Args:
        pipe: a pipeline of any engine.
        prompts: from left to right.
        seeds: from top to bottom.
        steps: from each prompt to the next; above 1, steps - 1 columns of images lie between them.

    Raises:
        InputError: a prompt or seed cannot be used, or there would be too many images.
    """
    words, numbers = inputs.clean_prompts(prompts), _seeds(seeds)
    count = inputs.positive_int("steps", steps)
    if count > 1 and len(words) < 2:
        raise InputError("steps lead from one prompt to another: give two prompts or more")
    width = count * (len(words) - 1) + 1
    check_places(width, len(numbers))
    places = locate(pipe, [Keyframe(word, numbers[0]) for word in words])
    es = [between(places, leg, step / count)[1] for leg in range(len(words) - 1) for step in range(count)]
    row = np.stack([*es, places.e[-1]])
    labels = [""] * width
    labels[::count] = words
    z = noise(numbers, pipe.sizes.z_dim)
    return Grid(
        np.repeat(z[:, None], width, axis=1),
        np.repeat(row[None], len(z), axis=0),
        tuple(labels),
        tuple(f"seed {number}" for number in numbers),
    )


def square(pipe: TextToImage, corners: Sequence[Keyframe], side: int) -> Grid:
    """Four images in the corners, and everything between them.

    A place is blended from the corners by the share that it has of each (bilinear): noise by `blend_noise`, sentence
    vectors by `blend_sentences`. So each edge is the walk between its corners.

    Args:
        pipe: a pipeline of any engine.
        corners: top left, top right, bottom left, bottom right.
        side: images in a row and in a column, 2 or more.

    Raises:
        InputError: there are not four corners, or too few or too many images.
    """
    if len(corners) != 4:
        raise InputError(f"{len(corners)} corners are given: a square has four")
    if inputs.positive_int("side", side) < 2:
        raise InputError("a square of 1 has no room for four corners: give 2 or more")
    check_places(side, side)
    places = locate(pipe, corners)
    z, e = [], []
    for row in range(side):
        for column in range(side):
            down, right = row / (side - 1), column / (side - 1)
            weights = [(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right]
            z.append(blend_noise(places.z, weights))
            e.append(blend_sentences(places.e, weights))
    names = [_corner(corner, corners) for corner in corners]
    middle = [""] * (side - 2)
    return Grid(
        np.stack(z).reshape(side, side, -1),
        np.stack(e).reshape(side, side, *places.e.shape[1:]),
        (names[0], *middle, names[1]),
        ("",) * side,
        (names[2], *middle, names[3]),
    )


def strengths(
    pipe: TextToImage, keyframes: Sequence[Keyframe], along: Direction, amounts: Sequence[float], name: str = "strength"
) -> Grid:
    """A row for each image, moved along a direction from left to right.

    Args:
        pipe: a pipeline of any engine.
        keyframes: the images.
        along: the direction; see `galip.latent.direction`.
        amounts: its strengths; at 0 stands the image itself.
        name: of the direction, for the labels.

    Raises:
        InputError: there are none, or an amount is so large that nothing of the sentence is left.
    """
    if not keyframes or not len(amounts):
        raise InputError("nothing to generate: give at least one image and one strength")
    check_places(len(amounts), len(keyframes))
    places = locate(pipe, keyframes)
    e = np.stack([np.stack([shift(vector, along, amount) for amount in amounts]) for vector in places.e])
    z = np.repeat(places.z[:, None], len(amounts), axis=1)
    return Grid(z, e, tuple(f"{name} {amount:g}" for amount in amounts), tuple(map(str, keyframes)))


def mixtures(
    pipe: TextToImage, coarse: Sequence[str], fine: Sequence[str], seed: int, fine_from: int | None = None
) -> Grid:
    """A row for each prompt of the coarse stages, a column for each of the fine ones.

    Args:
        pipe: a pipeline of any engine.
        coarse: prompts, from top to bottom.
        fine: prompts, from left to right.
        seed: of all images.
        fine_from: number of the first fine stage, as for `galip.latent.mix`.

    Raises:
        InputError: a prompt or seed cannot be used, `fine_from` is out of range, or there would be too many images.
    """
    rows, columns = inputs.clean_prompts(coarse), inputs.clean_prompts(fine)
    check_places(len(columns), len(rows))
    check_fine_from(pipe, fine_from)
    vectors = pipe.embed([*rows, *columns])
    size = pipe.sizes
    e = per_stage(
        [mix(pipe, one, other, fine_from) for one in vectors[: len(rows)] for other in vectors[len(rows) :]],
        size.num_stages,
    )
    z = noise([check_seed(seed)], size.z_dim)
    return Grid(
        np.broadcast_to(z, (len(rows), len(columns), size.z_dim)),
        e.reshape(len(rows), len(columns), *e.shape[1:]),
        tuple(f"fine: {prompt}" for prompt in columns),
        tuple(f"coarse: {prompt}" for prompt in rows),
    )


def _corner(corner: Keyframe, corners: Sequence[Keyframe]) -> str:
    """A corner's label, without the seed where all have the same."""
    mixed = "" if corner.fine is None else f" / {corner.fine}"
    alike = len({other.seed for other in corners}) == 1
    return f"{corner.prompt}{mixed}" if alike else str(corner)


def _seeds(seeds: Sequence[int]) -> list[int]:
    numbers = [check_seed(seed) for seed in seeds]
    if not numbers:
        raise InputError("no seeds are given: a grid has a row for each, at least one")
    return numbers


def check_places(columns: int, rows: int) -> None:
    """Make sure that a grid is not too large to be looked at.

    Raises:
        InputError: it is.
    """
    if columns * rows > MAX_PLACES:
        raise InputError(f"a grid of {columns} x {rows} is {columns * rows:,} images, more than {MAX_PLACES:,}")
