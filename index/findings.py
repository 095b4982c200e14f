"""What the numbers of `health` mean: a sentence each, how bad it is, and what to do about it.

Every limit has its reason beside it. Codes of few items are not judged: chance alone would exceed the limits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .drift import Drift
from .health import DEAD, Health
from .multihash import PRICES, SCAN_NS
from .words import words_of

Severity = Literal["ok", "warning", "bad"]

JUDGED_FROM = 100
"""Items; with fewer an even bit is one-sided by chance."""
DEAD_BAD = 0.25
"""Share of dead bits. One is a waste; a quarter of them says that the training did not work."""
ONE_SIDED = 0.1
"""A bit that is the same in nine items of ten tells less than half of what an even one does (0.47 bits)."""
ONE_SIDED_WARNING = 0.1
"""Share of such bits; a few are found in good codes too."""
CORRELATION_WARNING = 0.35
"""Mean |r|. Codes of real items come to 0.05 to 0.25 with every family that trained well; a collapsed one to 0.5."""
EFFECTIVE_WARNING, EFFECTIVE_BAD = 1 / 8, 1 / 32
"""Share of the bits. Well trained codes of 64 bits are worth 12 to 50 even, independent ones; of less than an eighth,
shorter codes would find the same in less time and memory."""
SHARING_WARNING, SHARING_BAD = 0.2, 0.5
"""Share of the items with a code that another has too: no search can tell these apart."""
SHARING_FROM = 10
"""Items; that all are one code is no chance with ten."""
BUCKET_BAD = 0.2
"""Share of the items in one bucket: each search that touches it compares with all of them."""
BUCKETS_WARNING, BUCKETS_BAD = 0.1, 1.0
"""What looking into one bucket of each chunk costs, as a share of a scan of everything, by the planner's own prices.
At 1 the buckets are of no use and every search scans."""
STABILITY_BAD = 0.25
"""The usual limit of the population stability index: these are other items than in training."""
STRANGE_BAD = 0.2
"""Share of items like none of the training set; 0.01 without drift."""
GOOD_MANY = 10
"""Results that a first try with a radius should bring, on average."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `value` is held against `limit`; `advice` where something can be done."""

    severity: Severity
    what: str
    detail: str
    value: float
    limit: float | None = None
    advice: str | None = None


def findings(health: Health) -> list[Finding]:
    """What `health` says, the worst first."""
    found = list(_findings(health))
    return sorted(found, key=lambda finding: ("bad", "warning", "ok").index(finding.severity))


def worst(found: list[Finding]) -> Severity:
    """The severity of the worst of findings sorted so."""
    return found[0].severity if found else "ok"


def _severity(value: float, warning: float, bad: float) -> Severity:
    return "bad" if value >= bad else "warning" if value >= warning else "ok"


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"


def _some(bits: tuple[int, ...]) -> str:
    return ", ".join(map(str, bits[:8])) + (", ..." if len(bits) > 8 else "")


def _findings(health: Health) -> Iterator[Finding]:
    n = health.items
    if n >= SHARING_FROM:
        yield _sharing(health)
    if n < JUDGED_FROM:
        detail = f"{n} items; codes are judged from {JUDGED_FROM} items on, the numbers are given all the same"
        yield Finding("ok", "few items", detail, n, JUDGED_FROM)
    else:
        yield _dead(health)
        yield _balance(health)
        yield _correlation(health)
        yield _effective(health)
        if health.hashed:
            yield _buckets(health)
    if n > 1:
        yield _radius(health)
    for drift, whose in ((health.drift, "all items"), (health.recent_drift, "the newest items")):
        if drift is not None:
            yield _drift(drift, whose)


def _dead(health: Health) -> Finding:
    dead, width = health.bits.dead, health.width
    share = len(dead) / width
    if not dead:
        return Finding("ok", "dead bits", f"none of the {width} bits is dead", 0, 0)
    detail = f"{len(dead)} of {width} bits ({_some(dead)}) are the same in more than {_percent(1 - DEAD)} of the items"
    advice = "train longer, with fewer bits, or on items that differ more"
    return Finding("bad" if share > DEAD_BAD else "warning", "dead bits", detail, len(dead), 0, advice)


