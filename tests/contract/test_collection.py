"""What a collection does, wherever it is kept: it equals a dict and the brute force, always (reliability.md X8)."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import places
import pytest
from hypothesis import settings
from places import BITS, Make, Place, config
from walking import CollectionMachine, by_score, expected

from index import Item, ModelKey, query
from index.errors import (
    CollectionExists,
    InvalidCode,
    InvalidItem,
    InvalidQuery,
    ModelMismatch,
    UnknownCollection,
    UnknownItem,
)


class InMilvus(CollectionMachine):
    place = staticmethod(places.milvus)


TestInMilvus = places.in_milvus(InMilvus.TestCase)
TestInMilvus.settings = settings(max_examples=8, stateful_step_count=25, deadline=None)


@places.in_milvus
@pytest.mark.slow
@pytest.mark.timeout(1800)
class TestInMilvusAtLength(InMilvus.TestCase):  # type: ignore[name-defined, misc]
    settings = settings(max_examples=200, stateful_step_count=40, deadline=None)


def test_a_filter_means_the_same_before_and_after_it_is_known(make: Make) -> None:
    """What is reranked are the k nearest that match, however they were found."""
    collection = make()
    rng = np.random.default_rng(5)
    items = {f"{number:02d}": Item(f"{number:02d}", rng.bytes(2), {"x": number % 2}) for number in range(30)}
    collection.put(list(items.values()))
    code, logits, filter = rng.bytes(2), rng.normal(size=BITS), {"x": 1}
    found = expected(items, code, filter=filter)
    for checked in (query.CHECKED, 0):
        for k in range(1, 20):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(query, "CHECKED", checked)
                page = collection.search(np.frombuffer(code, np.uint8), k=k, logits=logits, filter=filter)
            assert [(hit.score, hit.id) for hit in page.hits] == by_score(items, found, k, logits), (checked, k)


@pytest.mark.parametrize("filter", [{"y": 2}, {"nobody.has.this": 1}])
@pytest.mark.parametrize("logits", [None, np.ones(BITS), np.zeros(BITS)], ids=["hard", "soft", "no logit"])
@pytest.mark.parametrize("asked", [{"k": 3}, {"radius": 0}, {"k": 3, "radius": 0}], ids=str)
@pytest.mark.parametrize("stored", [0, 1])
def test_searches_that_find_nothing(make: Make, stored: int, asked: Any, logits: Any, filter: Any) -> None:
    collection = make()
    collection.put([Item("far", b"\xff\xff")] * stored)
    page = collection.search(np.zeros(2, np.uint8), logits=logits, filter=filter, **asked)
    assert (list(page.hits), page.total, page.complete) == ([], 0, True)
    assert collection.delete_where({"nobody.has.this": 1}) == 0


def test_many_equal_codes_are_ordered_by_id(make: Make) -> None:
    collection = make(merge_at=100)
    rng = np.random.default_rng(0)
    names = [f"{number:05d}" for number in rng.permutation(5000)]
    for start in range(0, 5000, 1250):
        collection.put([Item(id, b"\0\0") for id in names[start : start + 1250]])
    page = collection.search(np.zeros(2, np.uint8), k=7)
    assert [hit.id for hit in page.hits] == [f"{number:05d}" for number in range(7)]
    page = collection.search(np.zeros(2, np.uint8), radius=0, limit=10)
    page = collection.search(np.zeros(2, np.uint8), radius=0, limit=10, cursor=page.cursor)
    assert [hit.id for hit in page.hits] == [f"{number:05d}" for number in range(10, 20)]
    assert page.total == 5000


def test_pages_neither_skip_nor_repeat_what_stays_while_others_come_and_go(make: Make) -> None:
    """reliability.md S4"""
    collection = make()
    rng = np.random.default_rng(3)
    stay = {f"stay-{number:03d}" for number in range(120)}
    collection.put([Item(id, rng.bytes(2)) for id in stay])
    seen: list[str] = []
    cursor = None
    for step in range(1000):
        page = collection.search(np.zeros(2, np.uint8), radius=BITS, limit=7, cursor=cursor)
        seen += [hit.id for hit in page.hits]
        cursor = page.cursor
        if page.complete:
            break
        collection.put([Item(f"come-{step}-{number}", rng.bytes(2)) for number in range(3)])
        collection.delete([f"come-{step - 1}-{number}" for number in range(3)])
    assert page.complete
    assert len(seen) == len(set(seen))
    assert stay <= set(seen)


def test_readers_beside_a_writer_see_only_committed_states(make: Make) -> None:
    """reliability.md X1, a short one: every answer equals the brute force over some state between call and return."""
    collection = make(merge_at=8)
    states: list[dict[str, Item]] = [{}]
    failures: list[str] = []
    stop = threading.Event()

    def read(seed: int) -> None:
        rng = np.random.default_rng(seed)
        while not stop.is_set():
            query = rng.bytes(2)
            first = max(0, len(states) - 2)  # the state before the one being committed may still be the published one
            page = collection.search(np.frombuffer(query, np.uint8), radius=6, limit=1000)
            got = [(hit.distance, hit.id) for hit in page.hits]
            last = len(states)
            if not any([p for p in expected(states[at], query) if p[0] <= 6] == got for at in range(first, last)):
                failures.append(f"{got} is no answer of states {first} to {last}")
                return

    readers = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for reader in readers:
        reader.start()
    rng = np.random.default_rng(99)
    deadline = time.monotonic() + 4
    state: dict[str, Item] = {}
    while (time.monotonic() < deadline or len(states) <= 50) and not failures:
        batch = [Item(f"i{rng.integers(40)}", rng.bytes(2)) for _ in range(rng.integers(1, 6))]
        doomed = [f"i{rng.integers(40)}" for _ in range(2)]
        if rng.random() < 0.5:
            state = {**state, **{item.id: item for item in batch}}
            states.append(state)  # before the commit: a reader may see it from then on
            collection.put(batch)
        else:
            state = {id: item for id, item in state.items() if id not in doomed}
            states.append(state)
            collection.delete(doomed)
    stop.set()
    for reader in readers:
        reader.join()
    assert not failures


def test_codes_of_another_model_are_refused(make: Make) -> None:
    """reliability.md S3: the same width is no excuse"""
    collection = make(model=ModelKey("m", 1, "a" * 64))
    collection.put([Item("a", b"\0\0")], fingerprint="a" * 64)
    with pytest.raises(ModelMismatch, match="m:1"):
        collection.put([Item("b", b"\0\0")], fingerprint="b" * 64)
    assert len(collection) == 1


@pytest.mark.parametrize("id", ["", "x" * 513, "ä" * 257, "a\0b", "\ud800"])
def test_ids_that_are_refused(make: Make, id: str) -> None:
    collection = make()
    with pytest.raises(InvalidItem):
        collection.put([Item(id, b"\0\0")])
    assert len(collection) == 0


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"k": 0},
        {"k": -1},
        {"radius": -1},
        {"radius": BITS + 1},
        {"k": 1, "cursor": "x"},
        {"radius": 1, "cursor": "x"},
        {"radius": 1, "cursor": "WzAsImEiLDFd"},
    ],
)
def test_searches_that_are_refused(make: Make, options: dict[str, int]) -> None:
    with pytest.raises(InvalidQuery):
        make().search(np.zeros(2, np.uint8), **options)  # type: ignore[arg-type]


def test_a_cursor_belongs_to_its_search(make: Make) -> None:
    collection = make()
    collection.put([Item(str(number), b"\0\0") for number in range(5)])
    cursor = collection.search(np.zeros(2, np.uint8), radius=3, limit=2).cursor
    assert cursor
    with pytest.raises(InvalidQuery, match="another search"):
        collection.search(np.zeros(2, np.uint8), radius=4, limit=2, cursor=cursor)
    with pytest.raises(InvalidQuery, match="another search"):
        collection.search(np.ones(2, np.uint8), radius=3, limit=2, cursor=cursor)


def test_unknown_items_are_said_to_be_unknown(make: Make) -> None:
    with pytest.raises(UnknownItem, match="'nobody'"):
        make().get("nobody")


# -- the catalogue -----------------------------------------------------------------------------------------------------


def test_a_catalogue_knows_its_collections_after_a_restart(place: Place) -> None:
    one, two = place.named("one"), place.named("two")
    catalogue = place.catalogue()
    catalogue.create(config(one)).put([Item("a", b"\0\0")])
    catalogue.create(config(two, ModelKey("m", 1, "a" * 64), 24))
    for turn in range(2):
        with pytest.raises(CollectionExists, match=one):
            catalogue.create(config(one))
        assert {one, two} <= set(catalogue.all()), turn
        assert list(catalogue.all()) == sorted(catalogue.all())
        assert catalogue.get(one).config == config(one)
        assert catalogue.get(two).config == config(two, ModelKey("m", 1, "a" * 64), 24)
        assert catalogue.get(one).items(limit=10) == [Item("a", b"\0\0")]
        assert len(catalogue.get(two)) == 0
        catalogue = place.catalogue()
    catalogue.delete(one)
    for turn in range(2):
        assert one not in catalogue.all(), turn
        for ask in (catalogue.get, catalogue.delete):
            with pytest.raises(UnknownCollection, match=one):
                ask(one)
        catalogue = place.catalogue()
    assert len(catalogue.create(config(one))) == 0, "nothing is left of the one before"
    for name in (one, two):
        catalogue.delete(name)


@pytest.mark.parametrize("name", ["", "..", "../x", "A", "a" * 64, "-a", "a.b", "a/b", "ä", ".new-x"])
def test_names_that_no_collection_has(place: Place, name: str) -> None:
    """reliability.md H9"""
    with pytest.raises(InvalidQuery, match="1 to 63 characters"):
        place.catalogue().create(config(name))


@pytest.mark.parametrize("bits", [0, 1, 12, 8200])
def test_widths_that_no_collection_has(place: Place, bits: int) -> None:
    with pytest.raises(InvalidCode):
        place.catalogue().create(config(place.named("wide"), bits=bits))
