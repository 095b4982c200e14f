"""Duplicates at a write: equal to taking the items one at a time and comparing each with everything, in any race."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import places
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import Make, Place

from index import MARK, Catalogue, CollectionConfig, EmbeddedCollection, Item, ModelKey, Screen, hamming
from index import screen as screening
from index.errors import GenerationChanged, InvalidQuery

WIDTH = 16


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    opened = Catalogue(tmp_path / "collections", merge_at=7, quiet_s=0.01)
    yield opened
    opened.close()


def made(catalogue: Catalogue) -> EmbeddedCollection:
    return catalogue.create(CollectionConfig("c", 64, None, True, "2026-01-01T00:00:00Z"))


def distance(a: bytes, b: bytes) -> int:
    return int(hamming(np.frombuffer(a, np.uint8), np.frombuffer(b, np.uint8)))


class Plain:
    """The rule in plain words: a dict, and every item compared with all of it."""

    def __init__(self) -> None:
        self.stored: dict[str, Item] = {}

    def put(self, items: list[Item], screen: Screen | None, told: dict[int, str]) -> list[tuple[int, str, int]]:
        """told: what each duplicate was said to be near to, which must be one of those as near as any."""
        found = []
        for position, item in enumerate(items):
            if screen is not None:
                apart, nearest = self._near(item, screen)
                if nearest:
                    found.append((position, item.id, apart))
                    assert told[position] in nearest
                    if not screen.mark:
                        continue
                payload = dict(item.payload or {})
                if screen.mark and (nearest or MARK in payload):
                    payload.pop(MARK, None)
                    payload |= {MARK: told[position]} if nearest else {}
                    item = Item(item.id, item.code, payload)
            self.stored[item.id] = item
        return found

    def _near(self, item: Item, screen: Screen) -> tuple[int, set[str]]:
        known = self.stored.get(item.id)
        if known is not None and known.code == item.code:
            mark = (known.payload or {}).get(MARK) if screen.mark else None
            if mark is None:
                return 0, set()
            if mark in self.stored and mark != item.id:
                apart = distance(self.stored[mark].code, item.code)
                if apart <= screen.radius:
                    return apart, {mark}
        others = {id: distance(other.code, item.code) for id, other in self.stored.items() if id != item.id}
        least = min(others.values(), default=WIDTH + 1)
        return least, {id for id, apart in others.items() if apart == least <= screen.radius}


items = st.lists(
    st.builds(
        Item,
        st.sampled_from([f"i{place}" for place in range(12)]),
        st.integers(0, 255).map(lambda low: bytes([0, low])),
        st.one_of(st.none(), st.just({"a": 1}), st.just({MARK: "somebody", "b": 2})),
    ),
    max_size=10,
)
screens = st.one_of(st.none(), st.builds(Screen, st.sampled_from([0, 1, 2, 3, WIDTH]), st.booleans()))
steps = st.lists(
    st.one_of(st.tuples(items, screens), st.lists(st.sampled_from([f"i{place}" for place in range(12)]), max_size=4)),
    max_size=12,
)


@given(steps)
@settings(max_examples=80, deadline=None)
def test_any_history_equals_comparing_with_all(history: Any) -> None:
    compare_with_all(places.embedded(), history)


@places.in_milvus
@given(steps)
@settings(max_examples=10, deadline=None)
def test_any_history_in_milvus_equals_comparing_with_all(history: Any) -> None:
    compare_with_all(places.milvus(), history)


def compare_with_all(place: Place, history: Any) -> None:
    collection, plain = place.make(WIDTH, merge_at=7, quiet_s=0.01), Plain()
    try:
        for step in history:
            if isinstance(step, list):
                collection.delete(step)
                for id in step:
                    plain.stored.pop(id, None)
                continue
            written, screen = step
            found = collection.put(written, screen=screen).duplicates
            expected = plain.put(written, screen, {one.position: one.of for one in found})
            assert [(one.position, one.id, one.distance) for one in found] == expected
            held = {item.id: (item.code, item.payload) for item in collection.scan()}
            assert held == {id: (item.code, item.payload) for id, item in plain.stored.items()}
        assert collection.check().sound
    finally:
        place.done(collection)


@pytest.mark.parametrize("mark", [False, True])
def test_a_large_batch_over_a_large_collection(make: Make, mark: bool) -> None:
    """Buckets below, a delta above, duplicates of both and within the batch; against distances to everything."""
    rng = np.random.default_rng(7)
    collection = make(64, merge_at=7, quiet_s=0.01)
    count = 34_000 if collection.backend == "embedded" else 4_000
    base = rng.integers(0, 256, (count, 8)).astype(np.uint8)
    collection.put_codes([f"b{place}" for place in range(count)], base)
    if collection.backend == "embedded":
        collection.merge()
    near = base[rng.integers(0, count, 500)] ^ np.packbits(rng.random((500, 64)) < 0.03, axis=1)
    fresh = rng.integers(0, 256, (500, 8)).astype(np.uint8)
    again = fresh[rng.integers(0, 500, 500)] ^ np.packbits(rng.random((500, 64)) < 0.03, axis=1)
    codes = np.concatenate([near, fresh, again])[rng.permutation(1500)]
    found = collection.put(
        [Item(f"n{place}", code.tobytes()) for place, code in enumerate(codes)], screen=Screen(2, mark)
    )
    expected = {}
    held, ids = np.concatenate([base, codes]), [f"b{place}" for place in range(count)]
    for place, code in enumerate(codes):
        apart = hamming(held[: len(ids)], code)
        nearest = int(apart.argmin())
        if apart[nearest] <= 2:
            expected[place] = (ids[nearest], int(apart[nearest]))
            if not mark:
                continue
        held[len(ids)] = code
        ids.append(f"n{place}")
    assert {one.position: (one.of, one.distance) for one in found.duplicates} == expected
    assert len(expected) > 300
    assert found.created == len(codes) - (0 if mark else len(expected))


@pytest.mark.parametrize("seed", range(3))
def test_of_two_that_come_at_once_one_is_stored(make: Make, seed: int) -> None:
    """Row X2's kind of race: writers send near-duplicates of each other at the same moment, again and again."""
    rng = np.random.default_rng(seed)
    collection = make(64, merge_at=7, quiet_s=0.01)
    writers, rounds = 6, 15
    codes = rng.integers(0, 256, (rounds, 8)).astype(np.uint8)
    ready = threading.Barrier(writers)
    results: list[list[Any]] = [[] for _ in range(writers)]

    def write(number: int) -> None:
        for at in range(rounds):
            code = codes[at].copy()
            code[number % 8] ^= 1  # all within 2 of one another
            ready.wait()
            results[number].append(collection.put([Item(f"r{at}-w{number}", code.tobytes())], screen=Screen(2, False)))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for at in range(rounds):
        stored = [number for number in range(writers) if results[number][at].created]
        assert len(stored) == 1, at
        for number in set(range(writers)) - set(stored):
            assert [one.of for one in results[number][at].duplicates] == [f"r{at}-w{stored[0]}"]
    assert len(collection) == rounds


