"""One search over one committed state: what is near, what the filter leaves of it, in which order, which page.

A filter is applied in the cheapest exact way. Where few items are near, those are looked up and checked. Otherwise, or
when the filter is a known one, the items it selects are worked out (see `selection`) and the search is made among them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np

from .answer import Hit, Page, any_after, first_hits, make_cursor, open_cursor
from .bits import Codes, to_hex
from .errors import InvalidQuery, StoreDamaged
from .filters import Condition
from .protocol import Hits, Plan
from .reader import Reader
from .records import ModelKey
from .rerank import Logits, check_logits, scores_of
from .rescore import Rescore, rescored
from .selection import Selections
from .snapshot import Snapshot

CHECKED = 2_000
"""Near items that are looked up to see whether they match: a few milliseconds, less than to ask of all items."""
AHEAD = 8
"""With a filter, the nearest 8 k items are tried first."""
MAX_RERANKED = 100_000
"""Items that are ordered by soft distance: their codes are fetched, some microseconds each."""


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked for; checked by the collection. k, radius: at least one. code: `(bits / 8,)`."""

    code: Codes
    k: int | None = None
    radius: int | None = None
    limit: int = 1000
    cursor: str | None = None
    where: Condition | None = None
    logits: Logits | None = None
    payloads: bool = True
    codes: bool = False
    count_only: bool = False
    oversample: int = 1
    """So many times k are found by code, for the other order to choose from."""
    rescore: Rescore | None = None

    def check(self) -> None:
        """Raise `InvalidQuery` where what is asked for cannot be."""
        if self.k is None and self.radius is None:
            raise InvalidQuery("a search needs k, radius, or both")
        if self.k is not None and self.k < 1:
            raise InvalidQuery(f"k is at least 1; got {self.k}")
        if self.radius is not None and not 0 <= self.radius <= self.code.size * 8:
            raise InvalidQuery(f"radius is 0 to {self.code.size * 8}, the width of the codes; got {self.radius}")
        if self.cursor is not None and self.k is not None:
            raise InvalidQuery("a cursor continues a search by radius alone; leave k out")
        if self.logits is not None:
            check_logits(self.logits, self.code.size * 8)
        if self.rescore is not None and self.k is None:
            raise InvalidQuery("an exact order is of the k nearest codes; give k")
        if self.oversample != 1 and (self.k is None or (self.logits is None and self.rescore is None)):
            raise InvalidQuery("oversample finds more than k for another order to choose from: give k, and an order")

    def name(self, collection: str, generation: int) -> str:
        """What a cursor is bound to: everything that decides the order of the whole answer."""
        soft = "" if self.logits is None else self.logits.astype(np.float64).tobytes().hex()
        where = self.where.text if self.where else ""
        return f"{collection}/{generation} {to_hex(self.code)} {self.radius} {where} {soft}"


def answer(
    reader: Reader,
    snapshot: Snapshot,
    selections: Selections,
    query: Query,
    collection: str,
    model: ModelKey | None = None,
) -> Page:
    """The exact answer to `query` in the state that both `reader` and `snapshot` show, of codes by `model`."""
    bound = query.name(collection, snapshot.generation)
    after = None if query.cursor is None else open_cursor(query.cursor, bound)
    wide = query if query.k is None or query.oversample == 1 else replace(query, k=query.k * query.oversample)
    found = _found(reader, snapshot, selections, wide)
    total = len(found) if query.k is None else min(query.k, len(found))
    if query.count_only:
        return Page((), total, None, found.plan, model)
    take = query.limit if query.k is None else query.k
    if query.rescore is not None:
        best = rescored(reader, found, query.rescore, take, payloads=query.payloads, codes=query.codes)
        return Page(best, total, None, found.plan, model)
    if query.logits is not None:
        page = _reranked(reader, found, query, take, after, total, bound)
        return replace(page, model=model)
    hits = first_hits(reader, found, take, after, payloads=query.payloads, codes=query.codes)
    more = query.k is None and bool(hits) and any_after(reader, found, hits[-1])
    cursor = make_cursor(hits[-1].distance, hits[-1].id, bound) if more else None
    return Page(hits, total, cursor, found.plan, model)


def _found(reader: Reader, snapshot: Snapshot, selections: Selections, query: Query) -> Hits:
    """Everything that belongs to the answer, and what ties with the k-th."""
    if query.where is None:
        return _near(snapshot, query, query.k)
    if not selections.known(query.where):
        near = _near(snapshot, query, None if query.k is None else AHEAD * query.k)
        if len(near) <= CHECKED:
            matching = Hits(near.packed[_match(reader, near, query.where)], near.plan)
            # Of everything within the radius all is known; of the nearest, once k of them match.
            if query.k is None:
                return matching
            if len(near) < AHEAD * query.k or len(matching) >= query.k:
                return matching.nearest(query.k)
    return _near(selections.restrict(reader, snapshot, query.where), query, query.k)


def _near(snapshot: Snapshot, query: Query, k: int | None) -> Hits:
    if k is not None:
        return snapshot.search(query.code, k, query.radius)
    assert query.radius is not None
    return snapshot.within(query.code, query.radius)


def _match(reader: Reader, near: Hits, where: Condition) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which of `near` match."""
    sql, values = where.where()
    rows = reader.db.execute(
        f"SELECT key FROM items WHERE key IN (SELECT value FROM json_each(?)) AND ({sql})",
        [json.dumps(near.keys.tolist()), *values],
    )
    return np.isin(near.keys, np.array([key for (key,) in rows], np.int64), assume_unique=True)


def check_reranked(items: int) -> None:
    """Raise `InvalidQuery` where more items are near than are reranked."""
    if items > MAX_RERANKED:
        raise InvalidQuery(
            f"{items:,} items are near, at most {MAX_RERANKED:,} are reranked; ask for a smaller radius, or for k"
        )


def _reranked(
    reader: Reader, found: Hits, query: Query, take: int, after: tuple[float, str] | None, total: int, bound: str
) -> Page:
    """The page in the order of the soft distance, then of ids."""
    assert query.logits is not None
    check_reranked(len(found))
    keys, distances = found.keys.tolist(), found.distances.tolist()
    ids = reader.ids(keys, after=None, limit=len(keys))
    if len(ids) < len(keys):
        raise StoreDamaged("an item near the query cannot be read; restore the collection from a backup")
    code_of = reader.codes_of(keys)
    codes = np.frombuffer(b"".join(code_of[key] for key in keys), np.uint8).reshape(len(keys), len(query.code))
    scores = dict(zip(keys, scores_of(query.logits, codes).tolist(), strict=True))
    distance_of = dict(zip(keys, distances, strict=True))
    # Best first, so the place in the order is minus the score.
    rows = sorted((-scores[key], id, key) for id, key in ids)
    if after is not None:
        rows = [row for row in rows if (row[0], row[1]) > after]
    page, rest = rows[:take], rows[take:]
    shown = [key for _, _, key in page]
    payload_of = reader.payloads(shown) if query.payloads else {}
    hits = [
        Hit(id, distance_of[key], payload_of.get(key), code_of[key] if query.codes else None, scores[key])
        for _, id, key in page
    ]
    cursor = make_cursor(page[-1][0], page[-1][1], bound) if query.k is None and rest and page else None
    return Page(hits, total, cursor, Plan(found.plan.method, found.plan.candidates))
