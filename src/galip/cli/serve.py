"""`galip serve`: the web app and the API."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from pydantic import ValidationError

from galip.cli.options import (
    AUTO,
    ClusterOption,
    DeviceOption,
    EngineOption,
    ModelOption,
    PrecisionOption,
    ThreadsOption,
)
from galip.errors import InputError
from galip.model_repo.resolve import DEFAULT_MODEL, model_name, weights_of
from galip.utils.extras import require

if TYPE_CHECKING:
    from galip.serving.http.settings import Settings


def serve(
    model: ModelOption = DEFAULT_MODEL,
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 lets other machines in.", envvar="GALIP_HOST")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.", envvar="GALIP_PORT")] = 8000,
    engine: EngineOption = AUTO,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    threads: ThreadsOption = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes, each with a model of its own.")] = 1,
    name: Annotated[str | None, typer.Option(help="What clients call the model. [default: its own name]")] = None,
    api_keys: Annotated[
        Path | None,
        typer.Option(
            help="File with keys, one a line; requests must bear one. The variable GALIP_API_KEY may hold one too."
        ),
    ] = None,
    origin: Annotated[
        list[str] | None,
        typer.Option(help="Origin of other web pages that may use the API, such as https://example.org; or *."),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            help="Further name by which requests may call this server, or *. Without a key, at a loopback address, "
            "only this machine's own names are let in otherwise."
        ),
    ] = None,
    root_path: Annotated[str, typer.Option(help="Path that a proxy puts before this server's.")] = "",
    max_prompt: Annotated[int, typer.Option(help="Characters of a prompt.")] = 500,
    max_n: Annotated[int, typer.Option(help="Images of one request.")] = 16,
    max_size: Annotated[int, typer.Option(help="Largest side in pixels that a request may ask for.")] = 2048,
    max_batch: Annotated[int, typer.Option(help="Images generated at once.")] = 16,
    max_queue: Annotated[int, typer.Option(help="Images that may wait; beyond that requests get 429.")] = 64,
    max_frames: Annotated[int, typer.Option(help="Frames of a video.")] = 1200,
    time_limit: Annotated[float, typer.Option(help="Seconds that a request may take.")] = 30.0,
    video_time_limit: Annotated[float, typer.Option(help="Seconds that a video may take.")] = 300.0,
    film_time_limit: Annotated[float | None, typer.Option(hidden=True)] = None,
    cluster: ClusterOption = None,
    replicas: Annotated[
        str, typer.Option(help="With --cluster: how many models, minimum and maximum, such as 1-4; or a number.")
    ] = "1",
    alias: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=MODEL", help="Let requests call the served MODEL by another NAME too, such as gpt-image-1."
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse fields that are unknown, instead of naming them in a header.")
    ] = False,
    log_level: Annotated[Literal["debug", "info", "warning", "error"], typer.Option(help="What is logged.")] = "info",
) -> None:
    """Serve a model: a web app, and an API that OpenAI's clients understand.

    It listens on this machine alone unless told otherwise. Ctrl-C or SIGTERM end it once running requests are answered.
    """
    if cluster is not None:
        require("--cluster ray", "cluster")
    if film_time_limit is not None:
        warnings.warn("--film-time-limit is now --video-time-limit", DeprecationWarning, stacklevel=2)
    weights_of(model)
    keys = _keys(api_keys)
    from galip.serving.http.addresses import allowed_hosts
    from galip.serving.model_worker import ModelSpec

    settings = _settings(
        max_prompt=max_prompt,
        max_n=max_n,
        max_size=max_size,
        max_batch=max_batch,
        max_queue=max_queue,
        max_frames=max_frames,
        time_limit=time_limit,
        video_time_limit=video_time_limit if film_time_limit is None else film_time_limit,
        origins=tuple(origin or ()),
        allowed_hosts=allowed_hosts(host, allowed_host or (), open_to_all=not keys),
        api_keys=keys,
        aliases=_aliases(alias or (), name or model_name(model)),
        strict=strict,
    )
    spec = ModelSpec(model, name, engine, device, threads, max_batch, precision)
    if cluster == "ray":
        from galip.serving.ray.cluster import deploy, parse_replicas

        deploy(spec, settings, host, port, parse_replicas(replicas), root_path, log_level)
        return
    from galip.serving.local.run import run

    run(spec, settings, host, port, workers, root_path, log_level)


def _settings(**values: object) -> Settings:
    from galip.serving.http.settings import Settings

    try:
        return Settings(**values)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:
            raise InputError(message) from error
        option = str(first["loc"][0])
        raise InputError(f"--{option.replace('_', '-')} {values[option]}: {message}") from error


def _aliases(given: Sequence[str], served: str) -> tuple[str, ...]:
    aliases = []
    for text in given:
        alias, equals, model = text.partition("=")
        if not alias.strip() or not equals:
            raise InputError(f"--alias {text}: give a name and the model that it means, as gpt-image-1={served}")
        if model.strip() != served:
            raise InputError(f"--alias {text}: this service has the model {served} alone")
        aliases.append(alias.strip())
    return tuple(aliases)


def _keys(file: Path | None) -> tuple[str, ...]:
    from galip.serving.http.settings import KEY_VARIABLE

    keys = [os.environ.get(KEY_VARIABLE, "").strip()]
    if file is not None:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise InputError(f"--api-keys {file}: it is not UTF-8 text") from error
        keys += [line.strip() for line in lines]
        if not any(keys):
            raise InputError(f"--api-keys {file}: it holds no key; write one a line, or leave the option out")
    return tuple(key for key in keys if key)
