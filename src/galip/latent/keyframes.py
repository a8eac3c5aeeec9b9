"""Keyframes: the pictures that a walk leads through."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import yaml
from numpy.typing import NDArray

from galip.errors import InputError
from galip.generation.noise import check_seed, noise
from galip.generation.prompts import clean_caption
from galip.latent.mixing import default_fine_from, per_stage
from galip.latent.pipelines import Drawing, check_vector, embed, sizes

Array = NDArray[np.float32]

Keep = Literal["style", "caption"]
"""What stays the same on a walk: the noise, which holds pose, layout and style, or the caption."""

MOST = 10_000
"""More keyframes than this in one file are taken for another kind of file."""


@dataclass(frozen=True)
class Keyframe:
    """A picture named by what draws it.

    Attributes:
        prompt: its caption.
        seed: its seed.
        fine: another caption for the fine up-blocks (see `galip.latent.mixing`); None: the same for all.
    """

    prompt: str
    seed: int
    fine: str | None = None

    def __str__(self) -> str:
        mixed = "" if self.fine is None else f" / {self.fine}"
        return f"{self.prompt}{mixed} (seed {self.seed})"


@dataclass(frozen=True, eq=False)
class Point:
    """A picture given by its place in the space, for example an inverted one.

    Attributes:
        z: noise [z_dim].
        e: sentence vector [cond_dim], or one for each stage, [num_stages, cond_dim].
        name: what is told of it.
    """

    z: Array
    e: Array
    name: str = "a point"

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, eq=False)
class Places:
    """Where K keyframes lie.

    Attributes:
        z: float32 [K, z_dim].
        e: float32 [K, cond_dim], or [K, num_stages, cond_dim] where one of them is mixed.
    """

    z: Array
    e: Array

    def __len__(self) -> int:
        return len(self.z)


def pair_up(captions: Sequence[str], seeds: Sequence[int]) -> list[Keyframe]:
    """Keyframes of captions and seeds: pairs of them, or one caption for all seeds, or one seed for all captions.

    Raises:
        InputError: there are several of both, and not as many; or a caption or a seed cannot be used.
    """
    words, numbers = [clean_caption(caption) for caption in captions], [check_seed(seed) for seed in seeds]
    if not words or not numbers or (len(words) != len(numbers) and 1 not in (len(words), len(numbers))):
        raise InputError(
            f"{len(words)} captions and {len(numbers)} seeds: give as many of both, or one of one of them, which then "
            "stays the same"
        )
    count = max(len(words), len(numbers))
    words, numbers = (words * count)[:count], (numbers * count)[:count]
    return [Keyframe(caption, seed) for caption, seed in zip(words, numbers, strict=True)]


def kept(keyframes: Sequence[Keyframe], keep: Keep | None) -> list[Keyframe]:
    """The keyframes with the first one's noise ("style") or captions ("caption") for all; None: as they are.

    Raises:
        InputError: there is no such `keep`.
    """
    if keep is None:
        return list(keyframes)
    if keep not in get_args(Keep):
        raise InputError(f"keep {keep!r}: use one of {', '.join(get_args(Keep))}")
    first = keyframes[0]
    if keep == "style":
        return [replace(keyframe, seed=first.seed) for keyframe in keyframes]
    return [replace(keyframe, prompt=first.prompt, fine=first.fine) for keyframe in keyframes]


def read_keyframes(file: Path, seed: int = 0) -> list[Keyframe]:
    """Read keyframes from a YAML or JSON file.

    The file holds a list, or a mapping with the list under `keyframes`. Each entry is a caption, or a mapping with
    `prompt`, `seed` and `fine`; of these, what is left out stays as it was in the entry before, and `fine: null` ends
    the mixing.

        keyframes:
          - {prompt: a red heart, seed: 7}
          - {prompt: a blue heart}
          - {seed: 12}

    Args:
        file: it ends in .json, or is read as YAML.
        seed: of the first entries, as long as none is named.

    Raises:
        InputError: it is no such file; the message names the entry.
        OSError: it cannot be read.
    """
    entries = _entries(file)
    keyframes: list[Keyframe] = []
    for number, entry in enumerate(entries, 1):
        try:
            keyframes.append(_keyframe(entry, keyframes[-1] if keyframes else None, seed))
        except InputError as error:
            raise InputError(f"{file}, keyframe {number}: {error}") from None
    return keyframes


def locate(pipe: Drawing, keyframes: Sequence[Keyframe | Point]) -> Places:
    """Noise and sentence vectors of keyframes. Each different caption is encoded once, and by itself.

    Raises:
        InputError: one of them is no keyframe, or does not fit the pipeline's model.
    """
    size = sizes(pipe)
    for number, keyframe in enumerate(keyframes):
        if not isinstance(keyframe, Keyframe | Point):
            raise InputError(
                f"keyframe {number} is {type(keyframe).__name__}: give a Keyframe(prompt, seed) or a Point"
            )
    named = [keyframe for keyframe in keyframes if isinstance(keyframe, Keyframe)]
    texts = list(dict.fromkeys(text for frame in named for text in (frame.prompt, frame.fine) if text is not None))
    # In a batch of captions a vector is rounded differently, and the picture would not be quite the caption's own.
    vectors = {text: embed(pipe, text)[0] for text in texts}
    zs, es = [], []
    for number, keyframe in enumerate(keyframes):
        if isinstance(keyframe, Keyframe):
            zs.append(noise([keyframe.seed], size.z_dim)[0])
            e = vectors[keyframe.prompt]
            if keyframe.fine is not None:
                e = np.repeat(e[None], size.num_stages, axis=0)
                e[default_fine_from(size.num_stages) :] = vectors[keyframe.fine]
            es.append(e)
        else:
            zs.append(check_vector(f"z of keyframe {number}", keyframe.z, (size.z_dim,)))
            shapes = ((size.cond_dim,), (size.num_stages, size.cond_dim))
            es.append(check_vector(f"e of keyframe {number}", keyframe.e, *shapes))
    return Places(np.stack(zs), per_stage(es, size.num_stages))


def _entries(file: Path) -> list[Any]:
    text = file.read_bytes()
    try:
        content = json.loads(text) if file.suffix.lower() == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:  # also bytes that are no text
        reason = " ".join(str(error).split())
        raise InputError(
            f"{file}: it is neither YAML nor JSON ({reason}); see docs/control.md for an example"
        ) from None
    if isinstance(content, dict):
        if unknown := [name for name in content if name != "keyframes"]:
            raise InputError(f"{file}: {unknown[0]!r} is not known; a list of keyframes is needed, or keyframes: [...]")
        content = content.get("keyframes")
    if not isinstance(content, list) or not content:
        raise InputError(f"{file}: it holds no list of keyframes; see docs/control.md for an example")
    if len(content) > MOST:
        raise InputError(f"{file}: it holds {len(content):,} keyframes, more than {MOST:,}")
    return content


def _keyframe(entry: Any, before: Keyframe | None, seed: int) -> Keyframe:
    if isinstance(entry, str):
        entry = {"prompt": entry}
    if not isinstance(entry, dict):
        raise InputError(f"{entry!r} is neither a caption nor a mapping with prompt, seed and fine")
    if unknown := [name for name in entry if name not in ("prompt", "seed", "fine")]:
        raise InputError(f"{unknown[0]!r} is not known; use prompt, seed and fine")
    if before is None:
        if "prompt" not in entry:
            raise InputError("it has no prompt, and there is none before it")
        before = Keyframe("", seed)
    prompt, number, fine = (entry.get(name, getattr(before, name)) for name in ("prompt", "seed", "fine"))
    for name, text in (("prompt", prompt), ("fine", fine)):
        if not isinstance(text, str) and not (name == "fine" and text is None):
            raise InputError(f"{name} is {text!r}: a caption is a string; put it in quotes")
    return Keyframe(clean_caption(prompt), check_seed(number), None if fine is None else clean_caption(fine))
