"""The gate that another model must pass: each limit, just kept and just missed."""

from __future__ import annotations

from typing import Any

import pytest

from service.comparison import check
from service.errors import GateRefused
from service.schemas.generations import GateOptions

FINE: dict[str, Any] = {
    "overlap": 0.4,
    "precision": {"old": 0.8, "new": 0.8},
    "distinct": {"old": 0.9, "new": 0.9},
    "dead_bits": {"old": 0.0, "new": 0.0},
    "latency_ms": {"p50": {"old": 2.0, "new": 2.0}, "p95": {"old": 3.0, "new": 300.0}},
}
CASES = [
    ({"overlap": 0.3}, {"overlap": 0.29}, "overlap 0.290 is below min_overlap 0.3"),
    (
        {"precision": {"old": 0.8, "new": 0.75}},
        {"precision": {"old": 0.8, "new": 0.74}},
        "precision@10 falls from 0.800 to 0.740, by more than max_precision_drop 0.05",
    ),
    (
        {"distinct": {"old": 0.9, "new": 0.45}},
        {"distinct": {"old": 0.9, "new": 0.44}},
        "0.440 of the codes are distinct, 0.900 were, and 0.489 is below min_distinct 0.5",
    ),
    (
        {"dead_bits": {"old": 0.0, "new": 0.25}},
        {"dead_bits": {"old": 0.0, "new": 0.26}},
        "0.260 of the bits are the same for all, more than max_dead_bits 0.25",
    ),
    (
        {"latency_ms": {"p50": {"old": 2.0, "new": 10.0}}},
        {"latency_ms": {"p50": {"old": 2.0, "new": 10.1}}},
        "takes 10.10 ms, 5.0 times 2.00 ms, more than max_slowdown 5",
    ),
]


@pytest.mark.parametrize(("kept", "missed", "why"), CASES, ids=lambda case: next(iter(case), "") if case else "")
def test_a_limit(kept: dict[str, Any], missed: dict[str, Any], why: str) -> None:
    gate = GateOptions(min_overlap=0.3, max_precision_drop=0.05 + 1e-9)  # 0.8 - 0.75 is a little more than 0.05
    check(FINE | kept, gate)
    with pytest.raises(GateRefused) as error:
        check(FINE | missed, gate)
    assert why in str(error.value)
    assert error.value.result == {"report": FINE | missed}


def test_all_that_is_wrong_is_named() -> None:
    with pytest.raises(GateRefused, match=r"overlap .*; precision@10 .*; .* distinct.*; .* of the bits .*; the median"):
        check({name: value for _, missed, _ in CASES for name, value in missed.items()}, GateOptions(min_overlap=0.3))


def test_what_could_not_be_measured_does_not_refuse() -> None:
    nothing = {"old": None, "new": None}
    report = {"overlap": None, "precision": nothing, "distinct": nothing, "dead_bits": nothing}
    check({**report, "latency_ms": {"p50": nothing, "p95": nothing}}, GateOptions())