def test_steps_that_share_a_transaction_see_one_another(catalogue: Catalogue) -> None:
    """Writers that waited together are committed together, and then none of them is published yet."""
    collection = made(catalogue)
    collection.put([Item("old", bytes(8))])
    code = bytes([255] * 8)
    results: dict[str, Any] = {}
    live = collection._live
    commits: list[int] = []
    publish = live._commits._publish
    live._commits._publish = lambda change: (commits.append(len(change.added)), publish(change))[1]  # type: ignore[assignment]

    def write(id: str, code: bytes) -> None:
        results[id] = collection.put([Item(id, code)], screen=Screen(3, False))

    with live._commits.writing:
        threads = [
            threading.Thread(target=write, args=(f"w{place}", code[:-1] + bytes([255 - (1 << place)])))
            for place in range(4)
        ]
        threads += [threading.Thread(target=lambda: collection.delete(["old"]))]
        for thread in threads:
            thread.start()
            while len(live._commits._waiting) < threads.index(thread) + 1:
                pass
        last = threading.Thread(target=write, args=("near-old", bytes([0] * 7 + [1])))
        last.start()
        while len(live._commits._waiting) < 6:
            pass
    for thread in [*threads, last]:
        thread.join()
    assert commits == [2], "all of them in one transaction"
    assert [results[f"w{place}"].created for place in range(4)] == [1, 0, 0, 0]
    assert {results[f"w{place}"].duplicates[0].of for place in range(1, 4)} == {"w0"}
    assert results["near-old"].created == 1, "what it was near to had been deleted in the same transaction"


