"""Options that more than one command has, and how their values are read."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from galip.errors import InputError
from galip.generation.noise import check_seed
from galip.utils.image_io import ImageFormat, Resampling

BATCH_SIZE = 16
"""Images generated at once unless the user says otherwise."""

MAX_SEEDS = 1_000_000
"""More seeds than this in one option are taken for a slip of the finger."""

MAX_THREADS = 1024
"""More threads than this in one option are taken for a slip of the finger."""

MAX_SIZE = 8192
"""The largest side in pixels that images are brought to."""

EngineName = Literal["auto", "onnxruntime", "openvino", "torch", "compile"]
AUTO: EngineName = "auto"
PrecisionName = Literal["fp32", "bf16", "fp16", "int8", "auto"]
DType = Literal["float32", "float16", "bfloat16"]
Cluster = Literal["ray"]


def _known_models(incomplete: str) -> list[str]:
    """Names of models for the shell's completion."""
    from galip.cli.models import known_models

    return [model.name for model in known_models() if model.name.startswith(incomplete)]


_MODEL = "A bundled model's name, a folder, or a hub id."
ModelArgument = Annotated[str, typer.Argument(help=_MODEL, autocompletion=_known_models)]
ModelOption = Annotated[str, typer.Option(help=_MODEL, autocompletion=_known_models)]
EngineOption = Annotated[
    EngineName,
    typer.Option(
        help="What runs the model: onnxruntime; openvino, faster on some processors; torch; compile, which is "
        "torch.compile; auto, what fits the model and the device. Images are the same."
    ),
]
DeviceOption = Annotated[
    str | None, typer.Option(help="cpu; cuda, cuda:1, mps with torch. [default: a GPU if the engine finds one]")
]
DTypeOption = Annotated[
    DType | None, typer.Option(help="Type of the weights while generating, with torch. [default: float32 on a CPU]")
]
PrecisionOption = Annotated[
    PrecisionName | None,
    typer.Option(
        help="What the generator computes in, where the machine can: fp32, the same images on any machine; bf16, fp16; "
        "int8, quantised the first time; auto, the fastest within two levels of 255 of fp32, measured the first time. "
        "[default: fp32; on a GPU as the weights are stored]"
    ),
]
ThreadsOption = Annotated[
    int | None, typer.Option(min=1, max=MAX_THREADS, help="CPU threads. [default: the engine's own choice]")
]
BatchSizeOption = Annotated[
    int, typer.Option(min=1, max=4096, help="Images generated at once; changes speed and memory only.")
]
TruncationOption = Annotated[
    float, typer.Option(help="Scale of the noise: below 1 for more typical, less varied images.")
]
SizeOption = Annotated[
    int | None, typer.Option(min=1, max=MAX_SIZE, help="Side of each image in pixels. [default: the model's]")
]
ResampleOption = Annotated[Resampling, typer.Option(help="How --size is reached; nearest shows the pixels.")]
FormatOption = Annotated[ImageFormat, typer.Option(help="Format of the files.")]
QualityOption = Annotated[int, typer.Option(min=1, max=100, help="Of WebP and JPEG.")]
QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="Print paths and warnings only.")]
OldOut = Annotated[Path | None, typer.Argument(hidden=True, metavar="OUT")]
"""What is written, as an argument: the last version's way, see `one_out`."""

ClusterOption = Annotated[
    Cluster | None, typer.Option(help="Run on Ray: this machine's GPUs, or the cluster at RAY_ADDRESS.")
]

_PART = re.compile(r"([0-9]{1,19})(?:-([0-9]{1,19}))?")
_MAX_SHOWN = 60


def one_out(out: Path | None, argument: Path | None, what: str) -> Path:
    """What a command writes: the value of -o, or the argument that the last version took.

    Args:
        out: of -o.
        argument: of `OldOut`.
        what: what it is, for the message.

    Raises:
        InputError: both or neither are given.
    """
    if out is not None and argument is not None:
        raise InputError(f"-o {out} and {argument}: {what} is named twice; leave {argument} out")
    if argument is not None:
        warnings.warn(
            f"{argument}: name {what} with -o; the argument goes with the next release", DeprecationWarning, 2
        )
        return argument
    if out is None:
        raise InputError(f"-o is missing: name {what}")
    return out


def parse_seeds(text: str) -> Sequence[int]:
    """Read seeds such as "7", "0-3" (both ends included) or "0-3,7".

    Returns:
        The seeds in the order given.

    Raises:
        InputError: if the text is no such list, a range runs backwards, a seed is repeated or out of range.
    """
    seeds: dict[int, None] = {}
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        if match is None:
            raise InputError(
                f"seeds {shortened(text)!r}: {shortened(part.strip())!r} is not a seed; write them like 7, 0-3 or 0-3,7"
            )
        first = check_seed(int(match[1]))
        last = first if match[2] is None else check_seed(int(match[2]))
        if last < first:
            raise InputError(f"seeds {shortened(text)!r}: the range {part.strip()} runs backwards")
        if len(seeds) + last - first >= MAX_SEEDS:
            raise InputError(f"seeds {shortened(text)!r}: more than {MAX_SEEDS:,} of them")
        for seed in range(first, last + 1):
            if seed in seeds:
                raise InputError(f"seeds {shortened(text)!r}: {seed} is there twice")
            seeds[seed] = None
    return list(seeds)


def shown_seeds(seeds: Sequence[int]) -> str:
    """Seeds as an option would name them: "0-3" or "1,5,9"."""
    if len(seeds) > 1 and seeds[-1] - seeds[0] == len(seeds) - 1:
        return f"{seeds[0]}-{seeds[-1]}"
    return ",".join(map(str, seeds))


def shortened(text: str) -> str:
    """A value for a message: its beginning, where it is long."""
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def check_truncation(truncation: float) -> None:
    """Make sure that the noise can be multiplied by it.

    Raises:
        InputError: it is not finite, or out of range.
    """
    from galip.generation.inputs import MAX_TRUNCATION

    if not math.isfinite(truncation):
        raise InputError(f"--truncation {truncation}: give a finite number, 1 for the noise as it is")
    if abs(truncation) > MAX_TRUNCATION:
        raise InputError(f"--truncation {truncation:g}: give about 0 to 1; 1 leaves the noise as it is")


def parse_numbers(option: str, text: str) -> list[float]:
    """Read numbers such as "-1,0,0.5".

    Raises:
        InputError: if the text is no such list; the message names the option.
    """
    numbers = []
    for part in text.split(","):
        try:
            number = float(part)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise InputError(
                f"{option} {shortened(text)}: {shortened(part.strip())!r} is not a number; write them like -1,0,0.5"
            )
        numbers.append(number)
    return numbers
