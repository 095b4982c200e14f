"""Exact and complete search in one Milvus collection, which by itself is neither.

Milvus gives 16,384 hits at most, without a word where there are more, and the nearest k in any order among equals. Here
an answer that long is asked for again in eight parts, by ranges of a hash of the ids, and each of those too where it
must be. (Not by a remainder of the hash: Milvus 2.3 gets that wrong for large numbers.) And of the nearest k, all that
are as near as the last of them are found before ids decide.

A search that takes several questions sees the writes that come between them: an item that is there all the while is
found once, one that comes or goes meanwhile may or may not be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .connection import AT_ONCE, Connection
from .expressions import both
from .rows import SLOTS

_WAYS = 8
_SPARE = 64
"""Asked for beyond k, so that a few equals at the end need no second question."""
FEW = 256
"""Nearest items whose payloads come with them."""

_TOGETHER = 1_000
"""Codes searched for in one question."""

Near = tuple[int, str]
"""Distance and primary key: sorted, they are in the order of an answer."""


@dataclass(slots=True)
class Found:
    """What a search has found so far, ascending, and what it took."""

    near: list[Near]
    questions: int
    rows: dict[str, dict[str, Any]]
    """The rows that came with them, by primary key."""


def nearest_of(near: list[Near], k: int) -> list[Near]:
    """Of all that is near, in order, the `k` nearest and what is as near as the last of them."""
    return near if len(near) <= k else [one for one in near if one[0] <= near[k - 1][0]]


class Finder:
    """Searches in one Milvus collection for one code."""

    def __init__(self, connection: Connection, physical: str, bits: int, code: bytes, where: str | None) -> None:
        """where: an expression that all that is found satisfies."""
        self._connection, self._physical, self._bits, self._code, self._where = connection, physical, bits, code, where
        self._questions = 0

    def within(self, radius: int, *, least: int = 0) -> Found:
        """Everything at a distance of `least` to `radius`, both included."""
        return Found(sorted(self._all(least, radius)), self._questions, {})

    def nearest(self, k: int, radius: int | None, fields: Sequence[str] = ()) -> Found:
        """The `k` nearest within `radius` and all that are as near as the last of them.

        fields: of their rows, to come along; for few only.
        """
        reach = self._bits if radius is None else radius
        limit = min(k + _SPARE, AT_ONCE)
        rows: dict[str, dict[str, Any]] = {}
        near = sorted(self._ask(0, reach, limit, SLOTS, fields, rows))
        if len(near) < limit:  # that is all there is
            return Found(nearest_of(near, k), self._questions, rows)
        last = near[-1][0]
        if len(near) >= k and near[k - 1][0] < last:
            return Found(nearest_of(near, k), self._questions, rows)
        if len(near) >= k:
            ties = self._all(last, last)
            return Found(sorted([one for one in near if one[0] < last] + ties), self._questions, rows)
        return Found(nearest_of(self._widened(k, last, reach), k), self._questions, rows)

    def _widened(self, k: int, radius: int, reach: int) -> list[Near]:
        """More than one answer holds: everything within ever larger radii, until there are `k`."""
        near = self._all(0, radius)
        while len(near) < k and radius < reach:
            near += self._all(radius + 1, radius + 1)
            radius += 1
        return sorted(near)

    def _all(self, least: int, most: int, slots: range = SLOTS) -> list[Near]:
        """Everything at these distances whose slot is one of `slots`."""
        found = self._ask(least, most, AT_ONCE, slots)
        if len(found) < AT_ONCE:
            return found
        step = -(-len(slots) // _WAYS)
        finer = [slots[start : start + step] for start in range(0, len(slots), step)]
        return [one for part in finer for one in self._all(least, most, part)]

    def _ask(
        self,
        least: int,
        most: int,
        limit: int,
        slots: range,
        fields: Sequence[str] = (),
        rows: dict[str, dict[str, Any]] | None = None,
    ) -> list[Near]:
        self._questions += 1
        own = None if slots == SLOTS else f"slot >= {slots.start} and slot < {slots.stop}"
        # A distance d is found where range_filter <= d < radius.
        params: dict[str, Any] = (
            {} if least == 0 and most >= self._bits else {"radius": most + 1, "range_filter": least}
        )
        hits = self._connection.call(
            "search",
            self._physical,
            data=[self._code],
            anns_field="code",
            filter=both(self._where, own),
            limit=limit,
            search_params={"metric_type": "HAMMING", "params": params},
            output_fields=["id", *fields],
            consistency_level=self._connection.of_searches,
        )[0]
        if rows is not None and fields:
            rows |= {hit["id"]: dict(hit["entity"]) for hit in hits}
        return [(round(hit["distance"]), hit["id"]) for hit in hits]


def each_nearest(
    connection: Connection, physical: str, codes: Sequence[bytes], k: int, radius: int
) -> list[list[Near]]:
    """For each of `codes` the `k` nearest within `radius`, of those as near any, in order."""
    found: list[list[Near]] = []
    for start in range(0, len(codes), _TOGETHER):
        answers = connection.call(
            "search",
            physical,
            data=list(codes[start : start + _TOGETHER]),
            anns_field="code",
            limit=k,
            search_params={"metric_type": "HAMMING", "params": {"radius": radius + 1, "range_filter": 0}},
            output_fields=["id"],
            consistency_level="Strong",
        )
        found += [sorted((round(hit["distance"]), hit["id"]) for hit in hits) for hits in answers]
    return found
