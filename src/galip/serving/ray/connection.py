"""Ray, for the service and for large jobs: the cluster at RAY_ADDRESS, or one of this machine for as long as needed.

Ray's own modules are imported inside functions, since what it reads from the environment it reads when it is imported.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from galip.data_prep.parallel import usable_cores
from galip.errors import GalipError, InputError
from galip.serving.model_worker import ModelSpec
from galip.utils.extras import remedy

ADDRESS = "RAY_ADDRESS"
"""The environment variable that names a running cluster, as everywhere in Ray."""

_OBJECT_STORE = 256 * 2**20  # bytes; images pass through it one by one


@dataclass(frozen=True)
class Cluster:
    """What a program is connected to.

    Attributes:
        own: whether it was started for this command.
        cpus, gpus: of all its machines, as Ray counts them.
    """

    own: bool
    cpus: float
    gpus: float


@dataclass(frozen=True)
class WorkerResources:
    """What one model of many needs.

    Attributes:
        spec: what to load there.
        cpus, gpus: what Ray sets aside for it.
    """

    spec: ModelSpec
    cpus: float
    gpus: float


@contextmanager
def connected(workers: int) -> Iterator[Cluster]:
    """Connect to the cluster at RAY_ADDRESS, or start one of this machine alone and end it afterwards.

    Args:
        workers: models that are to run at the same time. A cluster of this machine has room for so many, also where
            there are fewer cores.

    Raises:
        GalipError: Ray is not installed, no cluster answers at RAY_ADDRESS, or Ray cannot be started.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report to its makers
    address = os.environ.get(ADDRESS)
    if not address:
        _keep_to_this_machine()
    try:
        import ray
    except ImportError as error:
        raise GalipError(f"--cluster ray needs Ray: {remedy('cluster')}") from error
    try:
        if address:
            ray.init(address=address, logging_level=logging.WARNING)
        else:
            ray.init(
                address="local",
                num_cpus=max(usable_cores(), workers),
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE,
                logging_level=logging.WARNING,
            )
    except (ConnectionError, RuntimeError, ValueError) as error:
        if address:
            raise GalipError(
                f"{ADDRESS} {address}: no Ray cluster can be joined there ({_first_line(error)}); start one with `ray "
                "start --head`, or unset the variable to stay on this machine"
            ) from error
        raise GalipError(f"Ray cannot be started: {_first_line(error)}") from error
    try:
        resources = ray.cluster_resources()
        yield Cluster(not address, resources.get("CPU", 0.0), resources.get("GPU", 0.0))
    finally:
        ray.shutdown()


def allocate(spec: ModelSpec, cluster: Cluster, workers: int) -> WorkerResources:
    """What each of several models needs.

    Without --threads, models of a cluster of this machine share its cores evenly, and elsewhere have one core each.
    Without --device they run on GPUs, one each, if the cluster has any.

    Args:
        spec: what to load.
        cluster: where.
        workers: models at the same time.

    Raises:
        InputError: the device is a numbered GPU, or there is no GPU, or too few on this machine.
    """
    device = check_device(spec.device)
    if device is None:
        device = "cuda" if cluster.gpus else None
    gpus = 1 if device == "cuda" else 0
    # A cluster of several machines may add some with GPUs when they are asked for.
    if cluster.own and gpus * workers > cluster.gpus:
        raise InputError(
            f"--device cuda: {workers} models at the same time need a GPU each, and there are {cluster.gpus:g}"
        )
    threads = spec.threads or (max(1, usable_cores() // workers) if cluster.own else 1)
    # Threads that were asked for may be more than there are cores; Ray would wait for them for ever.
    cpus = min(threads, max(1, int(cluster.cpus // workers))) if cluster.own else threads
    return WorkerResources(replace(spec, device=device, threads=threads), cpus, gpus)


def check_device(device: str | None) -> str | None:
    """A device that a model of a cluster can be told to use.

    Raises:
        InputError: it is a certain GPU.
    """
    if device is not None and device.startswith("cuda:"):
        raise InputError(f"device {device}: on a cluster Ray says which GPU each model gets; use cuda")
    return device


def _keep_to_this_machine() -> None:
    """Tell a Ray that is about to be started that nobody else may use it.

    The first variable's name is historical: without "clusters" Ray's processes listen on the loopback interface alone.
    Serve's replicas, though, take calls of each other at all addresses; so nobody is answered without this command's
    own token.
    """
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
