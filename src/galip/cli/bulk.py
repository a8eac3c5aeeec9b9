"""`galip bulk`: prompts by the million, generated into shards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from galip.cli.options import (
    AUTO,
    BATCH_SIZE,
    BatchSizeOption,
    ClusterOption,
    DeviceOption,
    EngineOption,
    FormatOption,
    ModelOption,
    OldOut,
    PrecisionOption,
    QualityOption,
    SizeOption,
    ThreadsOption,
    TruncationOption,
    check_truncation,
    one_out,
)
from galip.errors import InputError
from galip.generation.noise import check_seed
from galip.model_repo.resolve import DEFAULT_MODEL, weights_of
from galip.utils.extras import require
from galip.utils.image_io import QUALITY
from galip.utils.terminal import progress_bars, say


def bulk(
    prompts: Annotated[
        Path,
        typer.Argument(
            metavar="PROMPTS", help='A UTF-8 file with a prompt a line; or .jsonl with {"prompt", "seed", "key"}.'
        ),
    ],
    old_out: OldOut = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder for the shards, OUT/drawn/.")] = None,
    model: ModelOption = DEFAULT_MODEL,
    number: Annotated[int, typer.Option("-n", "--number", min=1, help="Images of each prompt.")] = 1,
    seed: Annotated[
        int, typer.Option(help="Of the first line's first image; the next ones count on from it, line by line.")
    ] = 0,
    truncation: TruncationOption = 1.0,
    size: SizeOption = None,
    format: FormatOption = "png",
    quality: QualityOption = QUALITY,
    per_shard: Annotated[int, typer.Option(min=1, help="Images of a shard.")] = 1000,
    batch_size: BatchSizeOption = BATCH_SIZE,
    engine: EngineOption = AUTO,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    threads: ThreadsOption = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes with a model each. [default: one on a GPU, else one a core with a thread]"),
    ] = None,
    cluster: ClusterOption = None,
    replicas: Annotated[int, typer.Option(min=1, help="With --cluster: models at the same time.")] = 1,
) -> None:
    """Generate images of a file of prompts, however long, into shards.

    Images are those of `galip generate` for the same prompt and seed. Interrupted, by whatever it is, the same
    command goes on with the shards that are missing.
    """
    folder = one_out(out, old_out, "a folder for the shards")
    check_truncation(truncation)
    check_seed(seed)
    if cluster is not None and workers is not None:
        raise InputError("--workers is for this machine alone; with --cluster give --replicas")
    if cluster is not None:
        require("--cluster ray", "cluster")
    weights = weights_of(model)
    from galip.bulk.blocks import GenerationOptions
    from galip.bulk.job import BulkJob, run, run_on_ray
    from galip.data_prep.report import summary
    from galip.serving.model_worker import ModelSpec

    spec = ModelSpec(model, None, engine, device, threads, batch_size, precision)
    options = GenerationOptions(spec, weights, number, seed, truncation, size, format, quality)
    job = BulkJob(prompts, folder, options, per_shard)
    with progress_bars() as progress:
        report = run(job, workers, progress) if cluster is None else run_on_ray(job, replicas, progress)
    for line in summary(report, folder):
        say(line)
    if report["skipped"]:
        raise typer.Exit(1)
