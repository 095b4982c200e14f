"""How long commits take, as Prometheus histograms. The index tells it, and knows nothing of Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Histogram


class CommitTimes:
    """Called after each commit of a collection; made before there is a registry, and registered later."""

    def __init__(self) -> None:
        self._seconds = Histogram(
            "hammingbird_commit_seconds",
            "Time of one transaction, fsync and publication of what it changed included.",
            buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
            registry=None,
        )
        self._writers = Histogram(
            "hammingbird_commit_writers",
            "Requests that one transaction made durable together.",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=None,
        )

    def __call__(self, seconds: float, writers: int) -> None:
        self._seconds.observe(seconds)
        self._writers.observe(writers)

    def register(self, registry: CollectorRegistry) -> None:
        """Have them shown by `registry`."""
        registry.register(self._seconds)
        registry.register(self._writers)
