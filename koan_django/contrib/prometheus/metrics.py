"""Telemetry events as metrics: a histogram for each kind of work, a counter for each kind of fact."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, TypeVar

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from koan_django.core.telemetry import Event

M = TypeVar("M", Counter, Histogram)

#: The labels of each event. They name what code and settings declare, never an id, a key or a stranger's text: each
#: value is a time series for ever. An event that is not here has none of its own.
LABELS: Mapping[str, tuple[str, ...]] = {
    "core.job": ("job",),
    "inbox.announced": ("service",),
    "inbox.answered": ("service",),
    "inbox.discover": ("service",),
    "inbox.discovery_refused": ("where", "reason"),
    "inbox.duplicate": (),
    "inbox.unavailable": ("policy",),
    "inbox.unmarked": (),
    "inbox.refused": ("operation", "code"),
    "inbox.serve": ("operation",),
    "media.derive": ("asset",),
    "media.decode": ("format",),
    "media.render": ("recipe",),
    "messaging.send": ("bus", "alias"),
    "messaging.relay": ("bus",),
    "messaging.handle": ("bus", "group", "handler"),
    "messaging.settle": ("bus",),
    "messaging.settle_failed": ("bus",),
    "messaging.child_lost": ("bus", "group"),
    "scheduling.fired": ("task", "trigger"),
    "scheduling.ended": ("task", "state"),
    "scheduling.run": ("task", "trigger"),
    "secrets.fetch": ("provider",),
    "storage.copy": ("profile", "to_profile"),
    "storage.delete": ("profile",),
    "storage.get": ("profile",),
    "storage.put": ("profile",),
}
#: In seconds: from a query to a video.
BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300)


class Metrics:
    """A subscriber. ``messaging.handle`` becomes ``koan_messaging_handle_seconds``, with the label ``outcome``."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._registry = registry
        self._made: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._under_way = Gauge(
            "koan_in_progress", "Work under way", ("event",), registry=registry, multiprocess_mode="livesum"
        )

    def __call__(self, event: Event) -> None:
        """Take one event."""
        labels = LABELS.get(event.name, ())
        values = [str(event.metadata.get(label, "")) for label in labels]
        if event.phase == "fact":
            counter = self._counter(event.name, labels)
            (counter.labels(*values) if labels else counter).inc()
        elif event.phase == "start":
            self._under_way.labels(event.name).inc()
        else:
            self._under_way.labels(event.name).dec()
            outcome = "error" if event.phase == "exception" else "ok"
            self._histogram(event.name, labels).labels(*values, outcome).observe(event.duration or 0.0)

    def _counter(self, name: str, labels: tuple[str, ...]) -> Counter:
        def make() -> Counter:
            return Counter(_metric(name), f"Facts: {name}", labels, registry=self._registry)

        return self._once(name, make)

    def _histogram(self, name: str, labels: tuple[str, ...]) -> Histogram:
        def make() -> Histogram:
            text = f"Seconds: {name}"
            names = (*labels, "outcome")
            return Histogram(f"{_metric(name)}_seconds", text, names, registry=self._registry, buckets=BUCKETS)

        return self._once(name, make)

    def _once(self, name: str, make: Callable[[], M]) -> M:
        """Return the metric of ``name``; it is registered when the first event of that name comes."""
        with self._lock:
            if name not in self._made:
                self._made[name] = make()
            found: M = self._made[name]
        return found


def _metric(name: str) -> str:
    return f"koan_{name.replace('.', '_')}"
