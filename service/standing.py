"""How things stand, looked up when /metrics is asked: disk, stores, jobs, the process and what it was built of."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from importlib.metadata import version

from prometheus_client import GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry

from . import __version__
from .engine import Engine
from .jobs import STATES, JobStore

_PARTS = ("faiss-cpu", "fastapi", "numba", "torch")


class Standing(Collector):
    """A Prometheus collector of what need not be counted, since it can be looked up."""

    def __init__(self, engine: Engine, jobs: JobStore) -> None:
        self._engine, self._jobs = engine, jobs
        self._started = time.monotonic()
        parts = {name.replace("-", "_"): version(name) for name in _PARTS}
        self._build = {"version": __version__, "python": platform.python_version(), **parts}

    def collect(self) -> Iterator[GaugeMetricFamily | InfoMetricFamily]:
        yield InfoMetricFamily("hammingbird_build", "What runs.", value=self._build)
        yield GaugeMetricFamily(
            "hammingbird_uptime_seconds", "Since the service was put together.", time.monotonic() - self._started
        )
        room = self._engine.room()
        yield GaugeMetricFamily("hammingbird_disk_free_bytes", "Left for the data directory.", room.free)
        yield GaugeMetricFamily("hammingbird_disk_total_bytes", "Of that disk in all.", room.total)
        disk = GaugeMetricFamily("hammingbird_store_bytes", "Files of a collection.", labels=["collection"])
        memory = GaugeMetricFamily("hammingbird_index_bytes", "Memory of a collection's index.", labels=["collection"])
        for name, collection in self._engine.catalogue.embedded.all().items():
            disk.add_metric([name], collection.bytes_on_disk())
            memory.add_metric([name], collection.nbytes)
        yield disk
        yield memory
        yield GaugeMetricFamily(
            "hammingbird_damaged",
            "Collections and models that failed their checks and are not served.",
            len(self._engine.catalogue.damaged) + len(self._engine.registry.damaged),
        )
        states = GaugeMetricFamily("hammingbird_jobs", "Jobs by state.", labels=["state"])
        counts = self._jobs.counts()
        for state in STATES:
            states.add_metric([state], counts.get(state, 0))
        yield states

    def register(self, registry: CollectorRegistry) -> None:
        """Have it shown by `registry`, beside the process's own processor, memory and descriptors."""
        registry.register(self)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
