"""Two services over one Milvus: what one of them changes the other sees, and what both do at once is done by one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import places
import pytest
from generating import BITS, assert_holds, by_id, fill, item_of, key_of, models_of, put, some

from index import Item, ModelKey, PutResult, Request
from index.errors import (
    CollectionExists,
    GenerationChanged,
    KeyReused,
    ModelMismatch,
    NoSuchGeneration,
    UnknownCollection,
    UnknownItem,
)
from index.milvus import Connection, MilvusCatalogue
from index.milvus.collection import FRESH_S
from index.milvus.names import new_generation

pytestmark = places.in_milvus


@pytest.fixture
def two() -> Iterator[tuple[MilvusCatalogue, MilvusCatalogue]]:
    """Catalogues that share nothing but Milvus; of Lite, which one process alone may use, the connection too."""
    place = places.milvus()
    connection = place.connection if place.connection.lite else Connection(place.uri)
    yield place.opened("one"), MilvusCatalogue(connection, owner="other")
    if connection is not place.connection:
        connection.close()


@pytest.fixture
def name(two: Any) -> Iterator[str]:
    """A name for a collection, which is deleted afterwards."""
    found = places.milvus().named(f"-{time.monotonic_ns()}")
    yield found
    if found in two[0]._layouts.names():
        two[0].delete(found)


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """What each says or raises, all begun at the same moment."""
    ready = threading.Barrier(len(calls))
    results: list[Any] = [None] * len(calls)

    def run(place: int, call: Callable[[], Any]) -> None:
        ready.wait()
        try:
            results[place] = call()
        except Exception as error:
            results[place] = error

    threads = [threading.Thread(target=run, args=one) for one in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_what_one_writes_the_other_finds(two: Any, name: str) -> None:
    one, other = two
    assert name not in other.all()
    mine = one.create(places.config(name))
    theirs = other.get(name)
    assert mine.put([Item("a", b"\0\0", {"x": 1}, "text", b"long"), Item("b", b"\0\1")]) == PutResult(2, 0, 0)
    assert theirs.get("a").input == b"long"
    assert [hit.id for hit in theirs.search(np.zeros(2, np.uint8), k=5).hits] == ["a", "b"]
    assert theirs.put([Item("b", b"\0\1"), Item("c", b"\0\3")]) == PutResult(1, 0, 1)
    assert (len(mine), len(theirs)) == (3, 3)
    assert theirs.delete(["a"]) == 1
    assert mine.delete(["a"]) == 0
    with pytest.raises(UnknownItem):
        mine.get("a")
    theirs.index_field("x")
    assert mine.fields == ["x"]
    deadline = time.monotonic() + 5
    while name not in other.all():
        assert time.monotonic() < deadline
    assert mine.check().faults == theirs.check().faults == ()


def test_notes_are_seen_within_seconds(two: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("index.milvus.notes._FRESH_S", 0.2)
    mine, theirs = two[0].create(places.config(name)), two[1].get(name)
    assert theirs.noted("n") is None
    mine.note("n", {"x": 1})
    assert mine.noted("n") == {"x": 1}
    time.sleep(0.25)
    assert theirs.noted("n") == {"x": 1}


def test_what_one_deletes_is_gone_for_the_other(two: Any, name: str) -> None:
    one, other = two
    one.create(places.config(name)).put([Item("a", b"\0\0", None, "text", b"x")])
    theirs = other.get(name)
    one.delete(name)
    for ask in (
        lambda: theirs.search(np.zeros(2, np.uint8), k=1),
        lambda: theirs.put([Item("b", b"\0\0", None, "text", b"y")]),
        lambda: theirs.delete(["a"]),
        lambda: theirs.get("a"),
        lambda: list(theirs.scan()),
        theirs.check,
        lambda: len(theirs),
    ):
        with pytest.raises(UnknownCollection):
            ask()
    assert name not in one.all()
    time.sleep(1.05)
    assert name not in other.all()


def test_another_collection_of_the_same_name_takes_its_place(two: Any, name: str) -> None:
    """Also for whoever holds the one before, with its inputs and notes."""
    one, other = two
    before = one.create(places.config(name))
    before.put([Item("a", b"\0\0", None, "text", b"before")])
    before.note("n", {"x": 1})
    theirs = other.get(name)
    assert theirs.noted("n") == {"x": 1}
    one.delete(name)
    one.create(places.config(name, ModelKey("m", 1, "a" * 64), 24))
    time.sleep(FRESH_S + 0.05)
    assert len(theirs) == 0
    assert theirs.config == places.config(name, ModelKey("m", 1, "a" * 64), 24)
    assert theirs.noted("n") is None
    theirs.put([Item("a", b"\0\0\0", None, "text", b"after")], fingerprint="a" * 64)
    assert one.get(name).get("a").input == b"after"
    assert one.get(name).check().faults == ()


def test_of_two_that_create_one_name_at_once_one_is_told(two: Any, name: str) -> None:
    one, other = two
    for _ in range(5):
        results = at_once(*(lambda at=at: at.create(places.config(name)) for at in (one, other, one, other)))
        refused = [result for result in results if isinstance(result, CollectionExists)]
        assert len(refused) == 3, results
        for result in results:
            if result not in refused:
                result.put([Item("a", b"\0\0", None, "text", b"x")])
        assert one.get(name).get("a") == other.get(name).get("a")
        stem = new_generation(name, 0).rsplit("_", 2)[0]
        held = [found for found in places.milvus().connection.call("list_collections") if found.startswith(f"{stem}_")]
        assert len(held) == 2, held  # the items and the inputs of the one that was made
        other.delete(name)


def test_of_two_that_delete_at_once_each_is_answered(two: Any, name: str) -> None:
    one, other = two
    one.create(places.config(name))
    other.get(name)
    results = at_once(lambda: one.delete(name), lambda: other.delete(name))
    assert all(result is None or isinstance(result, UnknownCollection) for result in results), results
    for at in two:
        with pytest.raises(UnknownCollection):
            at.get(name)


def test_a_request_is_answered_once_for_both(two: Any, name: str) -> None:
    mine, theirs = two[0].create(places.config(name)), two[1].get(name)
    request = Request("key", b"digest", lambda result: f"created {result.created}")
    assert mine.put([Item("a", b"\0\0")], request=request) == PutResult(1, 0, 0)
    mine.delete(["a"])
    assert theirs.put([Item("a", b"\0\0")], request=request) == PutResult(0, 0, 0, "created 1")
    assert theirs.answered("key", b"digest") == "created 1"
    assert theirs.answered("another", b"digest") is None
    assert len(theirs) == 0
    with pytest.raises(KeyReused):
        theirs.put([Item("a", b"\0\0")], request=Request("key", b"other", lambda result: ""))
    with pytest.raises(KeyReused):
        theirs.answered("key", b"other")


def test_a_change_of_model_by_the_other(two: Any, name: str) -> None:
    """At once for writes, within the stated second for searches; nothing is written for one model only."""
    mine, theirs = two[0].create(places.config(name, key_of(0))), two[1].get(name)
    put(mine, some(30), [0])
    query = np.zeros(2, np.uint8)
    number = mine.generations.begin(key_of(2), BITS[2]).number
    with pytest.raises(GenerationChanged):
        put(theirs, some(1, first=50), [0])
    assert models_of(theirs) == [0, 2]
    put(theirs, some(5, first=30), [0, 2])
    assert theirs.delete(["i00001"]) == 1
    assert fill(mine, number, 2) == 29
    assert theirs.search(query, k=3, fingerprint=key_of(0).fingerprint).model == key_of(0)
    items = {id: item for id, item in by_id(some(35)).items() if id != "i00001"}
    mine.generations.make_ready(number)
    assert [one.state for one in theirs.generations.all()] == ["serving", "ready"]
    theirs.search(query, k=3, fingerprint=key_of(0).fingerprint)
    mine.generations.flip(number)
    # What served a second ago still answers, whole; and after it the other one does.
    page = theirs.search(query, k=3, fingerprint=key_of(0).fingerprint)
    assert (page.model, len(page.hits)) == (key_of(0), 3)
    put(theirs, some(1, first=60), [2, 0])
    items |= by_id(some(1, first=60))
    time.sleep(FRESH_S + 0.05)
    with pytest.raises(GenerationChanged):
        theirs.search(query, k=3, fingerprint=key_of(0).fingerprint)
    for collection in (mine, theirs):
        assert_holds(collection, items, 2)
    mine.generations.drop(0)
    put(theirs, some(1, first=70), [2])
    assert_holds(theirs, items | by_id(some(1, first=70)), 2)


def test_a_search_in_what_is_given_up_is_made_anew(two: Any, name: str) -> None:
    """The codes that served a second ago are gone: whoever asks by number of bits alone is answered by those that
    serve, whoever asks by a model is told."""
    mine, theirs = two[0].create(places.config(name, key_of(0))), two[1].get(name)
    put(mine, some(10), [0])
    query = np.zeros(2, np.uint8)
    for model in (1, 0):
        theirs.look()
        number = mine.generations.begin(key_of(model), BITS[model]).number
        fill(mine, number, model)
        mine.generations.flip(number)
        mine.generations.drop(mine.generations.beside("kept").number)
        if model:
            assert theirs.search(query, k=3).model == key_of(1)
            assert len(theirs) == 10
        else:
            with pytest.raises(GenerationChanged):
                theirs.search(query, k=3, fingerprint=key_of(1).fingerprint)


def test_of_two_that_begin_at_once_one_at_most_goes_on(two: Any, name: str) -> None:
    mine, theirs = two[0].create(places.config(name, key_of(0))), two[1].get(name)
    put(mine, some(5), [0])
    for _ in range(3):
        results = at_once(
            lambda: mine.generations.begin(key_of(1), BITS[1]), lambda: theirs.generations.begin(key_of(2), BITS[2])
        )
        begun = [result for result in results if not isinstance(result, NoSuchGeneration)]
        assert len(begun) <= 1, results
        states = mine.generations.all()
        assert len(states) == 1 + len(begun)
        for generation in begun:
            assert states[1].model == generation.model
            mine.generations.drop(generation.number)


def test_what_a_service_was_filling_when_it_ended_is_given_up_by_itself_alone(two: Any, name: str) -> None:
    mine = two[0].create(places.config(name, key_of(0)))
    put(mine, some(5), [0])
    mine.generations.begin(key_of(1), BITS[1])
    other = places.milvus().opened("other").get(name)
    assert [one.state for one in other.generations.all()] == ["serving", "filling"]
    again = places.milvus().opened("one").get(name)
    assert [one.state for one in again.generations.all()] == ["serving"]
    assert [one.state for one in other.generations.all()] == ["serving"]


@pytest.mark.parametrize("seconds", [2, pytest.param(60, marks=[pytest.mark.slow, pytest.mark.timeout(300)])])
def test_both_write_the_same_items_while_one_changes_the_model(two: Any, name: str, seconds: float) -> None:
    """Two writers of the same ids: what is there in the end is whole, in every generation, and written by one."""
    mine, theirs = two[0].create(places.config(name, key_of(0))), two[1].get(name)
    stop = threading.Event()
    failures: list[BaseException] = []
    written = [0, 0]

    def write(place: int, collection: Any) -> None:
        rng = np.random.default_rng(place)
        try:
            while not stop.is_set():
                numbers = rng.integers(0, 60, 8)
                batch = [item_of(f"i{n:05d}", b"%d by %d" % (n, place), {"n": place}) for n in numbers]
                while not stop.is_set():
                    try:
                        put(collection, batch, models_of(collection))
                        break
                    except (GenerationChanged, ModelMismatch):
                        continue
                collection.delete([f"i{n:05d}" for n in rng.integers(0, 60, 3)])
                written[place] += 1
        except BaseException as error:
            failures.append(error)
            stop.set()

    threads = [threading.Thread(target=write, args=one) for one in enumerate((mine, theirs))]
    for thread in threads:
        thread.start()
    deadline, flips = time.monotonic() + seconds, 0
    while (time.monotonic() < deadline or not flips or min(written) <= 3) and not stop.is_set():
        model = 1 if models_of(mine)[0] == 0 else 0
        number = mine.generations.begin(key_of(model), BITS[model]).number
        for _ in range(20):
            fill(mine, number, model)
            try:
                mine.generations.flip(number)
                break
            except NoSuchGeneration:  # two that write one item at once may leave it different
                continue
        flips += 1
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures, failures
    held = {item.id: item for item in mine.scan()}
    assert all(item.input.endswith(b" by %d" % item.payload["n"]) for item in held.values())  # type: ignore[union-attr, index]
    assert {id: item.input for id, item in held.items()} == {item.id: item.input for item in theirs.scan()}
    mine.generations.drop(mine.generations.beside("kept", "filling").number)
    assert_holds(theirs, held, models_of(mine)[0])
