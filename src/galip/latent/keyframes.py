"""Keyframes: the images that a walk leads through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from galip._deprecated import renamed_arguments
from galip.errors import InputError
from galip.generation.inputs import check_vector
from galip.generation.noise import check_seed, noise
from galip.generation.pipeline import TextToImage
from galip.generation.prompts import clean_caption
from galip.latent.mixing import default_fine_from, per_stage
from galip.utils.arrays import FloatArray
from galip.utils.checks import one_of
from galip.utils.untrusted import MAX_YAML_BYTES, parse_json, parse_yaml

Keep = Literal["style", "caption"]
"""What stays the same on a walk: the noise, which holds pose, layout and style, or the prompt ("caption")."""

MAX_KEYFRAMES = 10_000
"""More keyframes than this in one file are taken for another kind of file."""


@dataclass(frozen=True)
class Keyframe:
    """An image named by its prompt and seed.

    Attributes:
        prompt: what it shows.
        seed: its seed.
        fine: another prompt for the fine up-blocks (see `galip.latent.mixing`); None: the same for all.
    """

    prompt: str
    seed: int
    fine: str | None = None

    def __str__(self) -> str:
        mixed = "" if self.fine is None else f" / {self.fine}"
        return f"{self.prompt}{mixed} (seed {self.seed})"


@dataclass(frozen=True, eq=False)
class Point:
    """An image given by its place in the space, for example an inverted one.

    Attributes:
        z: noise [z_dim].
        e: sentence vector [cond_dim], or one for each stage, [num_stages, cond_dim].
        name: what is told of it.
    """

    z: FloatArray
    e: FloatArray
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

    z: FloatArray
    e: FloatArray

    def __len__(self) -> int:
        return len(self.z)


@renamed_arguments(captions="prompts")
def pair_up(prompts: Sequence[str], seeds: Sequence[int]) -> list[Keyframe]:
    """Keyframes of prompts and seeds: pairs of them, or one prompt for all seeds, or one seed for all prompts.

    Raises:
        InputError: there are several of both, and not as many; or a prompt or a seed cannot be used.
    """
    words, numbers = [clean_caption(prompt) for prompt in prompts], [check_seed(seed) for seed in seeds]
    if not words or not numbers or (len(words) != len(numbers) and 1 not in (len(words), len(numbers))):
        raise InputError(
            f"{len(words)} prompts and {len(numbers)} seeds: give as many of both, or one of one of them, which then "
            "stays the same"
        )
    count = max(len(words), len(numbers))
    words, numbers = (words * count)[:count], (numbers * count)[:count]
    return [Keyframe(prompt, seed) for prompt, seed in zip(words, numbers, strict=True)]


def kept(keyframes: Sequence[Keyframe], keep: Keep | None) -> list[Keyframe]:
    """The keyframes with the first one's noise ("style") or prompt ("caption") for all; None: as they are.

    Raises:
        InputError: there is no such `keep`.
    """
    if keep is None:
        return list(keyframes)
    one_of("keep", keep, Keep)
    first = keyframes[0]
    if keep == "style":
        return [replace(keyframe, seed=first.seed) for keyframe in keyframes]
    return [replace(keyframe, prompt=first.prompt, fine=first.fine) for keyframe in keyframes]


def read_keyframes(file: Path, seed: int = 0) -> list[Keyframe]:
    """Read keyframes from a YAML or JSON file.

    The file holds a list, or a mapping with the list under `keyframes`. Each entry is a prompt, or a mapping with
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
        InputError: it is not such a file; the message names the entry.
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


def locate(pipe: TextToImage, keyframes: Sequence[Keyframe | Point]) -> Places:
    """Noise and sentence vectors of keyframes. Each different prompt is encoded once, and by itself.

    Raises:
        InputError: one of them is not a keyframe, or does not fit the pipeline's model.
    """
    size = pipe.sizes
    for number, keyframe in enumerate(keyframes):
        if not isinstance(keyframe, Keyframe | Point):
            raise InputError(
                f"keyframe {number} is {type(keyframe).__name__}: give a Keyframe(prompt, seed) or a Point"
            )
    named = [keyframe for keyframe in keyframes if isinstance(keyframe, Keyframe)]
    texts = list(dict.fromkeys(text for frame in named for text in (frame.prompt, frame.fine) if text is not None))
    # In a batch of prompts a vector is rounded differently, and the image would not be quite the prompt's own.
    vectors = {text: pipe.embed(text)[0] for text in texts}
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
    try:
        with file.open("rb") as opened:
            text = opened.read(MAX_YAML_BYTES + 1).decode("utf-8-sig")
        content = parse_json(text) if file.suffix.lower() == ".json" else parse_yaml(text)
    except ValueError as error:  # bytes that are not text, too
        raise InputError(f"{file}: it is neither YAML nor JSON ({error}); see docs/control.md for an example") from None
    if isinstance(content, dict):
        if unknown := [name for name in content if name != "keyframes"]:
            raise InputError(f"{file}: {unknown[0]!r} is not known; a list of keyframes is needed, or keyframes: [...]")
        content = content.get("keyframes")
    if not isinstance(content, list) or not content:
        raise InputError(f"{file}: it does not hold a list of keyframes; see docs/control.md for an example")
    if len(content) > MAX_KEYFRAMES:
        raise InputError(f"{file}: it holds {len(content):,} keyframes, more than {MAX_KEYFRAMES:,}")
    return content


def _keyframe(entry: Any, before: Keyframe | None, seed: int) -> Keyframe:
    if isinstance(entry, str):
        entry = {"prompt": entry}
    if not isinstance(entry, dict):
        raise InputError(f"{entry!r} is neither a prompt nor a mapping with prompt, seed and fine")
    if unknown := [name for name in entry if name not in ("prompt", "seed", "fine")]:
        raise InputError(f"{unknown[0]!r} is not known; use prompt, seed and fine")
    if before is None:
        if "prompt" not in entry:
            raise InputError("it has no prompt, and there is none before it")
        before = Keyframe("", seed)
    prompt, number, fine = (entry.get(name, getattr(before, name)) for name in ("prompt", "seed", "fine"))
    for name, text in (("prompt", prompt), ("fine", fine)):
        if not isinstance(text, str) and not (name == "fine" and text is None):
            raise InputError(f"{name} is {text!r}: a prompt is a string; put it in quotes")
    return Keyframe(clean_caption(prompt), check_seed(number), None if fine is None else clean_caption(fine))
