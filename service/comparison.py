"""Two models on the same items and the same searches: what would change for those who search.

Searches are replayed on codes of both, on one state of the collection. Overlap is the share of the 10 nearest that both
find; precision@10 is the share of them with the label of the item that was searched for; the time is that of encoding
and searching, each in turn. Codes are compared by how many are distinct and how many bits say nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from index import Codes, Trial, pack
from index.errors import UnknownItem
from models.base import Model
from models.errors import InvalidInput

from .codecs import decode, from_bytes
from .errors import GateRefused
from .kept import unlimited
from .schemas import Input
from .schemas.generations import GateOptions

_K = 10
_LOOKED_AT = 100_000
"""Codes whose health is looked at: of more, an even share."""
_SAME = 0.001
"""A bit that differs for fewer of the items says nothing."""


@dataclass(frozen=True, slots=True)
class Query:
    """Something to search for; `id` and `label` where it is a stored item."""

    item: Any
    id: str | None = None
    label: str | None = None


def queries_for(trial: Trial, recent: Sequence[Input], model: Model, count: int) -> tuple[list[Query], int]:
    """At most `count` queries, recent ones first, then stored items; and how many of them are recent."""
    queries: list[Query] = []
    for value in recent:
        if len(queries) == count:
            break
        try:
            queries.append(_replayed(trial, value, model))
        except (InvalidInput, UnknownItem):  # it was refused when it came, or is gone by now
            continue
    asked = len(queries)
    seen = {query.id for query in queries}
    for item in trial.sample(count + len(seen)):
        if len(queries) < count and item.id not in seen and item.kind is not None and item.input is not None:
            queries.append(Query(from_bytes(item.input, item.kind, unlimited()).item, item.id, _label(item.payload)))
    return queries, asked


def _replayed(trial: Trial, value: Input, model: Model) -> Query:
    if value.id is None:
        return Query(decode(value, model.input, unlimited()))
    item = trial.reader.get(value.id)
    if item is None or item.kind is None or item.input is None:
        raise UnknownItem(value.id)
    return Query(from_bytes(item.input, item.kind, unlimited()).item, item.id, _label(item.payload))


def _label(payload: Mapping[str, Any] | None) -> str | None:
    label = (payload or {}).get("label")
    return None if label is None else str(label)


def compare(trial: Trial, old: Model, new: Model, queries: Sequence[Query], tick: Callable[[], None]) -> dict[str, Any]:
    """What was measured. tick: called before each query; may raise to end it."""
    answers: dict[bool, list[list[Any]]] = {False: [], True: []}
    times: dict[bool, list[float]] = {False: [], True: []}
    for place, query in enumerate([*queries[:1], *queries]):  # the first once more, to warm up
        tick()
        for is_new in (place % 2 == 0, place % 2 == 1):
            started = time.perf_counter()
            code = pack((new if is_new else old).logits([query.item]))[0]
            hits = trial.nearest(code, _K + 1, new=is_new)
            if place:
                times[is_new].append((time.perf_counter() - started) * 1000)
                answers[is_new].append([hit for hit in hits if hit.id != query.id][:_K])
    health = {is_new: _health(trial.codes(new=is_new)) for is_new in (False, True)}
    return {
        "overlap": _overlap(answers[False], answers[True]),
        "precision": _pair({is_new: _precision(queries, answers[is_new]) for is_new in answers}),
        "distinct": _pair({is_new: health[is_new][0] for is_new in health}),
        "dead_bits": _pair({is_new: health[is_new][1] for is_new in health}),
        "latency_ms": {
            name: _pair({is_new: _percentile(times[is_new], q) for is_new in times})
            for name, q in (("p50", 50), ("p95", 95))
        },
    }


def check(report: Mapping[str, Any], gate: GateOptions) -> None:
    """Raise `GateRefused` where something measured is beyond its limit; what could not be measured is not."""
    faults = []
    if report["overlap"] is not None and report["overlap"] < gate.min_overlap:
        faults.append(f"overlap {report['overlap']:.3f} is below min_overlap {gate.min_overlap:g}")
    old, new = report["precision"]["old"], report["precision"]["new"]
    if old is not None and new is not None and old - new > gate.max_precision_drop:
        faults.append(
            f"precision@10 falls from {old:.3f} to {new:.3f}, by more than max_precision_drop "
            f"{gate.max_precision_drop:g}"
        )
    old, new = report["distinct"]["old"], report["distinct"]["new"]
    if old and new < gate.min_distinct * old:
        faults.append(
            f"{new:.3f} of the codes are distinct, {old:.3f} were, and {new / old:.3f} is below min_distinct "
            f"{gate.min_distinct:g}"
        )
    new = report["dead_bits"]["new"]
    if new is not None and new > gate.max_dead_bits:
        faults.append(f"{new:.3f} of the bits are the same for all, more than max_dead_bits {gate.max_dead_bits:g}")
    old, new = report["latency_ms"]["p50"]["old"], report["latency_ms"]["p50"]["new"]
    if old and new > gate.max_slowdown * old:
        faults.append(
            f"the median search takes {new:.2f} ms, {new / old:.1f} times {old:.2f} ms, more than max_slowdown "
            f"{gate.max_slowdown:g}"
        )
    if faults:
        raise GateRefused(
            f"{'; '.join(faults)}. The old model goes on serving; train a better one, or send another gate "
            "(null takes any)",
            {"report": dict(report)},
        )


def _overlap(old: Sequence[Sequence[Any]], new: Sequence[Sequence[Any]]) -> float | None:
    shares = [len({hit.id for hit in a} & {hit.id for hit in b}) / len(a) for a, b in zip(old, new, strict=True) if a]
    return round(float(np.mean(shares)), 4) if shares else None


def _precision(queries: Sequence[Query], answers: Sequence[Sequence[Any]]) -> float | None:
    labelled = [(query.label, hits) for query, hits in zip(queries, answers, strict=True) if query.label and hits]
    if len({label for label, _ in labelled}) < 2:
        return None
    shares = [sum(_label(hit.payload) == label for hit in hits) / len(hits) for label, hits in labelled]
    return round(float(np.mean(shares)), 4)


def _health(codes: Codes) -> tuple[float | None, float | None]:
    """The share of distinct codes, and of bits that say nothing."""
    codes = np.ascontiguousarray(codes[:: max(1, len(codes) // _LOOKED_AT)])
    if len(codes) < 2:
        return None, None
    distinct = len(np.unique(codes.view(np.dtype((np.void, codes.shape[1]))))) / len(codes)
    ones = np.unpackbits(codes, axis=1).mean(axis=0)
    return round(distinct, 4), round(float((np.minimum(ones, 1 - ones) < _SAME).mean()), 4)


def _percentile(values: Sequence[float], q: float) -> float | None:
    return round(float(np.percentile(values, q)), 3) if values else None


def _pair(values: Mapping[bool, float | None]) -> dict[str, float | None]:
    return {"old": values[False], "new": values[True]}
