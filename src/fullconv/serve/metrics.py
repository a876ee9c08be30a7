"""Prometheus metrics of one service, in a registry that no other code shares."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from fullconv.web.app import Done

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """Requests by route and status, predictions, pixels, and what is inside now."""

    def __init__(self) -> None:
        """Make the registry."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        labels = ("method", "route", "status")
        self._requests = Counter("fullconv_requests", "Requests that were answered", labels, registry=self.registry)
        self._request_seconds = Histogram(
            "fullconv_request_seconds", "Time of a request", ("route",), buckets=_SECONDS, registry=self.registry
        )
        self._predictions = Histogram(
            "fullconv_prediction_seconds",
            *("Time of a prediction, without the time in the queue", ("kind",)),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._pixels = Counter("fullconv_pixels", "Pixels that were labelled", registry=self.registry)

    def watch(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Add a gauge that is read at each scrape."""
        Gauge(f"fullconv_{name}", text, registry=self.registry).set_function(read)

    def count_request(self, done: Done) -> None:
        """Count a request. Addresses without a route share one label, so that strangers add no series."""
        method = done.method if done.method in ("GET", "HEAD", "POST") else "other"
        route = done.route or "none"
        self._requests.labels(method, route, str(done.status)).inc()
        self._request_seconds.labels(route).observe(done.seconds)

    def count_prediction(self, kind: str, pixels: int, seconds: float) -> None:
        """Count a prediction."""
        self._predictions.labels(kind).observe(seconds)
        self._pixels.inc(pixels)

    def expose(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        return generate_latest(self.registry)
