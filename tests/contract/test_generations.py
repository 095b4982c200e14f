"""A collection goes over to another model and back while it is read and written; codes of two models never mix.

(reliability.md S3, X8)
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import places
import pytest
from changing import GenerationMachine
from generating import BITS, assert_holds, by_id, code_by, fill, go_over, item_of, key_of, models_of, put, some
from hypothesis import settings
from places import Make, Place

from index import Item, PutResult, hamming
from index.errors import GenerationChanged, InputsMissing, InvalidCode, InvalidQuery, ModelMismatch, NoSuchGeneration
from index.store import read_only


class InMilvus(GenerationMachine):
    place = staticmethod(places.milvus)


TestInMilvus = places.in_milvus(InMilvus.TestCase)
TestInMilvus.settings = settings(max_examples=3, stateful_step_count=25, deadline=None)


@places.in_milvus
@pytest.mark.slow
@pytest.mark.timeout(1200)
class TestInMilvusAtLength(InMilvus.TestCase):  # type: ignore[name-defined, misc]
    settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


def test_what_has_no_input_cannot_go_over(make: Make) -> None:
    collection = make(BITS[0], key_of(0))
    put(collection, some(5), [0])
    collection.put([Item("bare", b"\0\0"), Item("with payload", b"\0\0", {"n": 1})])
    with pytest.raises(InputsMissing, match=r"2 of 7 items .* no kept input"):
        collection.generations.begin(key_of(1), 16)
    assert [one.state for one in collection.generations.all()] == ["serving"]
    collection.delete(["bare", "with payload"])
    generation = collection.generations.begin(key_of(1), 16)
    for refused in ([Item("bare", b"\0\0")], [Item("bare", b"\0\0", {"n": 1})]):
        with pytest.raises(InputsMissing, match="takes no ready-made ones"):
            collection.put(refused)
    collection.generations.drop(generation.number)
    assert collection.put([Item("bare", b"\0\0")]) == PutResult(1, 0, 0)


def test_codes_of_the_wrong_width_are_refused(make: Make) -> None:
    collection = make(BITS[0], key_of(0))
    put(collection, some(3), [0])
    number = collection.generations.begin(key_of(2), 24).number
    with pytest.raises(InvalidCode):
        collection.generations.fill(number, [1, 2], np.zeros((2, 2), np.uint8))
    items = [Item("x", b"\0\0", None, "text", b"x")]
    with pytest.raises(InvalidCode):
        collection.put(items, fingerprint=key_of(0).fingerprint, beside={key_of(2).fingerprint: [b"\0\0"]})
    with pytest.raises(ModelMismatch):
        put(collection, some(1), [0, 3])
    assert_holds(collection, by_id(some(3)), 0)


def test_codes_for_what_is_gone_or_has_one_are_left_out(make: Make, tmp_path: Path) -> None:
    collection = make(BITS[0], key_of(0))
    put(collection, some(4), [0])
    number = collection.generations.begin(key_of(1), 16).number
    with collection.generations.uncoded(number, tmp_path) as (path, inner):
        with read_only(path) as reader:
            lent = dict(reader.uncoded(inner, after=-1, limit=10))
        assert {item.id for item in lent.values()} == {"i00000", "i00001", "i00002", "i00003"}
        collection.delete(["i00001"])
        changed = item_of("i00002", b"changed")
        put(collection, [changed, *some(1, first=9)], [0, 1])
        codes = np.frombuffer(b"".join(code_by(1, item) for item in lent.values()), np.uint8).reshape(-1, 2)
        assert collection.generations.fill(number, list(lent), codes) == 2
        assert collection.generations.fill(number, list(lent), codes) == 0
    collection.generations.flip(number)
    assert_holds(collection, by_id([*some(1), changed, *some(1, first=3), *some(1, first=9)]), 1)


def test_a_cursor_does_not_outlive_its_generation(make: Make) -> None:
    """Also where the code that is searched for happens to stay the same."""
    collection = make(BITS[0], key_of(0))
    put(collection, some(20), [0])
    query = np.zeros(2, np.uint8)
    cursor = collection.search(query, radius=16, limit=5).cursor
    go_over(collection, 1)
    with pytest.raises(InvalidQuery, match="gone over to another model"):
        collection.search(query, radius=16, limit=5, cursor=cursor)


def test_a_number_is_never_used_again(make: Make, place: Place) -> None:
    """A search that still runs on a generation that was given up must not be told the name of a later one."""
    collection = make(BITS[0], key_of(0))
    first = collection.generations.begin(key_of(1), 16).number
    collection.generations.drop(first)
    collection = place.again(collection)
    assert collection.generations.begin(key_of(3), 8).number > first


@pytest.mark.parametrize("stage", ["filling", "ready", "kept"])
def test_a_restart_at_every_stage(make: Make, place: Place, stage: str) -> None:
    """Half of a generation is dropped, a whole one is there again; what served before the end serves after it."""
    collection = make(BITS[0], key_of(0), copy_from=10)
    put(collection, some(300), [0])
    number = collection.generations.begin(key_of(2), 24).number
    fill(collection, number, 2, most=200)
    if stage != "filling":
        fill(collection, number, 2)
        collection.generations.make_ready(number)
    if stage == "kept":
        collection.generations.flip(number)
    put(collection, some(20, first=500), models_of(collection))
    collection.delete(["i00007", "i00501"])
    items = {id: item for id, item in by_id(some(300) + some(20, first=500)).items() if id not in ("i00007", "i00501")}
    collection = place.again(collection)
    assert_holds(collection, items, 2 if stage == "kept" else 0)
    states = [one.state for one in collection.generations.all()]
    assert states == {"filling": ["serving"], "ready": ["serving", "ready"], "kept": ["kept", "serving"]}[stage]
    if stage == "filling":
        go_over(collection, 2)
        assert_holds(collection, items, 2)
    else:
        other = next(one for one in collection.generations.all() if one.state != "serving")
        collection.generations.flip(other.number)
        assert_holds(collection, items, 0 if stage == "kept" else 2)


@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_readers_and_writers_beside_changes_of_model(make: Make, seconds: float) -> None:
    """Every answer is that of one model, and of the one that the query was encoded by; no write is lost."""
    collection = make(BITS[0], key_of(0), merge_at=50, copy_from=100)
    held = by_id(some(400))
    put(collection, list(held.values()), [0])
    stop = threading.Event()
    failures: list[BaseException] = []
    counts = {"searched": 0, "again": 0, "written": 0}

    def guarded(work: Any) -> threading.Thread:
        def run() -> None:
            try:
                work()
            except BaseException as error:
                failures.append(error)
                stop.set()

        return threading.Thread(target=run)

    def search() -> None:
        rng = np.random.default_rng(threading.get_ident() % 1000)
        while not stop.is_set():
            key = collection.config.model
            assert key is not None
            model = int(key.name[1:])
            near = rng.bytes(BITS[model] // 8)
            try:
                page = collection.search(np.frombuffer(near, np.uint8), k=8, codes=True, fingerprint=key.fingerprint)
            except GenerationChanged:
                counts["again"] += 1
                continue
            assert page.model == key
            for hit in page.hits:
                item = item_of(hit.id, b"%d" % int(hit.id[1:6]))
                assert hit.code == code_by(model, item)
                assert hit.distance == int(hamming(np.frombuffer(near, np.uint8), np.frombuffer(hit.code, np.uint8)))
            counts["searched"] += 1

    def write() -> None:
        rng = np.random.default_rng(7)
        while not stop.is_set():
            batch = [item for n in rng.integers(0, 600, 10) for item in some(1, first=int(n))]
            while True:
                try:
                    put(collection, batch, models_of(collection))
                    break
                except GenerationChanged:
                    counts["again"] += 1
            held.update(by_id(batch))
            doomed = [f"i{n:05d}" for n in rng.integers(0, 600, 8)]
            collection.delete(doomed)
            for id in doomed:
                held.pop(id, None)
            counts["written"] += 1

    threads = [guarded(search), guarded(search), guarded(write)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    flips, waits = 0, []
    rng = np.random.default_rng(8)
    enough = False
    while (time.monotonic() < deadline or not enough) and not stop.is_set():
        serving = models_of(collection)[0]
        model = int(rng.choice([one for one in range(len(BITS)) if one != serving]))
        number = collection.generations.begin(key_of(model), BITS[model]).number
        fill(collection, number, model)
        waits.append(collection.generations.flip(number))
        flips += 1
        if flips % 3 == 0:
            waits.append(collection.generations.flip(collection.generations.beside("kept").number))
        if flips % 4 == 0:
            collection.generations.drop(collection.generations.beside("kept").number)
        enough = flips >= 3 and min(counts["searched"], counts["written"]) > 10
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures, failures
    print(flips, counts, f"writers waited {max(waits) * 1000:.1f} ms at most")  # noqa: T201
    assert_holds(collection, held, models_of(collection)[0])


def test_of_two_that_flip_or_give_up_at_once_one_is_told(make: Make) -> None:
    """Rollbacks that come together: each is done or refused, and what is refused has done nothing."""
    collection = make(BITS[0], key_of(0))
    put(collection, some(200), [0])
    number = go_over(collection, 1).number
    results: list[Any] = []

    def run(call: Any) -> None:
        try:
            results.append(call())
        except Exception as error:
            results.append(error)

    for calls in ([lambda: collection.generations.flip(0)] * 4, [lambda: collection.generations.drop(number)] * 4):
        results.clear()
        threads = [threading.Thread(target=run, args=(call,)) for call in calls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        done = [one for one in results if one is not False and not isinstance(one, NoSuchGeneration)]
        assert len(done) == 1, results
        assert not isinstance(done[0], Exception), results
        assert_holds(collection, by_id(some(200)), 0)


def test_a_flip_to_what_was_given_up_meanwhile_is_refused(make: Make) -> None:
    collection = make(BITS[0], key_of(0))
    put(collection, some(20), [0])
    number = go_over(collection, 1).number
    with collection.generations.trial(0) as trial:
        pass
    collection.generations.drop(0)
    with pytest.raises(NoSuchGeneration):
        collection.generations.flip(0, trial.successor)
    with pytest.raises(NoSuchGeneration), collection.generations.trial(0):
        pass
    assert_holds(collection, by_id(some(20)), 1)
    assert [one.number for one in collection.generations.all()] == [number]
