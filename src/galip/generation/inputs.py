"""What a pipeline's call means: its arguments checked, and turned into batches of seeds and sentence vectors.

Shared by the pipelines of every engine, so numpy only: what is special to torch stays with torch's pipeline.
"""

from __future__ import annotations

import math
import operator
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, get_args

import numpy as np

from galip.errors import InputError
from galip.generation.noise import check_seed
from galip.generation.prompts import clean_caption

OutputType = Literal["pil", "np", "pt"]

BATCH_SIZE = 16
"""Pictures that are drawn together unless the caller says otherwise."""

RANDOM_SEED_BITS = 32
"""Seeds picked for the caller are short enough to be copied by hand."""

_ENCODED_AT_ONCE = 256

Array = TypeVar("Array")
"""The engine's kind of array: torch's tensor or numpy's."""


@dataclass(frozen=True)
class Job(Generic[Array]):
    """A call, checked.

    Attributes:
        total: number of pictures (N).
        per_prompt: pictures of each prompt; picture i belongs to prompt i // per_prompt.
        vectors: numbers of prompts -> their sentence vectors [B, cond_dim] or [B, num_stages, cond_dim].
        noise: z [N, z_dim], or a seed for each picture.
        truncation: multiplies z.
        batch_size: pictures drawn at once.
        output_type: what becomes of them.
    """

    total: int
    per_prompt: int
    vectors: Callable[[list[int]], Array]
    noise: Array | list[int]
    truncation: float
    batch_size: int
    output_type: OutputType

    def batches(self) -> Iterator[tuple[int, int, Array]]:
        """(start, stop, sentence vectors) of each batch of pictures, in their order."""
        for start in range(0, self.total, self.batch_size):
            stop = min(start + self.batch_size, self.total)
            yield start, stop, self.vectors([i // self.per_prompt for i in range(start, stop)])


class Sentences(Generic[Array]):
    """Sentence vectors of a call's prompts: each different one is encoded once, shortly before it is first needed.

    So the first picture of a long list does not wait for the last caption.

    Args:
        encode: captions -> their vectors.
        stack: vectors -> one array of them.
        captions: one for each prompt, cleaned.
    """

    def __init__(
        self, encode: Callable[[list[str]], Array], stack: Callable[[list[Any]], Array], captions: list[str]
    ) -> None:
        self._encode, self._stack = encode, stack
        index = {caption: i for i, caption in enumerate(dict.fromkeys(captions))}
        self._distinct = list(index)
        self._index = [index[caption] for caption in captions]
        self._vectors: list[Any] = []

    def __call__(self, prompts: list[int]) -> Array:
        """Vectors [B, cond_dim] of the prompts with these numbers."""
        wanted = [self._index[i] for i in prompts]
        while len(self._vectors) <= max(wanted):
            done = len(self._vectors)
            encoded: Any = self._encode(self._distinct[done : done + _ENCODED_AT_ONCE])
            self._vectors.extend(encoded)
        return self._stack([self._vectors[i] for i in wanted])


def check_output_type(output_type: Any, allowed: Sequence[str] = get_args(OutputType)) -> OutputType:
    """`output_type`, which must be one of `allowed`.

    Raises:
        InputError: it is not.
    """
    if output_type not in allowed:
        raise InputError(f"output_type {output_type!r}: use one of {', '.join(map(repr, allowed))}")
    return output_type  # type: ignore[no-any-return]


def check_one_of_prompt_and_embeds(prompt: Any, prompt_embeds: Any) -> None:
    """Exactly one of the two says what to draw.

    Raises:
        InputError: both or neither are given.
    """
    if (prompt is None) == (prompt_embeds is None):
        raise InputError("give either prompt or prompt_embeds" + (", not both" if prompt is not None else ""))


def clean_prompts(prompt: Any) -> list[str]:
    """A caption or a list of captions as a list of cleaned captions.

    Raises:
        InputError: it is neither, there are none, or one is empty or no text.
    """
    captions = [prompt] if isinstance(prompt, str) else prompt
    if not isinstance(captions, Sequence) or isinstance(captions, bytes):
        raise InputError(f"prompt is {kind(prompt)}: give a caption or a list of captions")
    if len(captions) == 0:
        raise InputError("prompt is an empty list: give at least one caption")
    for i, caption in enumerate(captions):
        if not isinstance(caption, str):
            raise InputError(f"prompt {i} is {kind(caption)}: a caption is a string")
    cleaned = {caption: clean_caption(caption) for caption in dict.fromkeys(captions)}
    return [cleaned[caption] for caption in captions]


def check_embeds_shape(shape: Sequence[int], stages: int, cond_dim: int) -> None:
    """The shape of `prompt_embeds`: [P, cond_dim], or [P, stages, cond_dim], P at least 1.

    Raises:
        InputError: it is another one.
    """
    if 0 in shape or tuple(shape[1:]) not in ((cond_dim,), (stages, cond_dim)):
        raise InputError(
            f"prompt_embeds has shape {list(shape)}: give one vector for each prompt, [P, {cond_dim}], "
            f"or one for each of the generator's stages, [P, {stages}, {cond_dim}]"
        )


def check_latents_shape(shape: Sequence[int], total: int, z_dim: int) -> None:
    """The shape of `latents`: [total, z_dim].

    Raises:
        InputError: it is another one.
    """
    if tuple(shape) != (total, z_dim):
        raise InputError(f"latents has shape {list(shape)}: give noise for each picture, [{total}, {z_dim}]")


def check_one_source_of_noise(**given: Any) -> None:
    """At most one of the arguments that noise can come from is given, that is, not None.

    Raises:
        InputError: there are more.
    """
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise InputError(f"{' and '.join(names)} are given: the noise can come from one of them only")


def seeds_of(seed: Any, total: int, per_prompt: int) -> list[int]:
    """A seed for each of the pictures, all of one prompt together.

    Args:
        seed: None for random ones; the first one of every prompt's pictures; or one for each picture.
        total: number of pictures.
        per_prompt: pictures of each prompt.

    Raises:
        InputError: a seed is none, or there are too many or too few.
    """
    if seed is None:
        return [secrets.randbits(RANDOM_SEED_BITS) for _ in range(total)]
    if (isinstance(seed, Sequence) and not isinstance(seed, str | bytes)) or np.ndim(seed) == 1:
        if len(seed) != total:
            raise InputError(
                f"seed is a list of {len(seed)}: give one for each of the {total} pictures "
                f"({total // per_prompt} prompts, {per_prompt} each), or a single first seed"
            )
        return [check_seed(s) for s in seed]
    first = check_seed(seed)
    check_seed(first + per_prompt - 1)
    return [first + i % per_prompt for i in range(total)]


def positive_int(name: str, value: Any) -> int:
    """A whole number of at least 1.

    Raises:
        InputError: it is none; the message names the argument.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise InputError(f"{name} is {value!r}: give a whole number, at least 1") from None
    if number < 1:
        raise InputError(f"{name} is {number}: give at least 1")
    return number


def finite(name: str, value: Any) -> float:
    """A finite number.

    Raises:
        InputError: it is none; the message names the argument.
    """
    try:
        number = math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{name} is {value!r}: give a finite number, 1 for the noise as it is")
    return number


def kind(value: Any) -> str:
    """What a value is, for a message: "None", "a list", ..."""
    return "None" if value is None else f"a {type(value).__name__}"


def picture_name(number: int, seed: int | None) -> str:
    """How a message names a picture of a call."""
    return f"picture {number}" + (f" (seed {seed})" if seed is not None else "")
