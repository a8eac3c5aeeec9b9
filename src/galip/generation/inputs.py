"""The arguments of a call, checked and turned into batches of noise and sentence vectors."""

from __future__ import annotations

import math
import operator
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from galip.errors import InputError
from galip.generation.noise import check_seed, noise, shown_number
from galip.generation.output import OutputType
from galip.generation.prompts import clean_caption
from galip.utils.arrays import FloatArray

BATCH_SIZE = 16
"""Images that are generated together unless the caller says otherwise."""

RANDOM_SEED_BITS = 32
"""Seeds picked for the caller are short enough to be copied by hand."""

MAX_TRUNCATION = 1000.0
"""Noise that is longer by so much is no noise that any generator was trained with."""

MAX_THREADS = 1024

_ENCODED_AT_ONCE = 256


@dataclass(frozen=True)
class Batch:
    """Images that are generated together.

    Attributes:
        start: number of the first of them in the call.
        z: float32 [B, z_dim], their noise, already multiplied by the truncation.
        e: float32 [B, cond_dim] or [B, num_stages, cond_dim], their sentence vectors.
        seeds: of the noise; None where it did not come from seeds.
    """

    start: int
    z: FloatArray
    e: FloatArray
    seeds: list[int] | None


@dataclass(frozen=True)
class GenerationPlan:
    """A call, checked.

    Attributes:
        total: number of images (N).
        per_prompt: images of each prompt; image i belongs to prompt i // per_prompt.
        vectors: numbers of prompts -> their sentence vectors [B, cond_dim] or [B, num_stages, cond_dim].
        noise: the noise [N, z_dim], or `Seeds`.
        z_dim: length of the noise.
        truncation: multiplies the noise.
        batch_size: images generated at once.
    """

    total: int
    per_prompt: int
    vectors: Callable[[list[int]], FloatArray]
    noise: FloatArray | Seeds
    z_dim: int
    truncation: float
    batch_size: int

    def batches(self) -> Iterator[Batch]:
        """The batches in the order of the images, made as they are asked for."""
        for start in range(0, self.total, self.batch_size):
            numbers = range(start, min(start + self.batch_size, self.total))
            if isinstance(self.noise, Seeds):
                seeds = self.noise.of(numbers)
                z = noise(seeds, self.z_dim)
            else:
                seeds, z = None, self.noise[numbers.start : numbers.stop]
            with np.errstate(over="ignore"):  # what is not finite is found in the image
                z = z * np.float32(self.truncation)
            yield Batch(start, z, self.vectors([i // self.per_prompt for i in numbers]), seeds)


class Seeds:
    """A seed for each image of a call, all images of one prompt together; made as they are asked for.

    Args:
        seed: None for random ones; the first one of every prompt's images; or one for each image.
        total: number of images.
        per_prompt: images of each prompt.

    Raises:
        InputError: a seed cannot be used, or there are too many or too few.
    """

    def __init__(self, seed: Any, total: int, per_prompt: int) -> None:
        self._first, self._per_prompt = None, per_prompt
        self._each: list[int] | None = None
        if seed is None:
            return
        if (isinstance(seed, Sequence) and not isinstance(seed, str | bytes)) or np.ndim(seed) == 1:
            if len(seed) != total:
                raise InputError(
                    f"seed is a list of {len(seed)}: give one for each of the {total} images "
                    f"({total // per_prompt} prompts, {per_prompt} each), or a single first seed"
                )
            self._each = [check_seed(s) for s in seed]
            return
        self._first = check_seed(seed)
        check_seed(self._first + per_prompt - 1)

    def of(self, numbers: Sequence[int]) -> list[int]:
        """Seeds of the images with these numbers. Random ones are new at every call."""
        if self._each is not None:
            return [self._each[i] for i in numbers]
        if self._first is None:
            return [secrets.randbits(RANDOM_SEED_BITS) for _ in numbers]
        return [self._first + i % self._per_prompt for i in numbers]


class PromptVectors:
    """Sentence vectors of a call's prompts: each different one is encoded once, shortly before it is first needed.

    So the first image of a long list does not wait for the last prompt.

    Args:
        encode: prompts -> their vectors [N, D].
        prompts: cleaned; one for each number.
    """

    def __init__(self, encode: Callable[[list[str]], FloatArray], prompts: Sequence[str]) -> None:
        self._encode = encode
        index = {prompt: i for i, prompt in enumerate(dict.fromkeys(prompts))}
        self._distinct = list(index)
        self._index = [index[prompt] for prompt in prompts]
        self._vectors: list[FloatArray] = []

    def __call__(self, numbers: Sequence[int]) -> FloatArray:
        """Vectors [B, D] of the prompts with these numbers."""
        wanted = [self._index[i] for i in numbers]
        while len(self._vectors) <= max(wanted):
            done = len(self._vectors)
            self._vectors.extend(self._encode(self._distinct[done : done + _ENCODED_AT_ONCE]))
        return np.stack([self._vectors[i] for i in wanted])


def check_output_type(output_type: Any, allowed: Sequence[str] = get_args(OutputType)) -> OutputType:
    """`output_type`, which must be one of `allowed`.

    Raises:
        InputError: it is not.
    """
    if output_type in get_args(OutputType) and output_type not in allowed:
        raise InputError(f"output_type {output_type!r} needs torch: load the model with engine='torch', or use 'np'")
    if output_type not in allowed:
        raise InputError(f"output_type {output_type!r}: use one of {', '.join(map(repr, allowed))}")
    return output_type  # type: ignore[no-any-return]


def check_one_of_prompt_and_embeds(prompt: Any, prompt_embeds: Any) -> None:
    """Exactly one of the two says what to generate.

    Raises:
        InputError: both or neither are given.
    """
    if (prompt is None) == (prompt_embeds is None):
        raise InputError("give either prompt or prompt_embeds" + (", not both" if prompt is not None else ""))


def clean_prompts(prompt: Any) -> list[str]:
    """A prompt or a list of prompts as a list of cleaned prompts.

    Raises:
        InputError: it is neither, there are none, or one is empty or not a text.
    """
    prompts = [prompt] if isinstance(prompt, str) else prompt
    if not isinstance(prompts, Sequence) or isinstance(prompts, bytes):
        raise InputError(f"prompt is {kind(prompt)}: give a prompt or a list of prompts")
    if len(prompts) == 0:
        raise InputError("prompt is an empty list: give at least one prompt")
    for i, one in enumerate(prompts):
        if not isinstance(one, str):
            raise InputError(f"prompt {i} is {kind(one)}: a prompt is a string")
    cleaned = {one: clean_caption(one) for one in dict.fromkeys(prompts)}
    return [cleaned[one] for one in prompts]


def check_embeds(embeds: Any, stages: int, cond_dim: int) -> FloatArray:
    """`prompt_embeds` as float32 [P, cond_dim] or [P, stages, cond_dim], P at least 1.

    Raises:
        InputError: it is not an array of finite floats, or of another shape.
    """
    if not isinstance(embeds, np.ndarray) or not np.issubdtype(embeds.dtype, np.floating):
        raise InputError(f"prompt_embeds is {kind(embeds)}: give a float array, for example encode_prompt(...)")
    if 0 in embeds.shape or embeds.shape[1:] not in ((cond_dim,), (stages, cond_dim)):
        raise InputError(
            f"prompt_embeds has shape {list(embeds.shape)}: give one vector for each prompt, [P, {cond_dim}], "
            f"or one for each of the generator's stages, [P, {stages}, {cond_dim}]"
        )
    if not np.isfinite(embeds).all():
        raise InputError("prompt_embeds holds numbers that are not finite")
    return embeds.astype(np.float32)


def check_latents(latents: Any, total: int, z_dim: int) -> FloatArray:
    """`latents` as float32 [total, z_dim].

    Raises:
        InputError: it is not an array of finite floats, or of another shape.
    """
    if not isinstance(latents, np.ndarray):
        raise InputError(f"latents is {kind(latents)}: give the noise as an array [{total}, {z_dim}]")
    if latents.shape != (total, z_dim):
        raise InputError(f"latents has shape {list(latents.shape)}: give noise for each image, [{total}, {z_dim}]")
    if not np.issubdtype(latents.dtype, np.floating) or not np.isfinite(latents).all():
        raise InputError("latents must be finite floating-point numbers, about normally distributed")
    return latents.astype(np.float32)


def check_vector(name: str, value: Any, *shapes: tuple[int, ...]) -> FloatArray:
    """A finite array of one of these shapes, as float32.

    Raises:
        InputError: it is of another kind or shape; the message names the argument.
    """
    array = np.asarray(value)
    if array.shape not in shapes:
        expected = " or ".join(str(list(shape)) for shape in shapes)
        raise InputError(f"{name} has shape {list(array.shape)}: {expected} is needed")
    if not np.issubdtype(array.dtype, np.floating) or not np.isfinite(array).all():
        raise InputError(f"{name} must hold finite floating-point numbers")
    return array.astype(np.float32)


def check_one_source_of_noise(**given: Any) -> None:
    """At most one of the arguments that noise can come from is given, that is, not None.

    Raises:
        InputError: there are more.
    """
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise InputError(f"{' and '.join(names)} are given: the noise can come from one of them only")


def seeds_of(seed: Any, total: int, per_prompt: int) -> list[int]:
    """A seed for each image, all images of one prompt together; see `Seeds`."""
    return Seeds(seed, total, per_prompt).of(range(total))


def truncation_factor(truncation: Any) -> float:
    """What the noise is multiplied by: a number of at most `MAX_TRUNCATION` in size.

    Raises:
        InputError: it is not.
    """
    number = finite("truncation", truncation)
    if abs(number) > MAX_TRUNCATION:
        raise InputError(f"truncation is {number:g}: give about 0 to 1; 1 leaves the noise as it is")
    return number


def check_threads(threads: Any) -> int:
    """A number of CPU threads, from 1 to `MAX_THREADS`.

    Raises:
        InputError: it is not.
    """
    count = positive_int("threads", threads)
    if count > MAX_THREADS:
        raise InputError(f"threads is {shown_number(count)}: give at most {MAX_THREADS}")
    return count


def positive_int(name: str, value: Any) -> int:
    """A whole number of at least 1.

    Raises:
        InputError: it is not; the message names the argument.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise InputError(f"{name} is {value!r}: give a whole number, at least 1") from None
    if number < 1:
        raise InputError(f"{name} is {shown_number(number)}: give at least 1")
    return number


def finite(name: str, value: Any) -> float:
    """A finite number.

    Raises:
        InputError: it is not; the message names the argument.
    """
    try:
        number = math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        shown = shown_number(value) if isinstance(value, int) else repr(value)
        raise InputError(f"{name} is {shown}: give a finite number")
    return number


_ITERATIVE = "a GAN generates in one forward pass, without steps"
_GUIDANCE = "GALIP has no guidance; `truncation` below 1 makes images more typical"
_WHY_NOT = {
    **dict.fromkeys(("num_inference_steps", "timesteps", "sigmas", "eta", "strength"), _ITERATIVE),
    **dict.fromkeys(("callback", "callback_steps", "callback_on_step_end"), f"{_ITERATIVE}; see `progress`"),
    **dict.fromkeys(("guidance_scale", "guidance_rescale", "true_cfg_scale"), _GUIDANCE),
    **dict.fromkeys(("negative_prompt", "negative_prompt_embeds"), "GALIP has no guidance"),
    **dict.fromkeys(("image", "mask_image"), "GALIP starts from noise; galip.latent finds the noise of an image"),
    **dict.fromkeys(("clip_skip", "cross_attention_kwargs", "pooled_prompt_embeds"), "GALIP has no such network"),
}


def check_others(others: Mapping[str, Any]) -> None:
    """Refuse arguments that a call does not have, in words where diffusers' other pipelines have them.

    Raises:
        InputError: one that diffusers knows has a value.
        TypeError: nobody knows one.
    """
    for name, value in others.items():
        if name == "callback_on_step_end_tensor_inputs" or (name in _WHY_NOT and value is None):
            continue
        if name not in _WHY_NOT:
            raise TypeError(f"__call__() got an unexpected keyword argument {name!r}")
        raise InputError(f"{name}: {_WHY_NOT[name]}; leave it out")


def kind(value: Any) -> str:
    """What a value is, for a message: "None", "a list", ..."""
    return "None" if value is None else f"a {type(value).__name__}"


def image_name(number: int, seed: int | None) -> str:
    """How a message names an image of a call."""
    return f"image {number}" + (f" (seed {seed})" if seed is not None else "")