def _balance(health: Health) -> Finding:
    rarer = np.minimum(health.bits.ones, 1 - health.bits.ones)
    one_sided = int(((rarer < ONE_SIDED) & (rarer >= DEAD)).sum())
    share, bit = one_sided / health.width, int(rarer.argmin())
    detail = (
        f"{one_sided} of {health.width} bits are the same in nine items of ten; the most one-sided, bit {bit}, is 1 in "
        f"{_percent(float(health.bits.ones[bit]))}"
    )
    if share < ONE_SIDED_WARNING:
        return Finding("ok", "balance", detail, share, ONE_SIDED_WARNING)
    advice = "train on items like those that are stored; the families itq and binary-autoencoder even bits out"
    return Finding("warning", "balance", detail, share, ONE_SIDED_WARNING, advice)


def _correlation(health: Health) -> Finding:
    value, pairs = health.bits.correlation, health.bits.pairs
    detail = f"two bits go together by {value:.2f} on average"
    if pairs:
        detail += f", bits {pairs[0].a} and {pairs[0].b} most ({pairs[0].r:+.2f})"
    if value < CORRELATION_WARNING:
        return Finding("ok", "correlation", detail, value, CORRELATION_WARNING)
    advice = "bits repeat each other: train longer, with fewer bits, or with another family (compare with itq)"
    return Finding("warning", "correlation", detail, value, CORRELATION_WARNING, advice)


def _effective(health: Health) -> Finding:
    value, width = health.bits.effective, health.width
    share = value / width
    severity: Severity = "bad" if share < EFFECTIVE_BAD else "warning" if share < EFFECTIVE_WARNING else "ok"
    detail = f"the {width} bits are worth {value:.1f} even, independent ones"
    advice = "fewer bits would find the same in less time and memory; or train longer, or on more varied items"
    return Finding(
        severity,
        "effective bits",
        detail,
        value,
        width * EFFECTIVE_WARNING,
        advice if share < EFFECTIVE_WARNING else None,
    )


def _sharing(health: Health) -> Finding:
    n, equals = health.items, health.equals
    share = equals.sharing / n
    detail = (
        f"{equals.distinct:,} distinct codes for {n:,} items; {_percent(share)} share theirs with another, the largest "
        f"group has {equals.largest:,}"
    )
    severity = _severity(share, SHARING_WARNING, SHARING_BAD)
    advice = (
        "look for duplicates (POST /collections/{collection}/duplicates with radius 0); if they differ, use more bits"
    )
    return Finding(severity, "equal codes", detail, share, SHARING_WARNING, None if severity == "ok" else advice)


def _buckets(health: Health) -> Finding:
    n, largest = health.items, health.fullest
    cost = health.met * float(PRICES[1]) / (n * words_of(health.width) * SCAN_NS)
    severity = "bad" if largest >= BUCKET_BAD * n else _severity(cost, BUCKETS_WARNING, BUCKETS_BAD)
    detail = (
        f"a look into one bucket of each chunk meets {health.met:,.0f} items, {health.slowdown:.1f} times as many as "
        f"with even codes, and costs {_percent(cost)} of comparing with everything; the largest bucket holds "
        f"{_percent(largest / n)}"
    )
    advice = "searches are slow: look for duplicates, or train for codes that are spread more evenly"
    return Finding(severity, "buckets", detail, cost, BUCKETS_WARNING, None if severity == "ok" else advice)


def _radius(health: Health) -> Finding:
    few = [step for step in health.curve if step.mean <= GOOD_MANY]
    step = few[-1] if few else health.curve[0]
    detail = (
        f"a search by a stored item with radius {step.radius} finds {step.mean:.1f} others on average, and one in "
        f"twenty finds {step.p95:,} or more"
    )
    return Finding("ok", "radius", detail, step.radius)


def _drift(drift: Drift, whose: str) -> Finding:
    detail = (
        f"{whose} ({drift.items:,}) differ from the training set by {drift.score:.2f} of what chance allows; stability "
        f"index {drift.stability:.3f}, {_percent(drift.strange)} like nothing in it"
    )
    if drift.score <= 1:
        return Finding("ok", "drift", detail, drift.score, 1)
    large = drift.stability >= STABILITY_BAD or drift.strange >= STRANGE_BAD
    advice = "train a model on the items that are stored now, and re-encode the collection with it"
    return Finding("bad" if large else "warning", "drift", detail, drift.score, 1, advice)
