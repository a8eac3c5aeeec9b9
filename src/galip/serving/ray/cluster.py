"""The service on Ray Serve: `galip serve --cluster ray`, and an application for Serve's own configuration files."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from galip.errors import GalipError, InputError
from galip.generation.select import AUTO
from galip.model_repo.resolve import DEFAULT_MODEL
from galip.serving.http.addresses import announce, listen
from galip.serving.http.settings import KEY_VARIABLE, Settings
from galip.serving.model_worker import ModelSpec
from galip.serving.ray.connection import Cluster, WorkerResources, allocate, check_device, connected

APPLICATION, INGRESS, WORKER = "galip", "app", "worker"
"""Names on the cluster: the application's, and its deployments'."""

_UPSCALE_DELAY = 10.0  # seconds that a model must have been busy before another one is started
_HEALTH_EVERY = 2.0  # seconds; a replica that has died is replaced after so many
_ASK_AGAIN = 0.02  # seconds after which a full replica is asked whether it has room; Serve's own half second starves it
_TRIES = 3  # to load a model
_MAX_REQUESTS = 1000  # that the app takes at the same time; it refuses by itself what exceeds the queue
_NUMBERS = re.compile(r"([0-9]{1,4})(?:-([0-9]{1,4}))?")


@dataclass(frozen=True)
class Replicas:
    """How many models.

    Attributes:
        minimum, maximum: the same where their number does not follow the load.
    """

    minimum: int
    maximum: int


def parse_replicas(text: str) -> Replicas:
    """Read "2", or "1-4" for a number that follows the load.

    Raises:
        InputError: it is neither.
    """
    found = _NUMBERS.fullmatch(text.strip())
    minimum = int(found[1]) if found else 0
    maximum = int(found[2] or minimum) if found else 0
    if not 1 <= minimum <= maximum:
        raise InputError(f"--replicas {text}: give a number from 1, such as 2, or a minimum and a maximum, such as 1-4")
    return Replicas(minimum, maximum)


class ServiceArguments(BaseModel):
    """The `args` of the application in a configuration file of Serve; see `galip serve` for their meaning."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    model: str = DEFAULT_MODEL
    name: str | None = None
    engine: str = AUTO
    device: str | None = None
    threads: int = Field(1, ge=1)
    replicas: str = "1"
    settings: Settings = Settings()


def application(args: Mapping[str, Any]) -> Any:
    """The application for `serve build`, `serve deploy`, KubeRay; `import_path: galip.serving.ray.cluster:application`.

    Args:
        args: fields of `ServiceArguments`. The API key, if there is to be one, comes from the variable GALIP_API_KEY of
            the application's environment. Without `device: cuda` models run on the CPU.

    Returns:
        A `ray.serve.Application`.

    Raises:
        InputError: an argument is unknown or out of range.
    """
    try:
        given = ServiceArguments.model_validate(dict(args))
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"args: {'.'.join(map(str, first['loc'])) or 'settings'}: {first['msg']}") from error
    key = os.environ.get(KEY_VARIABLE, "").strip()
    settings = given.settings
    if key and key not in settings.api_keys:
        settings = settings.model_copy(update={"api_keys": (*settings.api_keys, key)})
    device = check_device(given.device) or "cpu"
    spec = ModelSpec(given.model, given.name, given.engine, device, given.threads, settings.max_batch)
    gpus = 1 if device == "cuda" else 0
    return _application(WorkerResources(spec, given.threads, gpus), settings, parse_replicas(given.replicas))


def _application(resources: WorkerResources, settings: Settings, replicas: Replicas) -> Any:
    from ray import serve

    from galip.serving.ray.ingress import Ingress
    from galip.serving.ray.worker import WorkerReplica

    scale: dict[str, Any] = {"num_replicas": replicas.minimum}
    if replicas.maximum > replicas.minimum:
        scale = {
            "autoscaling_config": {
                "min_replicas": replicas.minimum,
                "max_replicas": replicas.maximum,
                "target_ongoing_requests": settings.max_batch,
                "upscale_delay_s": _UPSCALE_DELAY,
            }
        }
    # An image is a request here: one batch is generated, the next one gathers, the rest waits at the app's handle.
    workers = serve.deployment(
        name=WORKER,
        ray_actor_options={"num_cpus": resources.cpus, "num_gpus": resources.gpus},
        max_ongoing_requests=2 * settings.max_batch,
        max_queued_requests=settings.max_queue + replicas.maximum * settings.max_batch,
        request_router_config={"initial_backoff_s": _ASK_AGAIN, "backoff_multiplier": 1.0, "max_backoff_s": _ASK_AGAIN},
        health_check_period_s=_HEALTH_EVERY,
        max_constructor_retry_count=_TRIES,
        logging_config={"enable_access_log": False},
        **scale,
    )(WorkerReplica).bind(resources.spec, settings.time_limit)
    return serve.deployment(
        name=INGRESS,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=_MAX_REQUESTS,
        health_check_period_s=_HEALTH_EVERY,
    )(Ingress).bind(workers, settings, WORKER)


