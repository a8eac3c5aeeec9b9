"""`galip walk`: from picture to picture, as a film or a folder of frames."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.console import Console

from galip.cli.drawing import amount, counted, open_model, plain_warnings, progress_bar, texts_of
from galip.cli.options import (
    BATCH_SIZE,
    BatchSizeOption,
    DeviceOption,
    EngineOption,
    ModelOption,
    ResampleOption,
    SizeOption,
    ThreadsOption,
    TruncationOption,
    check_resample,
    check_truncation,
    parse_seeds,
)
from galip.errors import InputError
from galip.generation.select import AUTO, check_engine
from galip.latent.clip import has_own_clip
from galip.latent.interpolation import check_easing
from galip.latent.keyframes import Keyframe, kept, pair_up, read_keyframes
from galip.latent.speeds import check_speed, look_by
from galip.model_repo.resolve import DEFAULT_MODEL, fetch, weights_of
from galip.utils.image_io import resized
from galip.utils.video import check_size, check_video, writing

if TYPE_CHECKING:
    from galip.latent.keyframes import Keep
    from galip.latent.speeds import Look, Speed


def walk(
    captions: Annotated[list[str] | None, typer.Argument(help="Captions to lead through, in this order.")] = None,
    keyframes: Annotated[
        Path | None, typer.Option(help="A YAML or JSON file of keyframes instead: captions and seeds.")
    ] = None,
    seed: Annotated[
        str | None,
        typer.Option(
            help="Seeds to lead through: one for all captions (which keeps the style), one for each of them, or "
            "several with one caption (which keeps that). Like 7, 0-3, or 1,5,9. [default: one, random]"
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("-o", "--out", help="A .mp4, .webp or .gif, or a name without ending: a folder of frames.")
    ] = Path("walk.webp"),
    frames: Annotated[int, typer.Option(min=1, help="Frames from each keyframe to the next.")] = 24,
    fps: Annotated[float, typer.Option(help="Frames per second.")] = 24.0,
    loop: Annotated[bool, typer.Option("--loop", help="Lead back to the first keyframe.")] = False,
    easing: Annotated[
        str, typer.Option(help="linear; smooth, which rests at keyframes; ease-in; ease-out.")
    ] = "linear",
    keep: Annotated[
        str | None,
        typer.Option(help="Keep the first keyframe's style (its noise) or caption, and let only the other change."),
    ] = None,
    speed: Annotated[
        str,
        typer.Option(
            help="What is constant: even, steps in the space; clip, the change that the model's CLIP sees; pixels, the "
            "change of the pixels. The latter two draw 32 pictures more for each keyframe."
        ),
    ] = "even",
    truncation: TruncationOption = 1.0,
    size: SizeOption = None,
    resample: ResampleOption = "lanczos",
    model: ModelOption = DEFAULT_MODEL,
    batch_size: BatchSizeOption = BATCH_SIZE,
    device: DeviceOption = None,
    engine: EngineOption = AUTO,
    threads: ThreadsOption = None,
) -> None:
    """Walk from picture to picture.

    Each frame is drawn, written and forgotten, so that a film may be as long as the disk holds. It is there under its
    name when it is whole.
    """
    started = time.monotonic()
    stops = kept(_keyframes(captions or [], keyframes, seed), cast("Keep | None", keep))
    way, pace, resampling = check_easing(easing), check_speed(speed), check_resample(resample)
    check_truncation(truncation)
    check_engine(engine)
    check_video(out, fps, size)
    weights = weights_of(model)
    if pace == "clip" and not has_own_clip(model):
        raise InputError(f"--speed clip: {model} has no CLIP of its own that sees pictures; use --speed pixels")

    from galip.latent.pipelines import sizes
    from galip.latent.walks import walk as draw_walk

    console = Console(stderr=True, highlight=False)
    with plain_warnings(console):
        pipe = open_model(model, device, engine, threads, console)
        side = size or sizes(pipe).image_size
        check_size(out, (side, side))
        legs = len(stops) - (0 if loop else 1)
        with progress_bar(console, "measuring", legs if pace != "even" else 0, 1) as update:
            drawn = draw_walk(
                pipe,
                stops,
                frames,
                loop=loop,
                easing=way,
                speed=_look(pace, pipe, model),
                truncation=truncation,
                batch_size=batch_size,
                progress=lambda done, total: update(done * legs // total),
            )
        texts = texts_of(model, weights, truncation) | {
            "walk": "\n".join(map(str, stops)),
            "frames": f"{len(drawn)}, {'looping, ' if loop else ''}{way}, {pace} speed",
        }
        with (
            writing(out, fps, texts) as film,
            progress_bar(console, "drawing", len(drawn), batch_size) as update,
        ):
            for frame in counted(drawn, update):
                film.write(resized(frame, side, resampling))

    print(f"{amount(len(drawn), 'frame')} drawn, {len(drawn) / fps:.1f} seconds at {fps:g} per second: {out}")
    _tell(stops)
    print(f"{time.monotonic() - started:.1f} seconds")


def _keyframes(captions: Sequence[str], file: Path | None, seed: str | None) -> list[Keyframe]:
    seeds = None if seed is None else parse_seeds(seed)
    if file is not None:
        if captions:
            raise InputError("captions and --keyframes are given: the captions of a walk come from one of them")
        if seeds is not None and len(seeds) > 1:
            raise InputError(f"--seed {seed} with --keyframes: give one seed, for keyframes without one, or none")
        found = read_keyframes(file, _random_seed() if seeds is None else seeds[0])
    elif not captions:
        raise InputError('nowhere to go: give captions, as in galip walk "a red heart" "a sleepy cat", or --keyframes')
    else:
        found = pair_up(captions, [_random_seed()] if seeds is None else seeds)
    if len(found) < 2:
        raise InputError("one keyframe is no walk: give two captions or more, or one with several seeds, as --seed 0-3")
    return found


def _look(speed: Speed, pipe: Any, model: str) -> Speed | Look:
    """What measures: an engine's pipeline has no CLIP that sees, but the folder that it was made from has."""
    if speed != "clip" or hasattr(pipe, "vision"):
        return speed
    from galip.latent.clip import open_clip

    return look_by(open_clip(str(fetch(model))))


def _tell(stops: Sequence[Keyframe]) -> None:
    """Name the keyframes, so that the command can be repeated."""
    shown = 8
    for stop in stops[:shown]:
        print(f"  {stop}")
    if len(stops) > shown:
        print(f"  ... {len(stops)} in all")


def _random_seed() -> int:
    return secrets.randbits(31)
