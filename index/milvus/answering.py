"""The answer to one search in Milvus: what is near, what the filter leaves of it, in which order, which page.

The definition is that of `index.query`. A search takes one question where it can, which sees one state. Where it takes
more, what is shown is checked against the rows that are there by then: where one has changed or gone the search is made
again, and after three times without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..answer import Hit, Page, make_cursor, open_cursor
from ..bits import hamming
from ..errors import StoreDamaged
from ..protocol import Plan
from ..query import Query, check_reranked
from ..rerank import scores_of
from ..rescore import check_inputs, check_many
from .connection import Connection
from .expressions import expression_of
from .finding import FEW, Finder, Near, nearest_of
from .layout import Layer
from .names import to_id, to_key
from .parts import Parts, size_of
from .rows import FIELDS, INPUT, code_of, from_row, payload_text, seal_of
from .table import Row, Rows

_TRIES = 3
_AHEAD = 8
"""With a filter that Milvus cannot decide alone, the nearest 8 k items are tried first."""
_SHOWN = ["payload", "exact", "flags"]


class _Moved(Exception):
    """What was found is not there any more as it was found."""


class Answering:
    """One search in one generation."""

    def __init__(self, connection: Connection, layer: Layer, query: Query) -> None:
        self._query, self._layer = query, layer
        self._rows = Rows(connection, layer.physical, connection.of_searches)
        self._parts = Parts(connection, layer.inputs)
        self._expression = expression_of(query.where)
        self._finder = Finder(connection, layer.physical, layer.bits, query.code.tobytes(), self._expression.text)
        self._seen: dict[str, Row] = {}  # rows that came along, by key
        self._candidates = 0

    def page(self, collection: str) -> Page:
        """The exact answer, of the collection that the generation belongs to."""
        bound = self._query.name(collection, self._layer.number)
        after = None if self._query.cursor is None else open_cursor(self._query.cursor, bound)
        for attempt in range(_TRIES):
            self._seen = {}
            near = self._found()
            try:
                return self._page(near, after, bound, strict=attempt + 1 < _TRIES)
            except _Moved:
                continue
        raise AssertionError("the last attempt leaves out what has moved")

    # -- what is near --------------------------------------------------------------------------------------

    def _found(self) -> list[Near]:
        """Everything that belongs to the answer, and what ties with the k-th, in order."""
        query = self._query
        k = None if query.k is None else query.k * query.oversample
        if self._expression.exact:
            return self._near(k)
        if k is None:
            return self._matching(self._near(None))
        tried = _AHEAD * k
        while True:
            near = self._near(tried)
            matching = self._matching(near)
            # Of the nearest all is known once k of them match, or there are no more.
            if len(matching) >= k or len(near) < tried:
                return nearest_of(matching, k)
            tried *= _AHEAD

    def _near(self, k: int | None) -> list[Near]:
        if k is None:
            assert self._query.radius is not None
            found = self._finder.within(self._query.radius)
        else:
            plain = self._query.logits is None and self._query.rescore is None and self._query.payloads
            fields = _SHOWN if plain and k <= FEW and not self._query.count_only else ()
            found = self._finder.nearest(k, self._query.radius, fields)
        self._seen |= found.rows
        self._candidates = max(self._candidates, len(found.near))
        return found.near

    def _matching(self, near: Sequence[Near]) -> list[Near]:
        assert self._query.where is not None
        missing = [key for _, key in near if key not in self._seen]
        self._seen |= self._rows.by_key(missing, ["id", *_SHOWN])
        matches = self._query.where.matches
        return [
            one
            for one in near
            if (row := self._seen.get(one[1])) is not None and matches(Hit("", 0, payload_text(row)).payload)
        ]

    # -- what is shown -------------------------------------------------------------------------------------

    def _page(self, near: list[Near], after: tuple[float, str] | None, bound: str, *, strict: bool) -> Page:
        query, model = self._query, self._layer.model
        plan = Plan("scan", self._candidates)
        total = len(near) if query.k is None else min(query.k, len(near))
        if query.count_only:
            return Page((), total, None, plan, model)
        take = query.limit if query.k is None else query.k
        if query.rescore is not None:
            return Page(self._rescored(near, take, strict), total, None, plan, model)
        if query.logits is not None:
            return self._reranked(near, take, after, total, bound, plan, strict)
        if after is not None:
            near = [one for one in near if one > (int(after[0]), to_key(after[1]))]
        hits = self._hits(near[:take], strict)
        more = query.k is None and len(near) > take and bool(hits)
        cursor = make_cursor(hits[-1].distance, hits[-1].id, bound) if more else None
        return Page(hits, total, cursor, plan, model)

    def _hits(self, near: Sequence[Near], strict: bool) -> list[Hit]:
        query = self._query
        if not query.payloads and not query.codes:
            return [Hit(to_id(key), distance) for distance, key in near]
        if not query.codes and all(key in self._seen for _, key in near):
            return [Hit(to_id(key), distance, payload_text(self._seen[key])) for distance, key in near]
        rows = self._current(near, strict)
        return [
            Hit(
                to_id(key),
                distance,
                payload_text(rows[key]) if query.payloads else None,
                code_of(rows[key]) if query.codes else None,
            )
            for distance, key in near
            if key in rows
        ]

    def _current(self, near: Sequence[Near], strict: bool) -> dict[str, Row]:
        """The rows of what was found, as they are now. Raises `_Moved` where `strict`, else leaves out what has."""
        rows = self._rows.by_key([key for _, key in near], FIELDS)
        stays = {}
        for distance, key in near:
            row = rows.get(key)
            if row is not None:
                code = code_of(row)
                if row["seal"] != seal_of(to_id(key), code, row["digest"]):
                    raise StoreDamaged(f"item {to_id(key)!r} is not what was written; restore it from a snapshot")
                if int(hamming(np.frombuffer(code, np.uint8), self._query.code)) == distance:
                    stays[key] = row
                    continue
            if strict:
                raise _Moved
        return stays

    def _reranked(
        self,
        near: Sequence[Near],
        take: int,
        after: tuple[float, str] | None,
        total: int,
        bound: str,
        plan: Plan,
        strict: bool,
    ) -> Page:
        """The page in the order of the soft distance, then of ids."""
        query = self._query
        assert query.logits is not None
        check_reranked(len(near))
        rows: dict[str, Any] = self._current(near, strict)
        kept = [one for one in near if one[1] in rows]
        codes = np.frombuffer(b"".join(code_of(rows[key]) for _, key in kept), np.uint8)
        scores = scores_of(query.logits, codes.reshape(len(kept), len(query.code))).tolist()
        # Best first, so the place in the order is minus the score.
        order = sorted((-score, to_id(key), distance, key) for score, (distance, key) in zip(scores, kept, strict=True))
        if after is not None:
            order = [one for one in order if (one[0], one[1]) > after]
        hits = [
            Hit(
                id,
                distance,
                payload_text(rows[key]) if query.payloads else None,
                code_of(rows[key]) if query.codes else None,
                -place,
            )
            for place, id, distance, key in order[:take]
        ]
        more = query.k is None and len(order) > take and bool(hits)
        cursor = make_cursor(order[take - 1][0], order[take - 1][1], bound) if more else None
        return Page(hits, total, cursor, plan, self._layer.model)

    def _rescored(self, near: Sequence[Near], take: int, strict: bool) -> list[Hit]:
        """The page in the order of the distances between inputs, then of ids."""
        query = self._query
        assert query.rescore is not None
        check_many(len(near), query.rescore)
        rows = self._current(near, strict)
        places = [rows[key]["place"] for _, key in near if key in rows and rows[key]["flags"] & INPUT]
        check_inputs(len(rows), len(places), sum(map(size_of, places)), query.rescore)
        inputs = self._parts.get(places)
        items = [(distance, from_row(rows[key], inputs)) for distance, key in near if key in rows]
        distances = query.rescore.distances([item for _, item in items]).tolist()
        order = sorted(zip(distances, items, strict=True), key=lambda one: (one[0], one[1][1].id))[:take]
        return [
            Hit(
                item.id,
                distance,
                item.payload_text() if query.payloads else None,
                item.code if query.codes else None,
                -apart,
            )
            for apart, (distance, item) in order
        ]
