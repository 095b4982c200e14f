"""A random walk over a collection: whatever is written, deleted and restarted, it equals a dict and the brute force."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from places import BITS

from index import Item, PutResult, filters, hamming, query, unpack
from index.errors import InvalidCode


def expected(
    items: dict[str, Item], code: bytes, radius: int | None = None, filter: Any = None
) -> list[tuple[int, str]]:
    """Every item within the radius that matches, by (distance, id): all a search can find, by definition."""
    near = np.frombuffer(code, np.uint8)
    matches = filters.parse(filter or {}).matches
    pairs = [(int(hamming(np.frombuffer(item.code, np.uint8), near)), item.id) for item in items.values()]
    reach = BITS if radius is None else radius
    return sorted(pair for pair in pairs if pair[0] <= reach and matches(items[pair[1]].payload))


def by_score(items: dict[str, Item], pairs: list[tuple[int, str]], k: int | None, logits: Any) -> list[tuple[Any, str]]:
    """Of the k first `pairs` and what ties with the last of them, the k best (score, id), by (-score, id)."""
    if k is not None and k < len(pairs):
        pairs = [pair for pair in pairs if pair[0] <= pairs[k - 1][0]]
    scores = {id: score(items[id].code, logits) for _, id in pairs}
    return [(pytest.approx(scores[id]), id) for id in sorted(scores, key=lambda id: (-scores[id], id))[:k]]


def score(code: bytes, logits: Any) -> float:
    """The share of |logit| in the bits that agree with the signs, less that in those that do not."""
    weights = np.where(unpack(np.frombuffer(code, np.uint8)) == (logits > 0), 1, -1) * np.abs(logits)
    return float(weights.sum() / np.abs(logits).sum()) if logits.any() else 1.0


codes = st.binary(min_size=2, max_size=2) | st.sampled_from([b"\0\0", b"\0\1", b"\xff\xff"])
ids = st.sampled_from(["a", "b", "B", "ä", "日本", "a/b", "0", "z" * 512, "\u200bx", *map(str, range(20))])
values = st.integers(-3, 3) | st.text(max_size=3)
items = st.builds(
    Item,
    ids,
    codes,
    st.none() | st.dictionaries(st.sampled_from(["x", "y"]), values | st.lists(values, max_size=2)),
    st.none(),
    st.none(),
) | st.builds(Item, ids, codes, st.none(), st.just("text"), st.binary(max_size=5))
fields = st.sampled_from(["x", "y", "nobody.has.this"])
leaves = st.dictionaries(
    fields,
    st.sampled_from([0, 1, -3, "", {"$gte": 0}, {"$lt": 2, "$ne": -1}, {"$in": [1, 2, "a"]}, {"$gt": "0"}])
    | st.booleans().map(lambda there: {"$exists": there}),
    max_size=2,
)
conditions = leaves | leaves.map(lambda one: {"$not": one}) | st.tuples(leaves, leaves).map(lambda two: {"$or": [*two]})
# Sums of quarters are exact, so that what ties, ties in every order of adding; others hardly ever do.
quarters = st.lists(st.integers(-4, 4), min_size=BITS, max_size=BITS).map(lambda numbers: np.array(numbers) / 4)
logits = quarters | st.integers(0, 2**32).map(lambda seed: np.random.default_rng(seed).normal(size=BITS))


class CollectionMachine(RuleBasedStateMachine):
    """The random walk of reliability.md X8, over a collection kept in `place`."""

    place: ClassVar[Any]
    collection: Any

    @initialize(checked=st.sampled_from([0, 3, query.CHECKED]))
    def start(self, checked: int) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(query, "CHECKED", checked)  # so that of few items, too, the matching ones are worked out
        self.collection = self.place().make()
        self.known: dict[str, Item] = {}

    def teardown(self) -> None:
        if hasattr(self, "collection"):
            self.patch.undo()
            self.place().done(self.collection)

    # -- changes -------------------------------------------------------------------------------------------

    @rule(batch=st.lists(items, max_size=6))
    def put(self, batch: list[Item]) -> None:
        self.stored(self.collection.put(batch), batch)

    @rule(batch=st.lists(st.builds(Item, ids, codes), max_size=12))
    def put_codes(self, batch: list[Item]) -> None:
        array = np.frombuffer(b"".join(item.code for item in batch), np.uint8).reshape(-1, BITS // 8)
        self.stored(self.collection.put_codes([item.id for item in batch], array), batch)

    def stored(self, result: PutResult, batch: list[Item]) -> None:
        latest = {item.id: item for item in batch}
        assert result.created == sum(id not in self.known for id in latest)
        assert result.unchanged == sum(self.known.get(id) == item for id, item in latest.items())
        assert result.created + result.updated + result.unchanged == len(latest)
        self.known |= latest

    @rule(doomed=st.lists(ids, max_size=3))
    def delete(self, doomed: list[str]) -> None:
        assert self.collection.delete(doomed) == len(set(doomed) & set(self.known))
        for id in doomed:
            self.known.pop(id, None)

    @rule(filter=conditions)
    def delete_where(self, filter: Any) -> None:
        matches = filters.parse(filter).matches
        doomed = [id for id, item in self.known.items() if matches(item.payload)]
        assert self.collection.delete_where(filter) == len(doomed)
        for id in doomed:
            del self.known[id]

    @rule(batch=st.lists(items, min_size=1, max_size=3))
    def a_bad_item_refuses_the_batch(self, batch: list[Item]) -> None:
        with pytest.raises(InvalidCode, match=f"item {len(batch)}"):
            self.collection.put([*batch, Item("a", b"\0")])

    # -- what changes nothing ------------------------------------------------------------------------------

    @rule()
    def compact(self) -> None:
        self.collection.compact()

    @rule(field=fields)
    def index_field(self, field: str) -> None:
        self.collection.index_field(field)
        assert field in self.collection.fields

    @rule()
    def restart(self) -> None:
        self.collection = self.place().again(self.collection)

    # -- searches ------------------------------------------------------------------------------------------

    @rule(code=codes, k=st.integers(1, 12), radius=st.none() | st.integers(0, BITS), filter=st.none() | conditions)
    def nearest(self, code: bytes, k: int, radius: int | None, filter: Any) -> None:
        want = expected(self.known, code, radius, filter)[:k]
        array = np.frombuffer(code, np.uint8)
        page = self.collection.search(array, k=k, radius=radius, filter=filter, codes=True)
        assert [(hit.distance, hit.id) for hit in page.hits] == want
        assert (page.total, page.complete) == (len(want), True)
        assert self.collection.search(array, k=k, radius=radius, filter=filter, count_only=True).total == len(want)
        for hit in page.hits:
            assert hit.code == self.known[hit.id].code
            assert hit.payload == self.known[hit.id].payload

    @rule(code=codes, radius=st.integers(0, BITS), limit=st.integers(1, 4), filter=st.none() | conditions)
    def pages(self, code: bytes, radius: int, limit: int, filter: Any) -> None:
        want = expected(self.known, code, radius, filter)
        assert self.all_pages(len(want), limit, code=code, radius=radius, filter=filter) == want

    @rule(code=codes, k=st.integers(1, 12), radius=st.none() | st.integers(0, BITS), logits=logits, filter=conditions)
    def nearest_by_soft_distance(self, code: bytes, k: int, radius: int | None, logits: Any, filter: Any) -> None:
        found = expected(self.known, code, radius, filter)
        page = self.collection.search(
            np.frombuffer(code, np.uint8), k=k, radius=radius, logits=logits, filter=filter, codes=True
        )
        assert [(hit.score, hit.id) for hit in page.hits] == by_score(self.known, found, k, logits)
        assert (page.total, page.complete) == (min(k, len(found)), True)
        assert {(hit.distance, hit.id) for hit in page.hits} <= set(found)
        assert all(hit.code == self.known[hit.id].code for hit in page.hits)

    @rule(
        code=codes, radius=st.integers(0, BITS), limit=st.integers(1, 4), logits=logits, filter=st.none() | conditions
    )
    def pages_by_soft_distance(self, code: bytes, radius: int, limit: int, logits: Any, filter: Any) -> None:
        found = expected(self.known, code, radius, filter)
        got = self.all_pages(len(found), limit, code=code, radius=radius, logits=logits, filter=filter)
        assert [id for _, id in got] == [id for _, id in by_score(self.known, found, None, logits)]

    def all_pages(self, total: int, limit: int, *, code: bytes, **asked: Any) -> list[tuple[int, str]]:
        got: list[tuple[int, str]] = []
        cursor = None
        while True:
            page = self.collection.search(np.frombuffer(code, np.uint8), limit=limit, cursor=cursor, **asked)
            assert page.total == total
            assert len(page.hits) <= limit
            got += [(hit.distance, hit.id) for hit in page.hits]
            cursor = page.cursor
            if page.complete:
                return got

    @invariant()
    def sound(self) -> None:
        if hasattr(self, "collection"):
            assert self.collection.check().faults == ()
            assert len(self.collection) == len(self.known)
            assert self.collection.items(limit=100) == sorted(self.known.values(), key=lambda item: item.id)
