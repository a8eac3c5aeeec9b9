"""`galip mcp`: a model as tools of an assistant."""

from __future__ import annotations

from typing import Annotated

import typer

from galip.cli.options import AUTO, DeviceOption, EngineOption, ModelOption, PrecisionOption, ThreadsOption
from galip.model_repo.resolve import DEFAULT_MODEL, weights_of


def mcp(
    model: ModelOption = DEFAULT_MODEL,
    engine: EngineOption = AUTO,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    threads: ThreadsOption = None,
    max_n: Annotated[int, typer.Option(min=1, max=256, help="Images of one call.")] = 16,
    max_frames: Annotated[int, typer.Option(min=2, max=10_000, help="Frames of one walk.")] = 120,
    max_size: Annotated[int, typer.Option(min=1, max=4096, help="Largest side in pixels.")] = 1024,
) -> None:
    """Offer generate, walk and grid to an assistant, by the Model Context Protocol over standard input and output.

    It is started by the assistant, which has to be told the command: `galip mcp`.
    """
    weights_of(model)
    from galip.serving.assistant import Limits, create_server
    from galip.serving.model_worker import ModelSpec, ModelWorker

    worker = ModelWorker(ModelSpec(model, None, engine, device, threads, precision=precision))
    create_server(worker, Limits(max_n, max_frames, max_size)).run()
