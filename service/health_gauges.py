"""The health of codes as Prometheus gauges: of the last examination, so that a scrape costs nothing.

A scrape has collections examined again that have changed since, in the background; the next one tells the result.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from index.drift import Drift

from .health import Examinations, Examined

_RADII = 16
"""Radii that the curve is told up to."""

_SINGLE: Mapping[str, tuple[str, Callable[[Examined], float]]] = {
    "hammingbird_code_bits": ("Width of the codes.", lambda it: it.health.width),
    "hammingbird_code_items": ("Items that were examined.", lambda it: it.health.items),
    "hammingbird_code_worst_balance": (
        "Share of the rarer value in the most one-sided bit, 0 to 0.5.",
        lambda it: min((min(share, 1 - share) for share in it.health.bits.ones), default=0) if it.health.items else 0,
    ),
    "hammingbird_code_dead_bits": ("Bits that are the same in nearly all items.", lambda it: len(it.health.bits.dead)),
    "hammingbird_code_entropy_bits": ("Entropy of the bits, added up.", lambda it: it.health.bits.entropy.sum()),
    "hammingbird_code_effective_bits": ("Even, independent bits they are worth.", lambda it: it.health.bits.effective),
    "hammingbird_code_correlation": ("Mean |r| of pairs of bits.", lambda it: it.health.bits.correlation),
    "hammingbird_code_distinct": ("Distinct codes.", lambda it: it.health.equals.distinct),
    "hammingbird_code_collision_rate": (
        "Share of the items with a code that another has too.",
        lambda it: it.health.equals.sharing / max(it.health.items, 1),
    ),
    "hammingbird_code_largest_group": ("Items of the commonest code.", lambda it: it.health.equals.largest),
    "hammingbird_code_bucket_largest": ("Items in the fullest bucket.", lambda it: it.health.fullest),
    "hammingbird_code_bucket_slowdown": (
        "Items met in buckets, in times of what evenly spread codes would have.",
        lambda it: it.health.slowdown,
    ),
    "hammingbird_code_health_seconds": ("Time that the examination took.", lambda it: it.seconds),
    "hammingbird_code_health_age_seconds": ("Time since it.", lambda it: time.monotonic() - it.finished),
}
_DRIFT: Mapping[str, tuple[str, Callable[[Drift], float]]] = {
    "hammingbird_code_drift_score": ("Drift from the training set; above 1 it is no chance.", lambda it: it.score),
    "hammingbird_code_drift_stability": ("Population stability index, mean over the bits.", lambda it: it.stability),
    "hammingbird_code_drift_strange": ("Share of items like none of the training set.", lambda it: it.strange),
}


class HealthGauges(Collector):
    """Collected by Prometheus's registry."""

    def __init__(self, examinations: Examinations, every_s: float) -> None:
        self._examinations, self._every_s = examinations, every_s

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing beforehand, so that registering examines nothing."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        known = self._examinations.known()
        self._examinations.refresh(self._every_s)
        for name, (text, value) in _SINGLE.items():
            gauge = GaugeMetricFamily(name, text, labels=["collection"])
            for collection, examined in known.items():
                gauge.add_metric([collection], float(value(examined)))
            yield gauge
        for name, (text, of) in _DRIFT.items():
            gauge = GaugeMetricFamily(name, text, labels=["collection", "window"])
            for collection, examined in known.items():
                for window, drift in (("all", examined.health.drift), ("recent", examined.health.recent_drift)):
                    if drift is not None:
                        gauge.add_metric([collection, window], of(drift))
            yield gauge
        yield from self._curve(known)
        yield self._findings(known)

    @staticmethod
    def _curve(known: Mapping[str, Examined]) -> Iterator[GaugeMetricFamily]:
        labels = ["collection", "radius"]
        mean = GaugeMetricFamily("hammingbird_code_results_mean", "Items found within a radius.", labels=labels)
        p95 = GaugeMetricFamily("hammingbird_code_results_p95", "The same, 95th percentile.", labels=labels)
        for collection, examined in known.items():
            for step in examined.health.curve[: _RADII + 1]:
                mean.add_metric([collection, str(step.radius)], step.mean)
                p95.add_metric([collection, str(step.radius)], step.p95)
        yield mean
        yield p95

    @staticmethod
    def _findings(known: Mapping[str, Examined]) -> GaugeMetricFamily:
        labels = ["collection", "severity"]
        gauge = GaugeMetricFamily("hammingbird_code_findings", "Findings by severity.", labels=labels)
        for collection, examined in known.items():
            for severity in ("ok", "warning", "bad"):
                count = sum(finding.severity == severity for finding in examined.findings)
                gauge.add_metric([collection, severity], count)
        return gauge
