"""`galip bulk`: captions by the million, drawn into shards."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from galip.cli.options import (
    BATCH_SIZE,
    BatchSizeOption,
    DeviceOption,
    EngineOption,
    ModelOption,
    SizeOption,
    ThreadsOption,
    TruncationOption,
    check_truncation,
)
from galip.cli.terminal import progress_bars
from galip.errors import InputError
from galip.generation.load import DEFAULT_MODEL, weights_of
from galip.generation.noise import check_seed
from galip.generation.select import AUTO, check_engine
from galip.utils.extras import require


def bulk(
    captions: Annotated[
        Path,
        typer.Argument(
            metavar="CAPTIONS", help='A UTF-8 file with a caption a line; or .jsonl with {"caption", "seed", "key"}.'
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the shards, OUT/drawn/.")],
    model: ModelOption = DEFAULT_MODEL,
    number: Annotated[int, typer.Option("-n", "--number", min=1, help="Pictures of each caption.")] = 1,
    seed: Annotated[
        int, typer.Option(help="Of the first line's first picture; the next ones count on from it, line by line.")
    ] = 0,
    truncation: TruncationOption = 1.0,
    size: SizeOption = None,
    format: Annotated[str, typer.Option(help="png, webp or jpeg.")] = "png",
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of WebP and JPEG.")] = 90,
    per_shard: Annotated[int, typer.Option(min=1, help="Pictures of a shard.")] = 1000,
    batch_size: BatchSizeOption = BATCH_SIZE,
    engine: EngineOption = AUTO,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes with a model each. [default: one on a GPU, else one a core with a thread]"),
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(help="ray: draw on this machine's GPUs, or on the cluster at RAY_ADDRESS.")
    ] = None,
    replicas: Annotated[int, typer.Option(min=1, help="With --cluster: models at the same time.")] = 1,
) -> None:
    """Draw a file of captions, however long, into shards.

    Pictures are those of `galip generate` for the same caption and seed. Interrupted, by whatever it is, the same
    command goes on with the shards that are missing.
    """
    check_truncation(truncation)
    check_engine(engine)
    check_seed(seed)
    if format not in ("png", "webp", "jpeg"):
        raise InputError(f"--format {format}: use png, webp or jpeg")
    if cluster not in (None, "ray"):
        raise InputError(f"--cluster {cluster}: ray is the one that there is")
    if cluster is not None:
        require("--cluster ray", "cluster")
    if cluster is not None and workers is not None:
        raise InputError("--workers is for this machine alone; with --cluster give --replicas")
    weights = weights_of(model)
    from galip.bulk.captions import Drawing
    from galip.bulk.job import BulkJob, run, run_on_ray
    from galip.data_prep.report import summary
    from galip.serving.model_worker import Order

    order = Order(model, None, engine, device, threads, batch_size)
    drawing = Drawing(order, weights, number, seed, truncation, size, format, quality)  # type: ignore[arg-type]
    job = BulkJob(captions, out, drawing, per_shard)
    if cluster is None:
        with progress_bars() as progress:
            report = run(job, workers, progress)
    else:
        report = run_on_ray(job, replicas, lambda line: print(line, file=sys.stderr, flush=True))
    for line in summary(report, out):
        print(line)
    if report["skipped"]:
        raise typer.Exit(1)
