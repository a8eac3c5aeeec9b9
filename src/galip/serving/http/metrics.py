"""What Prometheus is told."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters of one service, in a registry of their own, so that a process may hold several services."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "galip_requests", "Requests by endpoint and status.", ["endpoint", "status"], registry=self.registry
        )
        self._latency = Histogram(
            "galip_request_seconds",
            "From a request's first byte to the answer's last.",
            ["endpoint"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._running = Gauge("galip_requests_running", "Requests being answered.", registry=self.registry)
        self._images = Counter("galip_pictures", "Images generated.", registry=self.registry)
        self._batches = Histogram("galip_batch_size", "Images of a batch.", buckets=_SIZES, registry=self.registry)
        self._batch_seconds = Histogram(
            "galip_batch_seconds", "Time of a batch.", buckets=_SECONDS, registry=self.registry
        )
        self._lost = Counter("galip_workers_lost", "Worker processes that died or hung.", registry=self.registry)
        self._queue = Gauge("galip_queue_pictures", "Images that wait.", registry=self.registry)
        self._workers = Gauge("galip_workers", "Worker processes that can generate.", registry=self.registry)

    def begun(self) -> None:
        """A request has come."""
        self._running.inc()

    def answered(self, endpoint: str, status: int, seconds: float) -> None:
        """A request has ended.

        Args:
            endpoint: the route, not the address: there must be few of them.
            status: 499 where the client went away.
            seconds: it took.
        """
        self._running.dec()
        self._requests.labels(endpoint, str(status)).inc()
        self._latency.labels(endpoint).observe(seconds)

    def generated(self, images: int, seconds: float) -> None:
        """A batch has been generated."""
        self._images.inc(images)
        self._batches.observe(images)
        self._batch_seconds.observe(seconds)

    def lost(self) -> None:
        """A worker has died."""
        self._lost.inc()

    def watch_queue(self, length: Callable[[], int]) -> None:
        """Ask this for the number of waiting images."""
        self._queue.set_function(length)

    def watch_workers(self, number: Callable[[], int]) -> None:
        """Ask this for the number of workers that can generate."""
        self._workers.set_function(number)

    def page(self) -> tuple[bytes, str]:
        """Everything in Prometheus' text format, and its media type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST
