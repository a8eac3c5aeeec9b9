"""Ray, for the service and for large jobs: the cluster at RAY_ADDRESS, or one of this machine for as long as needed.

Ray's own modules are imported inside functions, since what it reads from the environment it reads when it is imported.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from galip.data_prep.parallel import usable_cores
from galip.errors import GalipError, InputError
from galip.serving.model_worker import Order
from galip.utils.extras import remedy

log = logging.getLogger("galip.serving")

ADDRESS = "RAY_ADDRESS"
"""The environment variable that names a running cluster, as everywhere in Ray."""

_OBJECT_STORE = 256 * 2**20  # bytes; pictures pass through it one by one


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
class Place:
    """What one model of many needs.

    Attributes:
        order: what to load there.
        cpus, gpus: what Ray sets aside for it.
    """

    order: Order
    cpus: float
    gpus: float


@contextmanager
def connected(places: int) -> Iterator[Cluster]:
    """Connect to the cluster at RAY_ADDRESS, or start one of this machine alone and end it afterwards.

    Args:
        places: models that are to run at the same time. A cluster of this machine has room for so many, also where
            there are fewer cores.

    Raises:
        GalipError: Ray is not installed, no cluster answers at RAY_ADDRESS, or Ray cannot be started.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report to its makers
    address = os.environ.get(ADDRESS)
    if not address:
        # Its name is historical: without "clusters" Ray's processes listen on the loopback interface alone.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    try:
        import ray
    except ImportError as error:
        raise GalipError(f"--cluster ray needs Ray: {remedy('cluster')}") from error
    try:
        if address:
            ray.init(address=address, logging_level=logging.WARNING)
        else:
            _stay_on_this_machine()
            ray.init(
                address="local",
                num_cpus=max(usable_cores(), places),
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


def place(order: Order, cluster: Cluster, together: int) -> Place:
    """What each of several models needs.

    Without --threads, models of a cluster of this machine share its cores evenly, and elsewhere have one core each.
    Without --device they draw on GPUs, one each, if the cluster has any.

    Args:
        order: what to load.
        cluster: where.
        together: models at the same time.

    Raises:
        InputError: the device is a numbered GPU, or there is no GPU, or too few on this machine.
    """
    device = check_device(order.device)
    if device is None:
        device = "cuda" if cluster.gpus else None
    gpus = 1 if device == "cuda" else 0
    # A cluster of several machines may add some with GPUs when they are asked for.
    if cluster.own and gpus * together > cluster.gpus:
        raise InputError(
            f"--device cuda: {together} models at the same time need a GPU each, and there are {cluster.gpus:g}"
        )
    threads = order.threads or (max(1, usable_cores() // together) if cluster.own else 1)
    # Threads that were asked for may be more than there are cores; Ray would wait for them for ever.
    cpus = min(threads, max(1, int(cluster.cpus // together))) if cluster.own else threads
    return Place(replace(order, device=device, threads=threads), cpus, gpus)


def check_device(device: str | None) -> str | None:
    """A device that a model of a cluster can be told to use.

    Raises:
        InputError: it is a certain GPU.
    """
    if device is not None and device.startswith("cuda:"):
        raise InputError(f"device {device}: on a cluster Ray says which GPU each model gets; use cuda")
    return device


def _stay_on_this_machine() -> None:
    """The same as the environment variable above says, for a Ray that had been imported before."""
    from ray._private import ray_constants

    ray_constants.ENABLE_RAY_CLUSTER = False


def listen_on_loopback() -> None:
    """Keep the port that this replica opens for calls of other replicas to this machine. Before it has been made.

    Serve opens it at all addresses and has no option for it. Where Serve has changed so that this finds nothing to
    change, the port still asks for Ray's token.
    """
    from ray.serve._private import replica

    module: Any = replica
    bind = getattr(module, "add_port_to_grpc_server", None)
    if bind is None:
        log.warning("this Ray Serve may listen for calls of its own at all addresses of this machine")
        return
    module.add_port_to_grpc_server = lambda server, address: bind(server, address.replace("[::]", "127.0.0.1"))


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