def test_all_that_was_noted_beforehand_goes(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    """More neighbours vanish between the look and the write than were noted; the next one is found."""
    collection = made(catalogue)
    count = screening.AHEAD + 3
    collection.put([Item(f"o{place}", bytes(7) + bytes([(1 << min(place, 7)) - 1])) for place in range(count)])
    sight = screening.Sighting

    class Late(sight):  # type: ignore[misc, valid-type]
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            monkeypatch.setattr("index.collection.Sighting", sight)
            collection.delete([f"o{place}" for place in range(count - 1)])

    monkeypatch.setattr("index.collection.Sighting", Late)
    found = collection.put([Item("new", bytes(8))], screen=Screen(8, False)).duplicates
    assert [(one.of, one.distance) for one in found] == [(f"o{count - 1}", min(count - 1, 7))]


@pytest.mark.parametrize("radius", [-1, WIDTH + 1])
def test_a_radius_that_is_none(make: Make, radius: int) -> None:
    collection = make(WIDTH)
    with pytest.raises(InvalidQuery, match="0 to 16"):
        collection.put([Item("a", bytes(2))], screen=Screen(radius, False))
    assert len(collection) == 0


def test_while_a_collection_goes_over_the_codes_that_serve_decide(make: Make) -> None:
    """Also when they change between the look and the write: then nothing is stored, and the call is made again."""
    old, new = ModelKey("m", 1, "f" * 64), ModelKey("m", 2, "e" * 64)
    collection = make(16, old)

    def put(id: str, code: bytes, other: bytes) -> Any:
        serving = collection.config.model
        assert serving is not None
        beside = {new.fingerprint: [other]} if serving == old else {old.fingerprint: [code]}
        own = code if serving == old else other
        item = Item(id, own, None, "text", id.encode())
        return collection.put([item], fingerprint=serving.fingerprint, beside=beside, screen=Screen(1, False))

    number = collection.generations.begin(new, 24).number
    assert put("a", bytes([0, 0]), bytes([0, 0, 0])).created == 1
    assert put("b", bytes([0, 7]), bytes([0, 0, 0])).created == 1, "equal by the new model only"
    assert put("c", bytes([0, 1]), bytes([255, 0, 0])).duplicates[0].of == "a"
    collection.generations.make_ready(number)
    collection.generations.flip(number)
    assert put("d", bytes([9, 9]), bytes([0, 0, 1])).duplicates[0].of == "a"
    assert put("e", bytes([0, 1]), bytes([255, 0, 0])).created == 1
    assert collection.check().sound
    if collection.backend == "milvus":
        return
    sight, collect = screening.Sighting, collection

    class Late(sight):  # type: ignore[misc, valid-type]
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            collect.generations.flip(0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("index.collection.Sighting", Late)
        with pytest.raises(GenerationChanged):
            put("f", bytes([1, 9]), bytes([3, 3, 3]))
    assert put("f", bytes([1, 9]), bytes([3, 3, 3])).created == 1
    assert collection.check().sound
