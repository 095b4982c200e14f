"""Two models on the same items and the same searches: what would change for those who search.

Searches are replayed on codes of both, on one state of the collection. Overlap is the share of the 10 nearest that both
find; precision@10 is the share of them with the label of the item that was searched for; the time is that of encoding
and searching, each in turn. Codes are compared by how many are distinct and how many bits say nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from index import Codes, Hit, Item, Trial, pack
from index.census import count_bits, groups_of_equals
from index.errors import UnknownItem
from index.health import DEAD
from models.base import Model
from models.errors import InvalidInput

from .codecs import decode, from_bytes
from .errors import GateRefused
from .kept import unlimited
from .schemas import Input
from .schemas.generations import GateOptions

_K = 10


@dataclass(frozen=True, slots=True)
class Query:
    """Something to search for; `id` and `label` where it is a stored item."""

    item: Any
    id: str | None = None
    label: str | None = None
    recent: bool = False
    """Whether it was searched for, and not only drawn from what is stored."""


def queries_for(trial: Trial, recent: Sequence[Input], model: Model, count: int) -> Iterator[Query]:
    """At most `count` queries, recent ones first, then stored items drawn by chance; each is read when its turn comes.

    model: the one that recent queries were encoded by.
    """
    left, seen = count, set()
    for value in recent:
        if left == 0:
            return
        try:
            query = _replayed(trial, value, model)
        except (InvalidInput, UnknownItem):  # it was refused when it came, or is gone by now
            continue
        left -= 1
        seen.add(query.id)
        yield query
    for item in trial.sample():
        if left == 0:
            return
        if item.id not in seen and item.kind is not None and item.input is not None:
            left -= 1
            yield _stored(item)


def _replayed(trial: Trial, value: Input, model: Model) -> Query:
    if value.id is None:
        return Query(decode(value, model.input, unlimited()), recent=True)
    item = trial.get(value.id)
    if item is None or item.input is None:
        raise UnknownItem(value.id)
    return replace(_stored(item), recent=True)


def _stored(item: Item) -> Query:
    assert item.kind is not None
    assert item.input is not None
    return Query(from_bytes(item.input, item.kind, unlimited()).item, item.id, _label(item.payload))


def _label(payload: Mapping[str, Any] | None) -> str | None:
    label = (payload or {}).get("label")
    return None if label is None else str(label)


@dataclass(slots=True)
class _Side:
    """One of the two models, and what its searches gave."""

    model: Model
    new: bool
    times: list[float] = field(default_factory=list)
    precision: list[float] = field(default_factory=list)

    def answer(self, trial: Trial, query: Query) -> list[Hit]:
        """The nearest but the item itself; timed, encoding included."""
        started = time.perf_counter()
        code = pack(self.model.logits([query.item]))[0]
        hits = trial.nearest(code, _K + 1, new=self.new)
        self.times.append((time.perf_counter() - started) * 1000)
        found = [hit for hit in hits if hit.id != query.id][:_K]
        if query.label is not None and found:
            self.precision.append(sum(_label(hit.payload) == query.label for hit in found) / len(found))
        return found


def compare(trial: Trial, old: Model, new: Model, queries: Iterable[Query], tick: Callable[[], None]) -> dict[str, Any]:
    """What was measured. tick: called before each query; may raise to end it."""
    sides = [_Side(old, False), _Side(new, True)]
    shares, labels, recent, count = [], set(), 0, 0
    for query in queries:
        tick()
        if count == 0:  # to warm up
            for side in (_Side(old, False), _Side(new, True)):
                side.answer(trial, query)
        turns = sides if count % 2 else sides[::-1]
        found = {side.new: {hit.id for hit in side.answer(trial, query)} for side in turns}
        if found[False]:
            shares.append(len(found[False] & found[True]) / len(found[False]))
        labels.add(query.label)
        count += 1
        recent += query.recent
    labelled = len(labels - {None}) > 1
    health = [_health(trial.codes(new=side.new)) for side in sides]
    return {
        "queries": {"recent": recent, "stored": count - recent},
        "overlap": _mean(shares),
        "precision": _pair([_mean(side.precision) if labelled else None for side in sides]),
        "distinct": _pair([distinct for distinct, _ in health]),
        "dead_bits": _pair([dead for _, dead in health]),
        "latency_ms": {
            name: _pair([round(float(np.percentile(side.times, q)), 3) if side.times else None for side in sides])
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


def _health(codes: Codes) -> tuple[float | None, float | None]:
    """The share of distinct codes, and of bits that tell hardly any items apart; of two items on."""
    if len(codes) < 2:
        return None, None
    ones = count_bits(codes) / len(codes)
    distinct = len(groups_of_equals(codes)[1]) / len(codes)
    return round(distinct, 4), round(float((np.minimum(ones, 1 - ones) < DEAD).mean()), 4)


def _mean(values: Sequence[float]) -> float | None:
    return round(float(np.mean(values)), 4) if values else None


def _pair(values: Sequence[float | None]) -> dict[str, float | None]:
    return {"old": values[0], "new": values[1]}
