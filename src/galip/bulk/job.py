"""Large jobs: captions by the million, drawn by several processes or a cluster into shards.

A job is a source of `galip.data`, whose pictures are drawn instead of read, so that it is written, interrupted and gone
on with like any other. The shards are what `galip train` and WebDataset read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from galip.bulk.captions import Drawing, list_blocks
from galip.data_prep.base import Listing, WritingOptions
from galip.data_prep.encoding import ImageOptions
from galip.data_prep.parallel import usable_cores
from galip.data_prep.writing import prepare
from galip.errors import InputError
from galip.generation.load import model_name
from galip.generation.select import has_gpu
from galip.utils.progress import Progress, no_progress

_SHARD_MB = 1000.0  # a bound for large pictures; shards of others are as small as their number of pictures makes them


@dataclass(frozen=True)
class BulkJob:
    """What is to be drawn, and where it goes.

    Attributes:
        captions: file with a caption a line, or, named .jsonl, a JSON object a line.
        out: folder for the shards.
        drawing: what is drawn of each caption, and by what.
        per_shard: pictures of a shard, about; so many are drawn again at the most when a job goes on.
    """

    captions: Path
    out: Path
    drawing: Drawing
    per_shard: int = 1000

    def __post_init__(self) -> None:
        if self.per_shard < 1:
            raise InputError(f"--per-shard {self.per_shard}: give a number of pictures")

    @property
    def writing(self) -> WritingOptions:
        """How the shards are written."""
        return WritingOptions(_SHARD_MB, images=ImageOptions(quality=self.drawing.quality))

    def source(self) -> Listing:
        """The job's blocks, for `galip.data_prep.writing`.

        Raises:
            InputError: as `list_blocks`, or the captions are to come from standard input.
        """
        if str(self.captions) == "-":
            raise InputError("standard input cannot be read again after an interruption; put the captions into a file")
        blocks = list_blocks(self.captions.resolve(), self.drawing, max(1, self.per_shard // self.drawing.number))
        options = self.drawing.recorded() | {"per_shard": self.per_shard}
        order = self.drawing.order
        notes = {"model": order.name or model_name(order.model), "engine": order.engine, "batch": order.batch}
        return Listing("captions", blocks, options, notes=notes)


def run(job: BulkJob, workers: int | None = None, progress: Progress = no_progress) -> dict[str, Any]:
    """Draw a job on this machine; interrupted, the same call goes on.

    Args:
        job: what to draw.
        workers: processes, each with a model of its own; None: one on a GPU, else one for each core. Unless the job
            says how many threads a model has, it has one, so that the same bytes come of any number of workers.

    Returns:
        What `report.json` holds.

    Raises:
        InputError: an option or the file of captions is wrong.
        GalipError: the folder holds something else or another job, or the model cannot be loaded.
    """
    order = job.drawing.order
    on_gpu = has_gpu() if order.device is None else order.device != "cpu"
    if not on_gpu and order.threads is None:
        job = replace(job, drawing=replace(job.drawing, order=replace(order, threads=1)))
    return prepare(job.source(), job.out, job.writing, workers or (1 if on_gpu else usable_cores()), progress)


def run_on_ray(job: BulkJob, replicas: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Draw a job by actors of a Ray cluster; interrupted, the same call goes on, also `run`.

    Every machine of the cluster must see the file of captions and the folder of shards under their names here.

    Args:
        job: what to draw.
        replicas: actors, each with a model of its own.
        say: is told, in a line, what a person should know.

    Returns, raises: as `run`; GalipError too where Ray cannot be reached, or a block has killed several actors.
    """
    from galip.bulk.ray import write_blocks
    from galip.serving.ray.connection import connected, place

    job = replace(job, out=job.out.resolve())
    with connected(replicas) as cluster:
        where = place(job.drawing.order, cluster, replicas)
        job = replace(job, drawing=replace(job.drawing, order=where.order))
        source = job.source()
        write_blocks(source, job.out, job.writing, where, replicas, say)
    return prepare(source, job.out, job.writing)  # all blocks are there; this gives them their places