def deploy(
    spec: ModelSpec,
    settings: Settings,
    host: str = "127.0.0.1",
    port: int = 8000,
    replicas: Replicas = Replicas(1, 1),
    root_path: str = "",
    log_level: str = "info",
) -> None:
    """Serve on Ray until a signal says to stop; then answer what has been asked, and end what was started here.

    A cluster at RAY_ADDRESS is left running, without the application; else one of this machine is started and ended.

    Args:
        spec: what to load.
        settings: limits and keys.
        host: address that the HTTP proxies listen at.
        port: 0 for a free one.
        replicas: how many models.
        root_path: what a proxy puts before this server's paths.
        log_level: "debug", "info", "warning" or "error", of Serve's own log.

    Raises:
        InputError: the address cannot be had, or the device is not there.
        GalipError: Ray cannot be reached or started, or the model cannot be loaded.
    """
    with listen(host, port) as taken:  # to be given back at once: Serve's proxies take it themselves
        port = int(taken.getsockname()[1])
    # Ray puts a handler of its own for SIGTERM, so ours comes after it.
    with connected(replicas.maximum) as cluster, _until_told():
        from ray import serve

        resources = allocate(spec, cluster, replicas.maximum)
        known = serve.status()
        if APPLICATION in known.applications:
            raise GalipError(
                f"this cluster serves {APPLICATION} already; end that first: by `serve shutdown`, which ends all "
                f"applications, or in Python by ray.serve.delete({APPLICATION!r})"
            )
        fresh = not known.proxies
        if fresh:
            logging_config = {"log_level": log_level.upper(), "enable_access_log": log_level in ("debug", "info")}
            serve.start(
                http_options={"host": host, "port": port, "root_path": root_path}, logging_config=logging_config
            )
        _announce(cluster, fresh, host, port, root_path, settings)
        running = False
        try:
            _run(_application(resources, settings, replicas))
            running = True
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            if running:
                _drain(max(settings.time_limit, settings.video_time_limit))
        finally:
            # Deleting takes some seconds, in which the HTTP proxies go on sending what clients have not read yet.
            serve.delete(APPLICATION)
            if fresh:
                serve.shutdown()


def _run(target: Any) -> None:
    """Deploy, and wait until images can be generated."""
    from ray import serve
    from ray.serve.exceptions import RayServeException

    try:
        serve.run(target, name=APPLICATION, route_prefix="/")
    except (RuntimeError, ValueError, RayServeException) as error:
        raise GalipError(_why(error)) from error


def _why(error: Exception) -> str:
    """The model's own words where it could not be loaded: the last of our errors in a replica's traceback."""
    from ray import serve

    told = serve.status().applications.get(APPLICATION)
    messages = [deployment.message for deployment in told.deployments.values()] if told else []
    found = re.findall(r"galip\.(?:\w+\.)*\w+Error: ([^\n]+)", "\n".join([*messages, str(error)]))
    return found[-1] if found else f"Ray Serve cannot deploy the service: {error}"


def _drain(time_limit: float) -> None:
    """Let the app take no more requests, and wait until all others are answered."""
    from ray import serve

    print("galip: answering what has been asked; once more to end at once", flush=True)
    left = serve.get_app_handle(APPLICATION).drain.remote(time_limit).result(timeout_s=time_limit + 10)
    if left:
        print(f"galip: {left} requests took longer than {time_limit:g} s", flush=True)


def _announce(cluster: Cluster, fresh: bool, host: str, port: int, root_path: str, settings: Settings) -> None:
    if not fresh:
        print("galip: deployed at / of the Ray Serve that runs on this cluster already, at its own address", flush=True)
        return
    announce(host, port, root_path, not settings.api_keys, "" if cluster.own else " on the cluster's nodes")


@contextmanager
def _until_told() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does."""

    def interrupt(_signal: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
