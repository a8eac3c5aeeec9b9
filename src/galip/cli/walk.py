"""`galip walk`: from image to image, as a video or a folder of frames."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from galip.cli.options import (
    AUTO,
    BATCH_SIZE,
    BatchSizeOption,
    DeviceOption,
    EngineOption,
    ModelOption,
    PrecisionOption,
    QuietOption,
    ResampleOption,
    SizeOption,
    ThreadsOption,
    TruncationOption,
    check_truncation,
    parse_seeds,
)
from galip.cli.running import counted, open_model, texts_of
from galip.errors import InputError
from galip.latent.clip import has_own_clip
from galip.latent.interpolation import Easing
from galip.latent.keyframes import Keep, Keyframe, kept, pair_up, read_keyframes
from galip.latent.speeds import Speed, clip_features
from galip.model_repo.resolve import DEFAULT_MODEL, weights_of
from galip.utils.image_io import resized
from galip.utils.terminal import amount, note, progress_bars, say
from galip.utils.video import check_size, check_video, writing

if TYPE_CHECKING:
    from galip.generation.pipeline import TextToImage
    from galip.latent.speeds import Features


def walk(
    prompts: Annotated[list[str] | None, typer.Argument(help="Prompts to lead through, in this order.")] = None,
    keyframes: Annotated[
        Path | None, typer.Option(help="A YAML or JSON file of keyframes instead: prompts and seeds.")
    ] = None,
    seed: Annotated[
        str | None,
        typer.Option(
            help="Seeds to lead through: one for all prompts (which keeps the style), one for each of them, or "
            "several with one prompt (which keeps that). Like 7, 0-3, or 1,5,9. [default: one, random]"
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("-o", "--out", help="A .mp4, .webp or .gif, or a name without ending: a folder of frames.")
    ] = Path("walk.webp"),
    frames: Annotated[int, typer.Option(min=1, help="Frames from each keyframe to the next.")] = 24,
    fps: Annotated[float, typer.Option(help="Frames per second.")] = 24.0,
    loop: Annotated[bool, typer.Option("--loop", help="Lead back to the first keyframe.")] = False,
    easing: Annotated[Easing, typer.Option(help="How a leg is run through; smooth rests at keyframes.")] = "linear",
    keep: Annotated[
        Keep | None,
        typer.Option(help="Keep the first keyframe's style (its noise) or prompt, and let only the other change."),
    ] = None,
    speed: Annotated[
        Speed,
        typer.Option(
            help="What is constant: even, steps in the space; clip, the change that the model's CLIP sees; pixels, the "
            "change of the pixels. The latter two generate 32 images more for each keyframe."
        ),
    ] = "even",
    truncation: TruncationOption = 1.0,
    size: SizeOption = None,
    resample: ResampleOption = "lanczos",
    model: ModelOption = DEFAULT_MODEL,
    batch_size: BatchSizeOption = BATCH_SIZE,
    device: DeviceOption = None,
    engine: EngineOption = AUTO,
    precision: PrecisionOption = None,
    threads: ThreadsOption = None,
    quiet: QuietOption = False,
) -> None:
    """Walk from image to image.

    Each frame is generated, written and forgotten, so that a video may be as long as the disk holds. It gets its name
    when it is whole.
    """
    started = time.monotonic()
    stops = kept(_keyframes(prompts or [], keyframes, seed), keep)
    check_truncation(truncation)
    check_video(out, fps, size)
    weights = weights_of(model)
    if speed == "clip" and not has_own_clip(model):
        raise InputError(f"--speed clip: {model} has no CLIP of its own that sees images; use --speed pixels")

    from galip.latent.walks import walk as generate_walk

    pipe = open_model(model, engine=engine, device=device, precision=precision, threads=threads)
    side = size or pipe.sizes.image_size
    check_size(out, (side, side))
    with progress_bars(shown=not quiet) as progress:
        images = generate_walk(
            pipe,
            stops,
            frames,
            loop=loop,
            easing=easing,
            speed=_features(speed, pipe, model),
            truncation=truncation,
            batch_size=batch_size,
            progress=progress,
        )
        texts = texts_of(model, weights, truncation, precision) | {
            "walk": "\n".join(map(str, stops)),
            "frames": f"{len(images)}, {'looping, ' if loop else ''}{easing}, {speed} speed",
        }
        with writing(out, fps, texts) as video:
            for frame in counted(images, lambda done: progress("generating", done, len(images))):
                video.write(resized(frame, side, resample))
    say(out)
    if not quiet:
        note(f"{amount(len(images), 'frame')}, {len(images) / fps:.1f} seconds at {fps:g} per second: {out}")
        _tell(stops)
        note(f"{time.monotonic() - started:.1f} seconds")


def _keyframes(prompts: Sequence[str], file: Path | None, seed: str | None) -> list[Keyframe]:
    seeds = None if seed is None else parse_seeds(seed)
    if file is not None:
        if prompts:
            raise InputError("prompts and --keyframes are given: the prompts of a walk come from one of them")
        if seeds is not None and len(seeds) > 1:
            raise InputError(f"--seed {seed} with --keyframes: give one seed, for keyframes without one, or none")
        found = read_keyframes(file, _random_seed() if seeds is None else seeds[0])
    elif not prompts:
        raise InputError('nowhere to go: give prompts, as in galip walk "a red heart" "a sleepy cat", or --keyframes')
    else:
        found = pair_up(prompts, [_random_seed()] if seeds is None else seeds)
    if len(found) < 2:
        raise InputError("one keyframe is not a walk: give two prompts or more, or one with several seeds: --seed 0-3")
    return found


def _features(speed: Speed, pipe: TextToImage, model: str) -> Speed | Features:
    """What measures the speed."""
    if speed != "clip":
        return speed
    from galip.latent.clip import scorer_for

    return clip_features(scorer_for(pipe, model=model))


def _tell(stops: Sequence[Keyframe]) -> None:
    """Name the keyframes, so that the command can be repeated."""
    shown = 8
    for stop in stops[:shown]:
        note(f"  {stop}")
    if len(stops) > shown:
        note(f"  ... {len(stops)} in all")


def _random_seed() -> int:
    return secrets.randbits(31)
